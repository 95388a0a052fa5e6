"""Trackers get the numbers of `metrics.jsonl`, one run whatever its sessions, and their failures end no training."""

import json
import struct
import subprocess
import sys
import textwrap

import pytest

from amsdff_jax import UserError
from amsdff_jax.training import tracking
from amsdff_jax.training.train_run import make_trainer, train_run


@pytest.fixture
def run(tiny_config, tiny_data, tmp_path):
    """A function that trains 9 of 13 steps in a session that is stopped, then the rest in another, to the report."""

    def run(trackers: str):
        # Batches that the eight devices of the tests divide.
        config = tiny_config.replace(
            model__name="linear",
            train__trackers=trackers,
            train__batch_size=8,
            train__epochs=1,
            train__evaluate_every=5,
        )
        assert not make_trainer(config, tiny_data, tmp_path / "run").train(max_steps=9)[1:]
        assert train_run(config, tmp_path / "run")
        return tmp_path / "run"

    return run


def logged(workdir) -> list[dict]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").open()]


def expected(workdir, name: str) -> list[tuple[int, float]]:
    """Step and value of a metric such as `validation/accuracy`, as `metrics.jsonl` has them."""
    kind, metric = name.split("/")
    return [(record["step"], record[metric]) for record in logged(workdir) if record["kind"] == kind]


def accuracy_of_the_report(workdir) -> float:
    return json.loads((workdir / "report" / "metrics.json").read_text())["test"]["accuracy"]


def read_events(folder):
    """The events of all files in the order of their names."""
    from tensorboardX.proto.event_pb2 import Event

    for file in sorted(folder.iterdir()):
        data = file.read_bytes()
        while data:
            (length,) = struct.unpack("Q", data[:8])
            yield Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]


def test_tensorboard_has_all_numbers_once(run):
    workdir = run("tensorboard")
    found, starts = {}, []
    for event in read_events(workdir / "tensorboard"):
        if event.HasField("session_log"):
            starts.append(event.step)
            found = {name: [at for at in values if at[0] < event.step] for name, values in found.items()}
        for value in event.summary.value:
            found.setdefault(value.tag, []).append((event.step, value.simple_value))
    assert starts == [1, 10, 14]
    for name in ("train/loss", "validation/cross_entropy"):
        assert found[name] == [(step, pytest.approx(value)) for step, value in expected(workdir, name)]
    assert [step for step, _ in found["validation/accuracy"]] == [5, 10, 13]
    assert found["test/accuracy"] == [(13, pytest.approx(accuracy_of_the_report(workdir)))]


def test_mlflow_has_one_run_with_settings_and_all_numbers(run, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "mlruns").as_uri())
    workdir = run("mlflow")
    client = mlflow.MlflowClient()
    (found,) = client.search_runs([each.experiment_id for each in client.search_experiments()])
    assert found.info.status == "FINISHED" and found.info.run_name == "run" and mlflow.active_run() is None
    assert found.data.params["train.epochs"] == "1" and found.data.params["data.train_file"] == "train.csv"
    for name in ("train/loss", "validation/cross_entropy"):
        history = [(each.step, each.value) for each in client.get_metric_history(found.info.run_id, name)]
        assert history == expected(workdir, name)
    assert found.data.metrics["test/accuracy"] == accuracy_of_the_report(workdir)
    assert not (workdir / "tensorboard").exists()


