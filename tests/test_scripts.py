"""The scripts as a user runs them, in processes of their own."""

import json
import os
import re
import signal
from pathlib import Path

import pytest

from tests.conftest import make_texts, write_csv
from tests.processes import Disturbance, run_script

ROOT = Path(__file__).parent.parent
FILES = f"--config={ROOT}/configs/files.py"


@pytest.fixture
def run(tmp_path):
    """A function that runs a script in the test's folder and gives its exit code and output."""

    def run_here(script: str, *arguments: str, **options) -> tuple[int, str]:
        return run_script(tmp_path / "output.txt", script, *arguments, cwd=tmp_path, **options)

    return run_here


@pytest.fixture
def training_arguments(tiny_encoder, tmp_path):
    train = write_csv(tmp_path / "train.csv", *make_texts(90, 0))
    test = write_csv(tmp_path / "test.csv", *make_texts(31, 1))
    return [
        f"--config={ROOT}/configs/files.py",
        f"--config.data.train_file={train}", f"--config.data.test_file={test}",
        f"--config.model.encoder={tiny_encoder}", "--config.model.name=linear",
        "--config.data.max_length=24", "--config.data.num_buckets=1", "--config.train.batch_size=9",
        "--config.train.epochs=4", "--config.train.head_learning_rate=3e-3",
        "--config.train.encoder_learning_rate=1e-3",
    ]  # fmt: skip


