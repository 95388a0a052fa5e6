"""An output that was begun is completed, or left alone; one process at a time writes it."""

import json
import os
import resource
import shutil
import sys

import pytest

from amsdff_jax import UserError
from amsdff_jax.config import DataConfig
from amsdff_jax.evaluation.calibration import Calibration
from amsdff_jax.evaluation.calibration_file import write_calibration
from amsdff_jax.prediction.inputs import Record
from amsdff_jax.prediction.lines import Layout
from amsdff_jax.prediction.outputs import Output
from amsdff_jax.prediction.progress import Origin
from amsdff_jax.prediction.run import predict
from tests.conftest import make_texts
from tests.prediction.rows import BODY, NAMES, read_lines, write_file


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv"])
def test_resume_completes_an_output_that_was_cut_anywhere(folder, name, tmp_path):
    file, output = write_file(tmp_path / "d.csv"), tmp_path / name
    # Of 40 texts 16 go through the model together, then 24.
    options = {
        "file": file, "data": BODY, "keep_columns": ["body"], "output": str(output), "batch_size": 16
    }  # fmt: skip
    predict(str(folder), **options)
    whole, progress = output.read_bytes(), tmp_path / f"{name}.progress"
    told = progress.read_bytes()
    cuts = (0, 3, whole.index(b"\n") + 1, len(whole) // 2, len(whole) - 1, len(whole))
    for length in cuts if name == "out.jsonl" else cuts[1:4:2]:
        output.write_bytes(whole[:length])
        progress.write_bytes(told[: -9 if length == 0 else None])
        predict(str(folder), **options, resume=True)
        assert output.read_bytes() == whole, length
        assert progress.read_bytes() == told
    with pytest.raises(UserError, match=r"is there already; continue it with --resume, or delete it"):
        predict(str(folder), **options)
    assert output.read_bytes() == whole
    output.unlink()
    assert not predict(str(folder), **options, interrupted=lambda: True)  # after the first chunk
    assert whole.startswith(output.read_bytes())
    assert predict(str(folder), **options, resume=True)
    assert output.read_bytes() == whole
    with open(file, "a", encoding="utf-8") as stream:
        stream.write("40,w1 w2\n")
    predict(str(folder), **options, resume=True)
    assert output.read_bytes().startswith(whole)
    assert output.read_bytes()[len(whole) :].count(b"\n") == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("weights", "was begun with another model; resume with the same or choose another file"),
        ("tokenizer", "was begun with another model;"),
        ("calibration", "was begun with another calibration;"),
        ("first row", "rows 1 to 16 of the input are not those that it was begun with"),
        ("last row", "rows 1 to 40 of the input are not those that it was begun with"),
        ("kept column", "rows 1 to 40 of the input are not those that it was begun with"),
        ("fewer rows", "holds 40 rows, but the input only 39"),
        ({"data": DataConfig(text_column="id")}, "was begun with --text_column=body; resume with the same"),
        ({"top_k": 2, "keep_columns": []}, "was begun with --top_k=1 and --keep_columns=id;"),
        ({"compute_dtype": "bfloat16"}, "was begun with --compute_dtype=float32;"),
        ({"format": "csv"}, "was begun with --format=jsonl;"),
    ],
)
def test_resume_goes_on_with_nothing_but_what_the_output_was_begun_with(folder, change, message, tmp_path):
    model, file, output = shutil.copytree(folder, tmp_path / "model"), tmp_path / "d.jsonl", tmp_path / "out.jsonl"
    options = {"data": BODY, "keep_columns": ["id"], "output": str(output), "batch_size": 16}
    write_file(file)
    predict(str(model), file=str(file), **options)
    whole = output.read_bytes()[: -1 if change == "first row" else None]
    output.write_bytes(whole)
    (model / "README.md").write_text("other words about the same model")
    rows = [f"{row}\n" for row in file.read_text(encoding="utf-8").split("\n")[:-1]]
    if change == "weights":
        weights = bytearray((model / "model.safetensors").read_bytes())
        weights[-2] ^= 1
        (model / "model.safetensors").write_bytes(weights)
    elif change == "tokenizer":
        definition = json.loads((model / "tokenizer.json").read_text())
        definition["normalizer"]["lowercase"] = False
        (model / "tokenizer.json").write_text(json.dumps(definition))
    elif change == "calibration":
        write_calibration(model, Calibration(NAMES, 0.5))
    elif change == "first row":
        file.write_text("".join([rows[0].replace("w", "W"), *rows[1:]]), encoding="utf-8")
    elif change == "last row":
        file.write_text("".join([*rows[:-1], rows[-1].replace("w4", "w5")]), encoding="utf-8")
    elif change == "kept column":
        file.write_text("".join([rows[0].replace('"id": 0', '"id": 99'), *rows[1:]]), encoding="utf-8")
    elif change == "fewer rows":
        file.write_text("".join(rows[:-1]), encoding="utf-8")
    else:
        options |= change
    with pytest.raises(UserError, match=message) as caught:
        predict(str(model), file=str(file), **options, resume=True)
    assert "\n" not in str(caught.value)
    assert output.read_bytes() == whole


