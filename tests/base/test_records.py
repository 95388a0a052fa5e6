"""A damaged record is kept under another name, and stops nothing."""

import json

import pytest

from amsdff_jax import UserError
from amsdff_jax.base.records import read_log, set_aside
from amsdff_jax.evaluation.report import draw_learning_curves, read_metrics, write_metrics
from amsdff_jax.training.recorder import RunLog

WHOLE = [{"kind": kind, "step": step, "loss": 1.5, "accuracy": 0.5, "mape": None}
         for step in (2, 4, 6) for kind in ("train", "validation")]  # fmt: skip
LINES = [json.dumps(record).encode() for record in WHOLE]


@pytest.mark.parametrize(
    "line",
    [b"null", b"[]", b"3", b"\xff", b"{}", b'{"kind": "train", "loss": 1, "accuracy": 1}', b"[" * 100_000,
     b'{"kind": "train", "step": null, "loss": 1, "accuracy": 1}', b'{"kind": "train", "step": 3}', b"",
     b'{"kind": "train", "step": 3, "loss": "x", "accuracy": 1}',
     b'{"kind": "a", "step": 3, "b": 1' + b"0" * 400 + b"}"],
)  # fmt: skip
def test_a_run_with_a_damaged_log_goes_on_with_the_records_that_are_whole(line, tmp_path, caplog):
    file = tmp_path / "metrics.jsonl"
    damaged = b"\n".join([*LINES[:3], line, *LINES[3:], b""])
    file.write_bytes(damaged)
    with RunLog(tmp_path, 4) as log:
        log.write("train", 5, {"loss": 1.0, "accuracy": 0.25})
    records = [json.loads(line) for line in file.read_text().splitlines()]
    assert records == [*WHOLE[:4], {"kind": "train", "step": 5, "loss": 1.0, "accuracy": 0.25}]
    assert (tmp_path / "metrics.jsonl.damaged").read_bytes() == damaged
    assert len([line for line in caplog.messages if "metrics.jsonl.damaged" in line]) == 1
    draw_learning_curves(tmp_path / "report", file, 4, "macro_f1")
    assert len(list(tmp_path.glob("*.damaged*"))) == 1


def test_an_evaluation_that_is_made_again_is_there_once(tmp_path):
    with RunLog(tmp_path, 0) as log:
        for step in (3, 6):
            log.write("train", step, {"loss": 1.0, "accuracy": 0.5})
            log.write("validation", step, {"loss": 1.0, "accuracy": 0.5})
    with RunLog(tmp_path, 6, evaluated_step=3) as log:  # the run was killed before it was saved with the second
        log.write("validation", 6, {"loss": 1.0, "accuracy": 0.5})
    kinds = [(record["kind"], record["step"]) for record in read_log(tmp_path / "metrics.jsonl")]
    assert kinds == [("train", 3), ("validation", 3), ("train", 6), ("validation", 6)]


def test_a_line_that_was_cut_short_is_no_damage(tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(b"\n".join([*LINES, LINES[0][:20]]))
    assert read_log(tmp_path / "metrics.jsonl") == WHOLE
    assert not list(tmp_path.glob("*.damaged*"))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff{}", b"[" * 100_000])
def test_damaged_metrics_of_a_report_are_written_anew(content, tmp_path):
    for number in range(2):
        (tmp_path / "metrics.json").write_bytes(content)
        write_metrics(tmp_path, {"test": {"accuracy": 0.5}})
        assert list(read_metrics(tmp_path)) == ["test"]
        assert (tmp_path / f"metrics.json.damaged{number or ''}").read_bytes() == content


def test_a_record_that_cannot_be_set_aside_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"record: is wrong; it cannot be renamed \(Not a directory\): move it away"):
        set_aside(tmp_path / "file" / "record", UserError("record: is wrong"))
