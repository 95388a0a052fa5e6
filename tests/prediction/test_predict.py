"""Files and pipes of texts to files and pipes of predictions."""

import contextlib
import csv
import datetime
import json
import os
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import pyarrow
import pyarrow.parquet
import pytest

from amsdff_jax import Classifier, UserError
from amsdff_jax.config import DataConfig
from amsdff_jax.models.model_folder import read_model_folder, save_model
from amsdff_jax.prediction.calibrate_model import calibrate_model
from amsdff_jax.prediction.evaluate import evaluate_model
from amsdff_jax.prediction.run import predict
from tests.conftest import make_texts, write_csv
from tests.prediction.rows import BODY, NAMES, TEXTS, read_lines, write_file
from tests.processes import ROOT, run_script


@pytest.fixture(scope="module")
def predictions(folder):
    return Classifier.from_pretrained(folder, batch_size=16, devices=jax.devices()[:1]).predict(TEXTS, top_k=2)


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
    embeddings[...] = embeddings[...].at[saved.tokenizer.backend_tokenizer.token_to_id("w39")].set(jnp.inf)
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


def test_a_column_that_is_kept_and_is_not_there_is_told_of(folder, tmp_path, caplog):
    rows = '{"text": "w1"}\n{"text": "w2", "id": 3}\n'  # one that not every row has may be kept
    (tmp_path / "d.jsonl").write_text(rows)
    output = tmp_path / "out.jsonl"
    predict(str(folder), file=str(tmp_path / "d.jsonl"), keep_columns=["id", "idd"], output=str(output))
    assert "in the first 2 rows there is no column 'idd', only 'text', 'id'; did you mean id?" in caplog.text
    assert [json.loads(line)["input"] for line in output.open()] == [{"id": None, "idd": None}, {"id": 3, "idd": None}]


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
    assert "--target_precision: expected a share above 0 and below 1" in printed


@pytest.mark.slow
def test_labels_that_look_like_numbers_are_names_if_the_flag_says_so(folder, tmp_path):
    save_model(tmp_path / "model", Classifier.from_pretrained(folder).saved._replace(class_names=("0", "1", "2")))
    labelled = write_csv(tmp_path / "labelled.csv", make_texts(60, 0)[0], ["0.0", "1.0", "2.0"] * 20)
    arguments = [f"--model={tmp_path / 'model'}", f"--file={labelled}"]
    for script in ("calibrate.py", "evaluate.py"):
        code, printed = run_script(tmp_path / "log", script, *arguments, "--label_type=name")
        assert code == 2
        assert "line 2, column 'label': training never saw the label '0.0', only 0, 1, 2" in printed
    code, printed = run_script(tmp_path / "log", "calibrate.py", *arguments, "--label_type=auto")
    assert code == 0, printed


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