@pytest.mark.parametrize(
    ("file", "output"), [("parts", "parts/out.jsonl"), ("parts/*.csv", "parts/z.csv"), ("parts/a.csv", "parts/a.csv")]
)
def test_an_output_among_what_is_read_is_refused_before_it_is_written(folder, file, output, tmp_path):
    (tmp_path / "parts").mkdir()
    write_file(tmp_path / "parts" / "a.csv")
    before = (tmp_path / "parts" / "a.csv").read_bytes()
    for resume in (False, True):
        with pytest.raises(UserError, match=r"is one of the files of --file=.*, or would be; name another file"):
            predict(str(folder), file=str(tmp_path / file), output=str(tmp_path / output), resume=resume)
    assert [each.name for each in (tmp_path / "parts").iterdir()] == ["a.csv"]
    assert (tmp_path / "parts" / "a.csv").read_bytes() == before


def test_resume_of_the_standard_input(folder, tmp_path, monkeypatch):
    lines, output = tmp_path / "lines", tmp_path / "out.jsonl"
    texts = make_texts(50, 5)[0]
    options = {"output": str(output), "batch_size": 16}

    def give(texts):
        lines.write_text("".join(f"{text}\n" for text in texts))
        monkeypatch.setattr(sys, "stdin", lines.open())

    give(texts[:30])
    predict(str(folder), **options)
    give(texts)
    predict(str(folder), **options, resume=True)
    assert [line["row"] for line in read_lines(output)] == list(range(1, 51))
    whole = output.read_bytes()
    give(["w1", *texts])
    with pytest.raises(UserError, match="rows 1 to 50 of the input are not those that it was begun with"):
        predict(str(folder), **options, resume=True)
    assert output.read_bytes() == whole


@pytest.mark.parametrize(
    ("content", "progress", "message"),
    [
        (b"my notes\n", None, "out.jsonl.progress: is missing, and nothing else says with which model"),
        (b'{"row": 1, "label": "low"}\n', b"{}\n", "out.jsonl.progress: does not say with which model and input"),
        (b'{"row": 1, "label": "low"}\n', b"[" * 9999, "out.jsonl.progress: does not say with which model and input"),
        (b"my notes\n", "PIPE", r"out.jsonl.progress: cannot be read \(it is no regular file\)"),
        (b"my notes\n", "TOLD", "was changed after it had been written"),
        (b'{"row": 1, "label": "low", "probability": 1.0, "truncated": false}\n' * 2, "TOLD", "was changed after"),
    ],
)
def test_resume_leaves_other_files_alone(folder, content, progress, message, tmp_path):
    output, beside = tmp_path / "out.jsonl", tmp_path / "out.jsonl.progress"
    predict(str(folder), ["w1"], output=str(output))
    output.write_bytes(content)
    if progress in (None, "PIPE"):
        beside.unlink()
        if progress:
            os.mkfifo(beside)
    elif progress != "TOLD":
        beside.write_bytes(progress)
    with pytest.raises(UserError, match=message) as caught:
        predict(str(folder), ["w1"], output=str(output), resume=True)
    assert "\n" not in str(caught.value)
    assert output.read_bytes() == content


def test_one_process_at_a_time_writes_an_output(folder, tmp_path):
    output = tmp_path / "out.jsonl"
    layout, origin = Layout("jsonl"), Origin("", "", {})
    with Output(str(output), layout, origin) as lines:
        lines.write([(Record(1, None, {}, "broken"), None)])
        content = output.read_bytes()
        for resume in (False, True):
            with pytest.raises(UserError, match="is being written by another process; wait for it, or choose another"):
                predict(str(folder), ["w1"], output=str(output), resume=resume)
        assert output.read_bytes() == content
    with Output(str(output), layout, origin, resume=True) as lines:
        assert lines.done == 1


def test_a_full_disk_is_one_line_and_nothing_is_lost(folder, tmp_path):
    file, output = write_file(tmp_path / "d.csv"), tmp_path / "out.jsonl"
    options = {"file": file, "data": BODY, "output": str(output), "batch_size": 16}
    predict(str(folder), **options)
    whole = output.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for room in (10, len(whole) - 10):
        output.unlink()
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
        try:
            with pytest.raises(
                UserError, match=r"out.jsonl: cannot be written \(File too large\); make room and continue"
            ):
                predict(str(folder), **options)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        predict(str(folder), **options, resume=True)
        assert output.read_bytes() == whole
