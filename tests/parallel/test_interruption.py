"""A run that is interrupted in any way ends as if nothing had happened, bit for bit."""

import contextlib
import os
import random
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.parallel.conftest import outcome
from tests.processes import Disturbance, run_script

pytestmark = [pytest.mark.slow, pytest.mark.interruption]

# `KILLS=30 make test-interruption` for more than continuous integration has time for.
KILLS = int(os.environ.get("KILLS", "6"))

# Rough seconds that a phase takes in the run of these tests, so that kills come in the middle of it.
SECONDS = {"training": 0.1, "evaluating": 0.2, "saving": 0.4}


@pytest.fixture(scope="module")
def reference(run_arguments, tmp_path_factory):
    """What the run comes to when nothing interrupts it."""
    folder = tmp_path_factory.mktemp("reference")
    code, output = run_script(folder / "output.txt", "train.py", *run_arguments, f"--workdir={folder}/run")
    assert code == 0, output
    return outcome(folder / "run")


def test_killed_at_any_moment(run_arguments, reference, tmp_path):
    choice = random.Random(7)

    def kill_and_resume(number: int) -> None:
        phase = list(SECONDS)[number % len(SECONDS)]
        delay = choice.uniform(0, SECONDS[phase])
        kill = Disturbance(phase, choice.randint(1, 3), delay, (signal.SIGKILL,))
        arguments = ("train.py", *run_arguments, f"--workdir={tmp_path}/{number}")
        code, output = run_script(tmp_path / f"killed-{number}.txt", *arguments, disturbance=kill)
        assert code == -signal.SIGKILL, output
        code, output = run_script(tmp_path / f"resumed-{number}.txt", *arguments)
        assert code == 0, output
        assert outcome(tmp_path / str(number)) == reference, (kill, output)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(kill_and_resume, range(KILLS)))


def test_stopped_in_every_phase(run_arguments, reference, tmp_path):
    stops = [
        (Disturbance("starting", signals=(signal.SIGTERM,)), 75, "stopped before there was anything to save"),
        (Disturbance("training", 3, signals=(signal.SIGINT,)), 75, "run the same command again to resume"),
        (Disturbance("evaluating", signals=(signal.SIGTERM,)), 75, "run the same command again to resume"),
        (Disturbance("saving", 2, signals=(signal.SIGTERM,)), 75, "run the same command again to resume"),
        (Disturbance("training", 2, signals=(signal.SIGTERM, signal.SIGTERM)), -signal.SIGTERM, ""),
        (Disturbance("reporting", 2, signals=(signal.SIGINT,)), 0, "test"),  # too late to stop for
    ]
    for number, (disturbance, expected, message) in enumerate(stops):
        code, output = run_script(
            tmp_path / f"{number}.txt", "train.py", *run_arguments, f"--workdir={tmp_path}/run", disturbance=disturbance
        )
        assert code == expected, (disturbance, output)
        assert message in output
        assert "Traceback" not in output
    assert outcome(tmp_path / "run") == reference


def test_stopped_between_two_reports(run_arguments, tmp_path):
    # The first split's report is written, the second's evaluation is asked to stop.
    stop = Disturbance("reporting", 1, signals=(signal.SIGTERM,))
    arguments = ("train.py", *run_arguments, "--config.train.epochs=1", f"--workdir={tmp_path}/run")
    code, output = run_script(tmp_path / "1.txt", *arguments, disturbance=stop)
    assert code == 75, output
    assert "run the same command again to write it" in output
    assert not (tmp_path / "run" / "report" / "metrics.json").exists()
    code, output = run_script(tmp_path / "2.txt", *arguments)
    assert code == 0, output
    assert (tmp_path / "run" / "report" / "metrics.json").exists()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 8 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize(
    ("phase", "entry", "then"), [("saving", 4, "resuming at step"), ("training", 4, "resuming at step"),
                                 ("reporting", 1, "finished at step")],
)  # fmt: skip
def test_full_disk_stops_the_run_and_loses_nothing(phase, entry, then, run_arguments, reference, small_disk, tmp_path):
    arguments = ("train.py", *run_arguments, f"--workdir={small_disk}/run")
    full = Disturbance(phase, entry, fill=str(small_disk / "ballast"))
    code, output = run_script(tmp_path / "full.txt", *arguments, disturbance=full)
    assert code == 2, output
    assert "No space left on device" in output.splitlines()[-1]
    assert "run the same command again to" in output.splitlines()[-1]
    assert "Traceback" not in output
    with contextlib.suppress(FileNotFoundError):
        (small_disk / "ballast").unlink()
    code, output = run_script(tmp_path / "again.txt", *arguments)
    assert code == 0, output
    assert then in output
    assert outcome(small_disk / "run") == reference
