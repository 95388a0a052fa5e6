"""Files and pipes of texts to files and pipes of predictions."""

import contextlib
import csv
import datetime
import gzip
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pyarrow
import pyarrow.parquet
import pytest

from amsdff_jax import Classifier, EnhancedAMSDFF, UserError
from amsdff_jax.config import DataConfig
from amsdff_jax.data.tokenization import load_tokenizer
from amsdff_jax.evaluation.calibration import Calibration
from amsdff_jax.evaluation.calibration_file import read_calibration, write_calibration
from amsdff_jax.models.model_folder import SavedModel, read_model_folder, save_model
from amsdff_jax.prediction.calibrate_model import calibrate_model, print_calibration
from amsdff_jax.prediction.evaluate import evaluate_model
from amsdff_jax.prediction.inputs import Record
from amsdff_jax.prediction.lines import Layout
from amsdff_jax.prediction.outputs import Output
from amsdff_jax.prediction.progress import Origin
from amsdff_jax.prediction.run import predict
from tests.conftest import TINY_HEAD, make_texts, write_csv
from tests.processes import ROOT, run_script

NAMES = ("low", "high", "other")
TEXTS = [*make_texts(37, 3)[0], "", 'say "w1"\nw2, w3', "😀 \u2028 w4"]
BODY = DataConfig(text_column="body")


@pytest.fixture(scope="module")
def folder(tiny_encoder, tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    model = EnhancedAMSDFF.from_pretrained(str(tiny_encoder), 3, mask_padding=False, seed=3, **TINY_HEAD)
    save_model(root / "model", SavedModel(model, load_tokenizer(tiny_encoder), NAMES, 24))
    return root / "model"


@pytest.fixture(scope="module")
def predictions(folder):
    return Classifier.from_pretrained(folder, batch_size=16, devices=jax.devices()[:1]).predict(TEXTS, top_k=2)


def read_lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


def write_file(path):
    if "*" in path.name:  # in two files
        whole = Path(write_file(path.with_name("whole.csv"))).read_bytes()
        header, body = whole.split(b"\r\n", 1)
        first, rest = body.split(b"\r\n", 1)
        for name, part in (("part2.csv", rest), ("part1.csv", first)):
            path.with_name(name).write_bytes(header + b"\r\n" + part)
        return str(path)
    values = [{"id": number, "body": text} for number, text in enumerate(TEXTS)]
    if "parquet" in path.name:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(values), path)
    else:
        with (gzip.open if path.suffix == ".gz" else open)(path, "wt", encoding="utf-8", newline="") as stream:
            if "jsonl" in path.name:
                stream.writelines(json.dumps(value, ensure_ascii=False) + "\n" for value in values)
            else:
                writer = csv.DictWriter(stream, values[0], delimiter="\t" if "tsv" in path.name else ",")
                writer.writeheader()
                writer.writerows(values)
    return str(path)


def test_single_texts_and_pairs_are_not_mixed_up(folder, tmp_path):
    file = write_csv(tmp_path / "d.csv", ["w1", "w2"], ["low", "high"])
    for pairs, column, message in (
        (True, "", "--text_pair_column: not given, but the model was trained on pairs"),
        (False, "label", "--text_pair_column=label: the model was trained on single texts"),
    ):
        model = shutil.copytree(folder, tmp_path / f"pairs-{pairs}")
        config = json.loads((model / "config.json").read_text())
        config["amsdff"]["reads_pairs"] = pairs
        (model / "config.json").write_text(json.dumps(config))
        with pytest.raises(UserError, match=message):
            predict(
                str(model), file=str(file), data=DataConfig(text_pair_column=column), output=str(tmp_path / "out.jsonl")
            )
        with pytest.raises(UserError, match=message):
            calibrate_model(str(model), str(file), DataConfig(text_pair_column=column))
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize("name", ["d.csv", "d.tsv", "d.jsonl", "d.parquet", "d.jsonl.gz", "part*.csv"])
def test_a_file_of_any_kind(folder, predictions, name, tmp_path):
    output = tmp_path / "out.jsonl"
    assert predict(
        str(folder),
        file=write_file(tmp_path / name),
        data=BODY,
        keep_columns=["id"],
        output=str(output),
        top_k=2,
    )
    lines = read_lines(output)
    assert [line["row"] for line in lines] == list(range(1, len(TEXTS) + 1))
    assert [int(line["input"]["id"]) for line in lines] == list(range(len(TEXTS)))
    for line, prediction in zip(lines, predictions, strict=True):
        assert line["label"] == prediction.label
        assert line["probability"] == pytest.approx(prediction.probability, abs=1e-5)
        assert [best["label"] for best in line["top_k"]] == [best.label for best in prediction.top_k]
        assert line["truncated"] == prediction.truncated
        assert set(line) == {"row", "label", "probability", "top_k", "truncated", "input"}