@pytest.mark.slow
def test_train_interrupt_resume_evaluate(training_arguments, run, tmp_path):
    interruption = Disturbance("training", entry=3, signals=(signal.SIGTERM,))
    code, output = run("train.py", *training_arguments, disturbance=interruption)
    assert code == 75, output
    assert "run the same command again to resume" in output

    code, output = run("train.py", *training_arguments)
    assert code == 0, output
    assert "resuming at step" in output
    report = tmp_path / "runs" / "files" / "report"
    metrics = json.loads((report / "metrics.json").read_text())
    assert set(metrics) == {"validation", "test"}
    assert metrics["test"]["examples"] == 31
    assert metrics["test"]["num_parameters"] > 5_000
    names = {"metrics.json", "confusion_matrix.csv", "confusion_matrix.png", "learning_curves.png", "reliability.png",
             "per_class.csv", "predictions.csv", "errors.csv"}  # fmt: skip
    assert {file.name for file in report.iterdir()} == names
    assert list((report.parent / "tensorboard").iterdir())
    card = report.parent / "model" / "README.md"
    assert f"| test | 31 | {metrics['test']['accuracy']:.4f} |" in card.read_text()

    code, output = run("train.py", *training_arguments)
    assert code == 0
    assert "is finished already" in output

    # As evaluate.py leaves it where training was killed before its own report was written.
    (report / "metrics.json").write_text(json.dumps({"test": metrics["test"]}))
    code, output = run("train.py", *training_arguments)
    assert code == 0, output
    assert set(json.loads((report / "metrics.json").read_text())) == {"validation", "test"}

    code, output = run("train.py", *training_arguments, "--config.train.epochs=9")
    assert code == 2
    assert "train.epochs was 4, is 9" in output

    more = write_csv(tmp_path / "more.csv", *make_texts(23, 5))
    (report / "more.csv" / "reliability.png").mkdir(parents=True)  # so that this picture cannot be written
    code, output = run("evaluate.py", "--workdir=runs/files", f"--file={more}")
    assert code == 0, output
    assert output.count("reliability.png: this picture cannot be drawn") == 1
    assert json.loads((report / "more.csv" / "metrics.json").read_text())["more.csv"]["examples"] == 23
    assert "| more.csv | 23 |" in card.read_text()
    code, output = run("evaluate.py", "--workdir=runs/files")
    assert code == 0, output
    assert json.loads((report / "metrics.json").read_text())["test"]["accuracy"] == metrics["test"]["accuracy"]

    code, output = run("convert.py", "to-torch", "runs/files", "run.pt", "--layout=trainer")
    assert code == 0, output
    arguments = ["--workdir=runs/longer", "--init_from=run.pt", "--config.train.epochs=5"]
    code, output = run("train.py", *training_arguments, *arguments)
    assert code == 0, output
    assert re.search(r"run\.pt: \d+ tensors loaded, beginning after step 36", output)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config=configs/agnew.py"], "--config: no file 'configs/agnew.py'; did you mean configs/agnews.py?"),
        (["--config=configs/files.py"], "data.train_file: not given"),
        (["--config=configs/files.py", "--config.train.epcohs=3"], "did you mean config.train.epochs?"),
        (["--config=configs/files.py", "--config.train.epochs=three"], "config.train.epochs=three"),
        (["--config=configs/files.py", "--config.train.epochs=-1"], "train.epochs: expected at least 1, got -1"),
        (["--config=configs/files.py", "--config.data.train_file=nowhere.csv"], "nowhere.csv: cannot be read"),
        (["--config=configs/quickstart.py", "--config.model.encoder=nowhere-at-all"], "hub id 'nowhere-at-all'"),
        (["--config=configs/quickstart.py", "--workdri=x"], "--workdri: no such flag; did you mean workdir?"),
        (["--config=pyproject.toml"], "--config: expected a file of Python with get_config"),
        (["--flagfile=nowhere.txt"], "--flagfile: expected a text file with a flag a line ([Errno 2]"),
        (["--flagfile=docs/images/explain.png"], "--flagfile: expected a text file with a flag a line ('utf-8' codec"),
        ([], "--config: not given"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(arguments, message, tmp_path):
    assert_one_line(*run_script(tmp_path / "output.txt", "train.py", *arguments, cwd=ROOT), message)


@pytest.mark.slow
def test_a_workdir_that_cannot_be_written_is_one_line(training_arguments, run):
    assert_one_line(*run("train.py", *training_arguments, "--workdir=/proc/run"), "/proc/run: cannot be written")


def assert_one_line(code, output, message):
    assert code == 2, output
    errors = [line for line in output.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert "Traceback" not in output
    assert output.splitlines()[-1] == errors[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("train.py", ["--config.train.epochs=3"], "--config: not given; expected settings"),
        ("train.py", [FILES, FILES], "--config: given twice"),
        ("train.py", [FILES, "--config.train.epochs="], "--config.train.epochs=: expected a whole number"),
        ("train.py", ["--config.train.epochs=three", FILES], "--config.train.epochs=three: expected a whole number"),
        ("train.py", [FILES, "--config.train.decay_all=maybe"], "decay_all=maybe: expected true or false"),
        ("train.py", [FILES, "--config.model.kernel_sizes=(1,"], "such as --config.model.kernel_sizes='(1, 3, 5)'"),
        ("train.py", [FILES, "--config.train.epochs[0]=3"], "no such field; did you mean config.train.epochs?"),
        ("train.py", [FILES, "--epochs=3"], "--epochs: no such flag; did you mean config.train.epochs?"),
        ("train.py", [FILES, "--config.train=3"], "--config.train=3: expected --config.train.FIELD=VALUE"),
        ("train.py", ["--config={tmp}/broken.py"], "broken.py, line 3: KeyError: 'nowhere'"),
        ("train.py", ["--config={tmp}/empty.py"], "empty.py: AttributeError: module 'empty' has no attribute"),
        ("train.py", ["--config={tmp}/nothing.py"], "expected get_config to return a ConfigDict, got NoneType"),
        ("train.py", [FILES, "--config.loss.focal=0", "--config.loss.focal_gamma=3"],
         "--config.loss.focal_gamma=3.0: decides nothing, because loss.focal=0"),
        ("run_experiments.py", ["--config.mode=x"], "mode: expected one of 'finetuned', 'frozen', got 'x'"),
        ("predict.py", ["--model=x", "-1 point for this"], "comes after --, as in: -- '-1 point for this'"),
        ("predict.py", ["--model=x", "--nice"], "a text that begins with - comes after --"),
        ("explain.py", ["--model=", "a"], "--model: given without a value"),
        ("explain.py", ["--model=x", "--output=", "a"], "--output: given without a value; expected --output=VALUE"),
        ("serve.py", ["--model=x", "--token_file="], "--token_file: given without a value"),
        ("run_experiments.py", ["--datasets="], "--datasets: given without a value"),
        ("train.py", [FILES, "--init_from=a.pt", "--config.train.linear_probe=True"],
         "--config.train.linear_probe=True: decides nothing, because train.init_from"),
        ("calibrate.py", ["--model=x"], "--file: not given (A CSV"),
        ("predict.py", ["--model=x", "--text_column=y", "a"], "--text_column: decides nothing without --file"),
        ("benchmark.py", ["--epoch_texts=3"], "--epoch_texts: decides nothing without --config"),
        ("run_experiments.py", [f"--config={ROOT}/configs/ablations.py", "--config.epochs=3"],
         "--config.epochs: decides nothing in mode=finetuned"),
        ("evaluate.py", [], "expected --workdir=FOLDER of a run or --model=FOLDER"),
        ("evaluate.py", ["--model=x"], "--file: not given"),
        ("evaluate.py", ["--workdir=x", "--file=y", "--split=train"], "--split=train: decides nothing beside --file=y"),
        ("evaluate.py", ["--workdir=x", "--output=y"], "--output: decides nothing without --model"),
        ("convert.py", ["verify", "a", "b", "-1"], "comes after --, as in: -- -1"),
        ("measure_scaling.py", [FILES, "--devices=0"], "--devices: expected numbers such as 1,2"),
        ("benchmark.py", ["--rounds=0"], "--rounds=0: expected a positive integer"),
        ("benchmark.py", ["--shapes=32x0"], "--shapes: expected batches such as 32x64,16x256, got 32x0"),
        ("benchmark.py", ["--rivals=torch"], "--rivals: expected one of 'torch-eager', 'torch-sdpa'"),
        ("benchmark.py", ["--output=."], ".: cannot be written (it is a folder); choose another file with --output"),
    ],
)  # fmt: skip
def test_a_wrong_argument_is_one_line_that_says_what_is_right(script, arguments, message, run, tmp_path):
    (tmp_path / "broken.py").write_text("def get_config():\n    settings = {}\n    return settings['nowhere']\n")
    (tmp_path / "empty.py").write_text("")
    (tmp_path / "nothing.py").write_text("def get_config():\n    pass\n")
    code, output = run(script, *(argument.replace("{tmp}", str(tmp_path)) for argument in arguments))
    assert code == 2, output
    (error,) = output.splitlines()
    assert error.startswith("error: ")
    assert message in error


@pytest.mark.slow
def test_only_settings_need_ml_collections(run):
    message = "--config: needs ml_collections, which is not installed: pip install ml-collections"
    assert_one_line(*run("train.py", FILES, hidden=["ml_collections"]), message)
    code, output = run("benchmark.py", "--rivals=none", hidden=["ml_collections"])
    assert code == 2 and "--rivals: expected one of" in output


@pytest.mark.slow
def test_help_says_what_the_script_is_for(run):
    for script in ("train.py", "convert.py"):
        code, output = run(script, "--help")
        assert code == 0
        assert "python scripts/" + script in output
        assert ("  --config: " if script == "train.py" else "  --layout: ") in output


@pytest.mark.slow
def test_evaluating_nothing_is_an_error(run, tmp_path):
    code, output = run("evaluate.py", f"--workdir={tmp_path}")
    assert code == 2
    assert output.splitlines()[-1].startswith(f"error: {tmp_path}/config.json: cannot be read")


def test_environment_of_the_tests_has_no_network():
    assert os.environ["HF_HUB_OFFLINE"] == "1"
