"""A run small enough to be made dozens of times."""

import json
from pathlib import Path

import pytest

from amsdff_jax.parallel import data_parallel
from tests.conftest import make_texts, write_csv
from tests.processes import ROOT


@pytest.fixture
def split_small_arrays(monkeypatch):
    """Lets fsdp split all matrices of the tests' models."""
    monkeypatch.setattr(data_parallel, "SMALLEST_SPLIT", 500)


@pytest.fixture(scope="session")
def run_arguments(tiny_encoder, tmp_path_factory):
    """Flags of a run of 2 epochs of 10 steps, with a checkpoint every 2 steps and an evaluation every 5."""
    folder = tmp_path_factory.mktemp("data")
    train = write_csv(folder / "train.csv", *make_texts(75, 0))
    validation = write_csv(folder / "validation.csv", *make_texts(29, 1))
    test = write_csv(folder / "test.csv", *make_texts(31, 2))
    return [
        f"--config={ROOT}/configs/files.py", f"--config.data.train_file={train}",
        f"--config.data.validation_file={validation}", f"--config.data.test_file={test}",
        f"--config.model.encoder={tiny_encoder}", "--config.model.num_attention_heads=4",
        "--config.model.kernel_sizes=(1,3)", "--config.model.num_experts=2", "--config.data.max_length=24",
        "--config.data.num_buckets=1", "--config.train.batch_size=8", "--config.train.eval_batch_size=10",
        "--config.train.epochs=2", "--config.train.checkpoint_every=2", "--config.train.evaluate_every=5",
        "--config.train.head_learning_rate=3e-3", "--config.train.encoder_learning_rate=1e-3",
        "--config.train.log_every=1",
    ]  # fmt: skip


def records(workdir: Path) -> list[dict]:
    """The log of a run, without what a clock decides."""
    lines = (workdir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [
        {name: value for name, value in json.loads(line).items() if name != "examples_per_second"} for line in lines
    ]


def newest_checkpoint(workdir: Path) -> dict:
    """What the newest checkpoint of a run says of itself, and the name of its file."""
    newest = max((workdir / "checkpoints" / "latest").glob("*.json"), key=lambda file: int(file.stem))
    return json.loads(newest.read_text(encoding="utf-8")) | {"file": newest.stem}


def outcome(workdir: Path) -> dict:
    """All that a finished run has come to: weights, training state, best metric, history, log, results."""
    saved = newest_checkpoint(workdir)
    del saved["progress"]["seconds"], saved["progress_checksum"]  # the sum is over the seconds too
    for record in saved["progress"]["history"]:
        record["validation"].pop("examples_per_second")
    metrics = json.loads((workdir / "report" / "metrics.json").read_text(encoding="utf-8"))
    for split in metrics.values():
        del split["examples_per_second"], split["device"]
    return {
        "weights": (workdir / "model" / "model.safetensors").read_bytes(),
        "checkpoint": saved, "log": records(workdir), "metrics": metrics,
    }  # fmt: skip