def test_csv_has_the_same_with_fixed_columns(folder, predictions, tmp_path):
    output = tmp_path / "out.csv"
    file = write_file(tmp_path / "d.csv")
    predict(str(folder), file=file, data=BODY, keep_columns=["body"], output=str(output), top_k=2)
    with output.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    header = "row,label,probability,label_2,probability_2,truncated,error,input.body"
    assert list(rows[0]) == header.split(",")
    assert [row["input.body"] for row in rows] == TEXTS
    assert [(row["label"], row["label_2"]) for row in rows] == [
        tuple(best.label for best in prediction.top_k) for prediction in predictions
    ]


@pytest.fixture
def trained(folder, tmp_path):
    """The model as if it had been trained on files of several columns, which its card tells."""
    model = shutil.copytree(folder, tmp_path / "trained")

    def record(**data):
        facts = {"training": {"settings": {"data": {"text_column": "title,body", "label_column": "kind"} | data}}}
        (model / "card.json").write_text(json.dumps(facts))
        return str(model)

    return record


def test_a_model_knows_the_columns_it_was_trained_on(trained, tmp_path):
    rows = [
        ("title", "body", "kind"),
        ("w1", "w2 w3", "low"),
        ("w4", "", "high"),
        ("", "w5", "low"),
        *[("a", "b", "low")] * 4,
    ]
    with (tmp_path / "d.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    file, output = str(tmp_path / "d.csv"), tmp_path / "out.jsonl"
    model = trained()
    predict(model, file=file, output=str(output))
    expected = Classifier.from_pretrained(model).predict(["w1 w2 w3", "w4", "w5"])
    for line, prediction in zip(read_lines(output), expected, strict=False):
        assert (line["label"], line["probability"]) == (
            prediction.label,
            pytest.approx(prediction.probability, abs=1e-5),
        )
    predict(model, file=file, data=DataConfig(text_column="body"), output=str(tmp_path / "body.jsonl"))
    assert read_lines(tmp_path / "body.jsonl")[0]["probability"] != read_lines(output)[0]["probability"]
    metrics = evaluate_model(model, file, output=tmp_path / "report")
    assert [each["support"] for each in metrics["per_class"]] == [6, 1, 0]
    with pytest.raises(UserError, match=r"d\.csv: line 1: no column 'headline', only 'title', 'body', 'kind'"):
        predict(trained(text_column="headline,body"), file=file)
    with pytest.raises(UserError, match="line 1: no column 'text'"):  # a card of other data says nothing of files
        predict(trained(source="tfds"), file=file)
    assert calibrate_model(trained(), file).texts == 7


def test_columns_of_training_are_not_those_of_texts_given_one_by_one(trained, tmp_path):
    model = trained(text_pair_column="second")
    output = tmp_path / "out.jsonl"
    assert predict(model, ["w1"], output=str(output))
    assert json.loads((tmp_path / "out.jsonl.progress").read_text().split("\n")[0])["flags"]["text_column"] == "text"


BROKEN = b'{"text": "w1"}\n{"text": \n{"text": 3}\n{"body": "w2"}\n{"text": "w\xff"}\n\n{"text": "\\ud800 w3"}\n'


def test_a_bad_row_is_a_record_and_the_others_follow(folder, tmp_path):
    (tmp_path / "d.jsonl").write_bytes(BROKEN)
    predict(str(folder), file=str(tmp_path / "d.jsonl"), output=str(tmp_path / "out.jsonl"), keep_columns=["text"])
    lines = read_lines(tmp_path / "out.jsonl")
    assert [line["row"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert ["label" in line for line in lines] == [True, False, False, False, False, True]
    assert lines[5]["input"] == {"text": "\ud800 w3"}
    for line, error in zip(
        lines[1:5], ["line 2: not valid JSON", "line 3, column 'text': expected a text, got 3",
                     "line 4: no column 'text', only 'body'", "line 5, byte 12: not valid UTF-8"], strict=True,
    ):  # fmt: skip
        assert line["error"].startswith(error)
    predict(str(folder), file=str(tmp_path / "d.jsonl"), output=str(tmp_path / "out.csv"))
    with (tmp_path / "out.csv").open(newline="") as stream:
        assert [bool(row["error"]) for row in csv.DictReader(stream)] == [False, True, True, True, True, False]


def test_a_file_without_one_good_row_is_an_error(folder, tmp_path):
    (tmp_path / "d.jsonl").write_text('{"body": "w1"}\n{"body": "w2"}\n')
    with pytest.raises(UserError, match="none of the 2 rows could be labelled; the first: line 1: no column 'text'"):
        predict(str(folder), file=str(tmp_path / "d.jsonl"), output=str(tmp_path / "out.jsonl"))


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
    for length in (0, 3, whole.index(b"\n") + 1, len(whole) // 2, len(whole) - 1, len(whole)):
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


def test_kept_columns_are_valid_json(folder, tmp_path):
    def refuse(constant):
        pytest.fail(f"{constant} is no JSON")

    columns = {
        "text": ["w1", "w2", "w3"],
        "number": [1.5, float("nan"), float("-inf")],
        "raw": [b"\x00\xff", b"abc", None],
        "nested": [{"x": [1.0, float("inf")]}, {"x": []}, None],
        "day": [datetime.date(2024, 2, 29)] * 3,
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "d.parquet")
    options = {"file": str(tmp_path / "d.parquet"), "keep_columns": [*columns][1:]}
    predict(str(folder), **options, output=str(tmp_path / "out.jsonl"))
    lines = [json.loads(line, parse_constant=refuse) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["input"] for line in lines] == [
        {"number": 1.5, "raw": "AP8=", "nested": {"x": [1.0, None]}, "day": "2024-02-29"},
        {"number": None, "raw": "YWJj", "nested": {"x": []}, "day": "2024-02-29"},
        {"number": None, "raw": None, "nested": None, "day": "2024-02-29"},
    ]
    predict(str(folder), **options, output=str(tmp_path / "out.csv"))
    with (tmp_path / "out.csv").open(newline="") as stream:
        first = next(csv.DictReader(stream))
    assert (first["input.raw"], first["input.nested"]) == ("AP8=", '{"x": [1.0, null]}')
    nested = '{"text": "w1", "deep": ' + "[" * 900 + "]" * 900 + "}\n"
    (tmp_path / "d.jsonl").write_text(nested)
    for name in ("deep.jsonl", "deep.csv"):  # whatever the limit is, a line
        with contextlib.suppress(UserError):
            predict(str(folder), file=str(tmp_path / "d.jsonl"), keep_columns=["deep"], output=str(tmp_path / name))
        assert (tmp_path / name).stat().st_size


def test_a_text_without_finite_logits_is_a_record_with_an_error(folder, tmp_path, monkeypatch):
    saved = read_model_folder(folder)
    embeddings = saved.model.transformer.embeddings.word_embeddings.embedding
    embeddings[...] = embeddings[...].at[saved.tokenizer.convert_tokens_to_ids("w39")].set(jnp.inf)
    damaged = Classifier(saved, batch_size=16, devices=jax.devices()[:1])
    monkeypatch.setattr(Classifier, "from_pretrained", lambda *_, **__: damaged)
    predict(str(folder), ["w1", "w39", "w2"], output=str(tmp_path / "out.jsonl"))
    lines = read_lines(tmp_path / "out.jsonl")
    assert [line["row"] for line in lines] == [1, 2, 3]
    assert ["label" in line for line in lines] == [True, False, True]
    assert lines[1]["error"].startswith("the model's logits are NaN or infinite")
    with pytest.raises(UserError, match="none of the 1 rows could be labelled; the first: the model's logits are NaN"):
        predict(str(folder), ["w39"], output=str(tmp_path / "out.csv"))
    monkeypatch.setattr("amsdff_jax.prediction.calibrate_model.Classifier", lambda *_, **__: damaged)
    held_out = write_csv(tmp_path / "d.csv", ["w1", "w39"] * 5, ["low", "high"] * 5)
    with pytest.raises(UserError, match=r"d.csv: texts\[1\] \(and of 4 of the 9 others\): the model's logits are NaN"):
        calibrate_model(str(folder), str(held_out), DataConfig())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"texts": ["w1"], "file": "d.csv"}, "expected texts or --file, got both"),
        ({"file": "nowhere.csv"}, "nowhere.csv: cannot be read"),
        ({"texts": ["w1"], "resume": True}, "--resume: continues a file; name it with --output"),
        ({"texts": ["w1"], "output": "out.txt"}, r"expected a name ending in .jsonl or .csv, or --format=jsonl\|csv"),
        ({"texts": ["w1"], "output": "/nowhere/out.csv"}, "/nowhere/out.csv: cannot be written"),
        ({"texts": ["w1"], "keep_columns": ["id"]}, "a text of its own has no column 'id', only 'text'"),
        (
            {"file": "FILE", "data": DataConfig(text_column="bodi")},
            r"no column 'bodi', only 'id', 'body'; did you mean body\?",
        ),
        ({"file": "FILE", "data": BODY, "keep_columns": ["idd"]}, "no column 'idd'.*did you mean id"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(folder, options, message, tmp_path, capfd):
    if options.get("file") == "FILE":
        options = options | {"file": write_file(tmp_path / "d.csv"), "output": str(tmp_path / "out.csv")}
    with pytest.raises(UserError, match=message) as caught:
        predict(str(folder), **options)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().out == ""
    assert not (tmp_path / "out.csv").exists()


def test_a_calibrated_model_says_so_in_every_line(folder, tmp_path):
    save_model(tmp_path / "model", Classifier.from_pretrained(folder).saved)
    calibration = Calibration(NAMES, 0.5, 0.99, target_precision=0.9, label_probability=0.0, coverage=0.9)
    write_calibration(tmp_path / "model", calibration)
    predict(str(tmp_path / "model"), ["w1", "w2"], output=str(tmp_path / "out.jsonl"))
    for line in read_lines(tmp_path / "out.jsonl"):
        assert line["abstained"] is True
        assert (sorted(line["label_set"]), line["label_set"][0]) == (sorted(NAMES), line["label"])
    predict(str(tmp_path / "model"), ["w1"], output=str(tmp_path / "out.csv"))
    header, row = csv.reader((tmp_path / "out.csv").read_text().splitlines())
    assert header[3:] == ["truncated", "abstained", "label_set", "error"]
    assert json.loads(row[5])[0] == row[1]


def test_calibrate_writes_what_it_finds_or_nothing(folder, tmp_path):
    model = tmp_path / "model"
    classifier = Classifier.from_pretrained(folder)
    save_model(model, classifier.saved)
    texts = make_texts(150, 0)[0]
    labels = [prediction.label for prediction in classifier.predict(texts)]
    labels[::10] = ["other"] * 15
    held_out = str(write_csv(tmp_path / "held_out.csv", texts, labels))
    calibration = calibrate_model(str(model), held_out, DataConfig(), target_precision=0.6, coverage=0.9)
    card = (model / "README.md").read_text()
    assert "## Calibration" in card and "held_out.csv" in card
    assert read_calibration(model, NAMES) == calibration
    assert calibration.after["log_loss"] < calibration.before["log_loss"]
    assert (calibration.texts, calibration.file) == (150, "held_out.csv")
    with pytest.raises(UserError, match=r"held_out.csv: no threshold has a precision of 0.99"):
        calibrate_model(str(model), held_out, DataConfig(), target_precision=0.99)
    assert read_calibration(model, NAMES) == calibration
    again = calibrate_model(str(model), held_out, DataConfig())
    assert again.temperature == pytest.approx(calibration.temperature)  # of the model's own logits, not calibrated ones


@pytest.mark.parametrize(("size", "said"), [(1.0, True), (1.25, False)])
def test_sets_that_say_no_more_than_the_label_are_pointed_out(size, said, capsys):
    quality = {"ece": 0.1, "log_loss": 0.2, "brier": 0.3}
    calibration = Calibration(NAMES, 1.0, coverage=0.9, label_set_size=size, before=quality, after=quality)
    print_calibration(calibration, "model")
    assert ("every set is the predicted class alone" in capsys.readouterr().out) == said


@pytest.mark.slow
def test_the_scripts_as_a_user_runs_them(folder, tmp_path):
    code, printed = run_script(tmp_path / "log", "predict.py", f"--model={folder}", "w1 w2", "--", "--w3")
    lines = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    assert (code, [line["row"] for line in lines]) == (0, [1, 2]), printed
    code, printed = run_script(tmp_path / "log", "predict.py", f"--model={tmp_path}", "w1")
    assert (code, printed.count("\n")) == (2, 1), printed
    texts, labels = make_texts(60, 0)
    held_out = write_csv(tmp_path / "held_out.csv", texts, labels)
    save_model(tmp_path / "model", Classifier.from_pretrained(folder).saved)
    arguments = [f"--model={tmp_path / 'model'}", f"--file={held_out}"]
    code, printed = run_script(tmp_path / "log", "calibrate.py", *arguments, "--coverage=0.9")
    assert code == 0, printed
    assert "log loss" in printed
    assert "label sets hold the truth" in printed
    code, printed = run_script(tmp_path / "log", "calibrate.py", *arguments, "--target_precision=1.5")
    assert code == 2
    assert "target precision: expected a number between 0 and 1" in printed


@pytest.mark.slow
def test_pipes(folder):
    command = [sys.executable, str(ROOT / "scripts" / "predict.py"), f"--model={folder}"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, **pipes) as process:
        process.stdin.write(b"w1\n\nw\xff\nw2\x00w3\r\n")
        process.stdin.flush()
        # They come although the input goes on, and nobody knows for how long.
        lines = [json.loads(process.stdout.readline()) for _ in range(4)]
        assert [line.get("label", line.get("error", ""))[:15] in (*NAMES, "line 3, byte 2:") for line in lines] == [
            True
        ] * 4
        assert "error" in lines[2]
        process.stdout.close()
        process.stdin.write(b"w4\n" * 1000)
        process.stdin.close()
        assert process.wait(100) == 141
        assert b"Traceback" not in (errors := process.stderr.read()), errors
        assert b"rror" not in errors, errors
