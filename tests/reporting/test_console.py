"""What is printed holds names as they are, on terminals of any encoding."""

import ast
import io
import logging
import sys

import pytest

from amsdff_jax.cli.command_line import _OneLine
from amsdff_jax.evaluation.calibration import Calibration
from amsdff_jax.evaluation.reporter import print_metrics
from amsdff_jax.inspection.inspect import inspect_data
from amsdff_jax.prediction.calibrate_model import print_calibration
from amsdff_jax.reporting.console import accept_every_character
from tests.conftest import make_texts, write_csv
from tests.processes import ROOT, run_script
from tests.test_architecture import FILES

NAME = "[/v2] [red]x[/] :smile: \x1b[31m\u202e文"  # as markup, an error, a color and an emoji
SHOWN = r"[/v2] [red]x[/] :smile: \x1b[31m\u202e"


def print_report():
    print_metrics(
        {NAME: {"examples": 3, "accuracy": 0.5, "macro_f1": 0.5, "loss": 1.0, "cross_entropy": 1.0, "ece": 0.1}},
        ROOT / NAME,
    )


def print_calibrated():
    numbers = {"ece": 0.1, "log_loss": 1.0, "brier": 0.5}
    calibration = Calibration(("a", "b"), 1.5, coverage=0.9, texts=3, file=NAME, before=numbers, after=numbers)
    print_calibration(calibration, "model")


@pytest.fixture
def print_inspected(tiny_config, tmp_path):
    file = write_csv(tmp_path / "[red] :smile:.csv", *make_texts(30, 1))
    file.write_text(file.read_text().replace("low", NAME), encoding="utf-8")
    config = tiny_config.replace(data__train_file=str(file), data__validation_file="", data__test_file="")
    return lambda: inspect_data(config, NAME, tmp_path / "page.html")


@pytest.fixture(params=["report", "calibration", "inspection"])
def show(request):
    return {"report": print_report, "calibration": print_calibrated}.get(request.param) or request.getfixturevalue(
        "print_inspected"
    )


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1", "cp1252"])
def test_names_are_printed_as_they_are_in_any_encoding(show, encoding, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    accept_every_character()
    show()
    stream.flush()
    printed = stream.buffer.getvalue()
    assert b"\x1b" not in printed
    text = printed.decode(encoding)
    assert SHOWN + ("文" if encoding == "utf-8" else r"\u6587") in text
    assert ("━" in text) == (encoding == "utf-8") and "\u202e" not in text


def test_a_script_ends_well_on_a_terminal_that_is_not_utf_8(tiny_encoder, tmp_path):
    file = write_csv(tmp_path / "[文].csv", *make_texts(30, 1))
    file.write_text(file.read_text().replace("low", "文[/b]\x1b[31m"), encoding="utf-8")
    arguments = [f"--config={ROOT / 'configs' / 'files.py'}", f"--config.data.train_file={file}",
                 f"--config.model.encoder={tiny_encoder}", f"--output={tmp_path / '[文].html'}"]  # fmt: skip
    code, output = run_script(tmp_path / "log", "inspect_data.py", *arguments, PYTHONIOENCODING="ascii")
    assert code == 0, output
    assert r"\u6587[/b]\x1b[31m" in output and r"[\u6587].html" in output
    code, output = run_script(
        tmp_path / "log", "inspect_data.py", *arguments, f"--config.data.validation_file={tmp_path}/文[/b]\n\x1b.csv",
        PYTHONIOENCODING="ascii",
    )  # fmt: skip
    assert code == 2
    assert r"\u6587[/b]\n\x1b.csv" in output and len(output.splitlines()) == 1


def test_names_in_the_log_are_one_line_without_controls():
    record = logging.makeLogRecord({"msg": "class %s", "args": ("a\nb\x1b[2J\u202e",)})
    assert _OneLine("%(message)s").format(record) == r"class a\nb\x1b[2J\u202e"


def test_all_consoles_are_made_in_one_place():
    for name, file in FILES.items():
        calls = [node for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
        made = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "Console"]
        assert bool(made) == (name == "reporting/console.py"), name
