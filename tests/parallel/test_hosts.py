"""Several processes on loopback give the numbers of one, and end together when one of them dies."""

import json
import signal
from pathlib import Path

import numpy as np
import pytest

from tests.parallel.conftest import newest_checkpoint, outcome, records
from tests.processes import ROOT, Disturbance, Script, free_port, run_script

pytestmark = [pytest.mark.slow, pytest.mark.interruption]

# The idle biases before BatchNorm stay where they are, see `reproducibility.hold_idle_biases`.
HELD = r"--config.train.learning_rate_table=(('\\.scale_convs\\.\\d+\\.[01]\\.bias$', 0.0), ('', 1e-3))"


def devices(number: int) -> dict[str, str]:
    return {"JAX_NUM_CPU_DEVICES": str(number)}


def start_together(folder: Path, *arguments: str, disturbances=(None, None), script="train.py") -> list[Script]:
    """As many processes as there are `disturbances`, which share a run on eight devices; each has a file of counts."""
    folder.mkdir()
    address, processes = f"--coordinator_address=127.0.0.1:{free_port()}", len(disturbances)
    return [
        Script(folder / f"{number}.txt", script, *arguments, address, f"--num_processes={processes}",
               f"--process_id={number}", "--heartbeat_timeout=10", "--connection_timeout=60", disturbance=disturbance,
               COUNTS=str(folder / f"{number}.counts"), **devices(8 // processes))
        for number, disturbance in enumerate(disturbances)
    ]  # fmt: skip


def logged(workdir: Path, name: str) -> np.ndarray:
    return np.array([record[name] for record in records(workdir) if record["kind"] == "train"])


@pytest.mark.parametrize(("mode", "processes"), [("sharded", 2), ("fsdp", 2), ("pmap", 2), ("sharded", 4)])
def test_processes_give_the_numbers_of_one_and_share_the_texts(mode, processes, run_arguments, tmp_path):
    others = [argument for argument in run_arguments if "learning_rate=" not in argument]  # which the table decides
    arguments = [*others, "--config.train.epochs=1", HELD, f"--config.parallel.mode={mode}",
                 "--config.train.data_dependent_init=False", "--config.data.num_buckets=2"]  # fmt: skip
    code, output = run_script(tmp_path / "one.txt", "train.py", *arguments, f"--workdir={tmp_path}/one", **devices(8))
    assert code == 0, output
    scripts = start_together(
        tmp_path / "outputs", *arguments, f"--workdir={tmp_path}/two",
        disturbances=[None] * processes, script=f"{ROOT}/tests/parallel/counted_train.py",
    )  # fmt: skip
    for script in scripts:
        assert script.wait() == 0, script.output
    for number in range(processes):
        lines = (tmp_path / "outputs" / f"{number}.counts").read_text().splitlines()
        shares = [75 * (number + 1) // processes - 75 * number // processes]
        shares += [29 * (number + 1) // processes - 29 * number // processes]
        made, held = zip(*map(json.loads, lines), strict=True)
        assert list(made[:2]) == shares
        assert max(made) <= shares[0]
        assert max(made[2:]) <= max(16 // processes, -(-31 // processes))  # rows of a batch, and a share of the test
        assert max(held) <= shares[0]
    for name in ("loss", "gradient_norm"):
        one, two = logged(tmp_path / "one", name), logged(tmp_path / "two", name)
        assert len(one) == 10
        np.testing.assert_allclose(two, one, rtol=1e-5)
    fingerprints = [newest_checkpoint(tmp_path / run)["progress"]["data_fingerprint"] for run in ("one", "two")]
    assert fingerprints[0] == fingerprints[1]
    metrics = [json.loads((tmp_path / run / "report" / "metrics.json").read_text()) for run in ("one", "two")]
    assert metrics[1]["test"]["examples"] == 31
    for split in ("validation", "test"):
        for name in ("accuracy", "macro_f1", "examples", "per_class"):
            assert metrics[1][split][name] == metrics[0][split][name]


def test_one_process_dies_and_both_resume(run_arguments, tmp_path):
    short = [*run_arguments, "--config.train.epochs=1"]
    arguments, whole = [*short, f"--workdir={tmp_path}/run"], [*short, f"--workdir={tmp_path}/whole"]
    for script in start_together(tmp_path / "uninterrupted", *whole):
        assert script.wait() == 0, script.output
    for dying in (0, 1):
        kill = Disturbance("training", 3, signals=(signal.SIGKILL,))
        disturbances = [kill if number == dying else None for number in range(2)]
        scripts = start_together(tmp_path / f"killed-{dying}", *arguments, disturbances=disturbances)
        assert scripts[dying].wait() == -signal.SIGKILL
        survivor = scripts[1 - dying]
        assert survivor.wait(60) not in (0, 75), survivor.output
        assert "error: process" in survivor.output or "terminating process" in survivor.output.lower(), survivor.output
    for script in start_together(tmp_path / "resumed", *arguments):
        assert script.wait() == 0, script.output
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")


def test_a_signal_to_one_process_stops_both(run_arguments, tmp_path):
    arguments = [*run_arguments, f"--workdir={tmp_path}/run"]
    stop = Disturbance("training", 2, signals=(signal.SIGTERM,))
    for script in start_together(tmp_path / "stopped", *arguments, disturbances=(None, stop)):
        assert script.wait() == 75, script.output
    steps = {file.stem for file in (tmp_path / "run" / "checkpoints" / "latest").glob("*.json")}
    assert steps and steps != {"20"}


def test_tasks_of_slurm_find_each_other_without_a_flag(run_arguments, tmp_path):
    arguments = [*run_arguments, "--config.train.epochs=1", f"--workdir={tmp_path}/run"]
    job = {"SLURM_JOB_ID": str(free_port()), "SLURM_STEP_NODELIST": "localhost", "SLURM_STEP_NUM_TASKS": "2",
           "SLURM_NTASKS": "2", "JAX_NUM_CPU_DEVICES": "2"}  # fmt: skip
    scripts = [
        Script(tmp_path / f"{task}.txt", "train.py", *arguments, **job, SLURM_PROCID=str(task), SLURM_LOCALID=str(task))
        for task in range(2)
    ]
    for script in scripts:
        assert script.wait() == 0, script.output
    metrics = json.loads((tmp_path / "run" / "report" / "metrics.json").read_text())
    assert metrics["test"]["device"].startswith("2 x")  # JAX gives each task of SLURM one device


def test_processes_must_see_the_same(run_arguments, tmp_path):
    folder = tmp_path / "outputs"
    folder.mkdir()
    address = [f"--coordinator_address=127.0.0.1:{free_port()}", "--num_processes=2", f"--workdir={tmp_path}/run"]
    scripts = [
        Script(folder / f"{number}.txt", "train.py", *run_arguments, *address, f"--process_id={number}",
               f"--config.seed={number}", **devices(4))
        for number in range(2)
    ]  # fmt: skip
    for script in scripts:
        assert script.wait() == 2, script.output
        assert "process 1 has other settings than process 0" in script.output
        assert "Traceback" not in script.output
    assert not (tmp_path / "run").exists()


def test_a_process_that_finds_no_other_says_so(run_arguments, tmp_path):
    flags = [f"--coordinator_address=127.0.0.1:{free_port()}", "--num_processes=2", "--connection_timeout=3"]
    for number, message in enumerate(("the other processes of this run did not come within 3 s", "nothing answers at")):
        code, output = run_script(
            tmp_path / f"{number}.txt", "train.py", *run_arguments, *flags, f"--process_id={number}"
        )
        assert code == 2, output
        assert message in output.splitlines()[-1]
        assert "Traceback" not in output and "stack trace" not in output
    code, output = run_script(tmp_path / "2.txt", "train.py", *run_arguments, flags[0])
    assert code == 2
    assert "expected all three or none" in output.splitlines()[-1]