def test_weights_and_biases_offline_has_one_run(run, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    workdir = run("wandb")
    run_id = json.loads((workdir / tracking.FILE).read_text())["wandb"]
    sessions = sorted((workdir / "wandb").glob("offline-run-*"))
    assert len(sessions) == 3 and all(each.name.endswith(f"-{run_id}") for each in sessions)
    first, second, report = (b"".join(file.read_bytes() for file in each.glob("*.wandb")) for each in sessions)
    assert b"train.head_learning_rate" in first
    assert b"validation/cross_entropy" in first and b"validation/cross_entropy" in second
    assert b"test/accuracy" in report and b"test/accuracy" not in first + second


def test_trackio_has_one_run(run, tmp_path, monkeypatch):
    # Read by a process of its own, for trackio takes its folder from the environment when it is imported.
    pytest.importorskip("trackio")
    storage = pytest.importorskip("trackio.sqlite_storage")
    monkeypatch.setattr(storage, "TRACKIO_DIR", tmp_path / "trackio")
    workdir = run("trackio")
    run_id = json.loads((workdir / tracking.FILE).read_text())["trackio"]
    assert storage.SQLiteStorage.get_runs(tracking.PROJECT) == [run_id]
    logs = storage.SQLiteStorage.get_logs(tracking.PROJECT, run_id)
    found = [(each["step"], each["validation/accuracy"]) for each in logs if "validation/accuracy" in each]
    assert found == expected(workdir, "validation/accuracy")


class Broken:
    """A tracker whose server goes away."""

    def __init__(self, run):
        self.run_id, self.left = "7", 2

    def log(self, step, values):
        self.left -= 1
        if self.left < 0:
            raise ConnectionError("no\nnetwork")

    def finish(self, failed):
        raise ConnectionError("still no network")


def test_a_tracker_that_fails_is_told_of_once_and_ends_no_run(run, monkeypatch, caplog):
    monkeypatch.setitem(tracking._TRACKERS, "mlflow", ("json", "mlflow", Broken))
    workdir = run("mlflow,tensorboard")
    told = [record.getMessage() for record in caplog.records if record.getMessage().startswith("mlflow: failed")]
    start = "mlflow: failed (ConnectionError: no network); nothing is tracked there from step"
    assert [line.startswith(start) for line in told if "still" not in line] == [True, True]  # once in each session
    assert [record["step"] for record in logged(workdir) if record["kind"] == "validation"] == [5, 10, 13]
    assert any(event.step == 13 for event in read_events(workdir / "tensorboard"))


def test_a_tracker_that_cannot_start_is_an_error_before_the_first_step_alone(tiny_trainer, monkeypatch, caplog):
    class Away(Broken):
        def __init__(self, run):
            raise ConnectionError("refused")

    trainer = tiny_trainer()
    trainer.train(max_steps=2)
    monkeypatch.setitem(tracking._TRACKERS, "mlflow", ("json", "mlflow", Away))
    resumed = tiny_trainer(train__trackers="mlflow", train__epochs=3)
    resumed.train(max_steps=3)
    assert int(resumed.state.step) == 3 and "mlflow: failed (ConnectionError: refused); nothing is" in caplog.text
    new = tiny_trainer(trainer.workdir.with_name("new"), train__trackers="mlflow")
    with pytest.raises(UserError, match=r"train\.trackers: mlflow: failed \(ConnectionError: refused\); leave it out"):
        new.train()


def test_a_tracker_that_is_not_installed_is_one_line(tiny_trainer, monkeypatch, tmp_path):
    monkeypatch.setitem(tracking._TRACKERS, "wandb", ("no_such_module", "wandb", Broken))
    with pytest.raises(UserError, match=r"^train\.trackers: wandb is not installed; pip install wandb"):
        tiny_trainer(train__trackers="wandb")
    assert not (tmp_path / "run" / "config.json").exists()


def test_no_tracker_is_imported_unless_it_is_asked_for():
    modules = [module for module, *_ in tracking._TRACKERS.values()]
    code = f"import sys, amsdff_jax.training.trainer; print({{*{modules}}} & {{*sys.modules}})"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


def test_the_first_step_waits_for_nothing_that_only_the_report_needs(tmp_path):
    code = f"""
        import sys
        from pathlib import Path
        import amsdff_jax.training.train_run
        from amsdff_jax.training.tracking import TensorBoard, TrackedRun

        TensorBoard(TrackedRun(Path({str(tmp_path)!r}), {{}}, 0, "")).finish(failed=False)
        print({{"torch", "sklearn", "scipy", "matplotlib", "pandas"}} & {{*sys.modules}})
    """
    assert subprocess.check_output([sys.executable, "-c", textwrap.dedent(code)], text=True).strip() == "set()"
