"""Files and pipes of texts to files and pipes of predictions."""

import csv
import gzip
import json
import os
import shutil
import subprocess
import sys

import jax
import pyarrow
import pyarrow.parquet
import pytest

from amsdff_jax import Classifier, EnhancedAMSDFF, UserError
from amsdff_jax.config import DataConfig
from amsdff_jax.data.tokenization import load_tokenizer
from amsdff_jax.evaluation.calibration import Calibration, read_calibration, write_calibration
from amsdff_jax.interop.model_folder import SavedModel, save_model
from amsdff_jax.prediction.calibrate_model import calibrate_model, print_calibration
from amsdff_jax.prediction.run import predict
from tests.conftest import TINY_HEAD, make_texts, write_csv
from tests.processes import ROOT, run_script

NAMES = ("low", "high", "other")
TEXTS = [*make_texts(37, 3)[0], "", 'say "w1"\nw2, w3', "😀 \u2028 w4"]


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
        (model / "config.json").write_text(json.dumps(config | {"reads_pairs": pairs}))
        with pytest.raises(UserError, match=message):
            predict(str(model), file=str(file), text_pair_column=column, output=str(tmp_path / "out.jsonl"))
        with pytest.raises(UserError, match=message):
            calibrate_model(str(model), str(file), DataConfig(text_pair_column=column))
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize("name", ["d.csv", "d.tsv", "d.jsonl", "d.parquet", "d.jsonl.gz"])
def test_a_file_of_any_kind(folder, predictions, name, tmp_path):
    output = tmp_path / "out.jsonl"
    assert predict(
        str(folder),
        file=write_file(tmp_path / name),
        text_column="body",
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
    predict(str(folder), file=file, text_column="body", keep_columns=["body"], output=str(output), top_k=2)
    with output.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    header = "row,label,probability,label_2,probability_2,truncated,error,input.body"
    assert list(rows[0]) == header.split(",")
    assert [row["input.body"] for row in rows] == TEXTS
    assert [(row["label"], row["label_2"]) for row in rows] == [
        tuple(best.label for best in prediction.top_k) for prediction in predictions
    ]


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
    with pytest.raises(UserError, match="none of the 2 rows could be read; the first: line 1: no column 'text'"):
        predict(str(folder), file=str(tmp_path / "d.jsonl"), output=str(tmp_path / "out.jsonl"))


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv"])
def test_resume_completes_an_output_that_was_cut_anywhere(folder, name, tmp_path):
    file, output = write_file(tmp_path / "d.csv"), tmp_path / name
    options = {"file": file, "text_column": "body", "keep_columns": ["body"], "output": str(output)}
    predict(str(folder), **options)
    whole = output.read_bytes()
    for length in (0, 3, whole.index(b"\n") + 1, len(whole) // 2, len(whole) - 70, len(whole) - 1, len(whole)):
        output.write_bytes(whole[:length])
        predict(str(folder), **options, resume=True)
        assert output.read_bytes() == whole, length
    with pytest.raises(UserError, match=r"is there already; go on with it \(--resume\), or delete it"):
        predict(str(folder), **options)
    assert output.read_bytes() == whole


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("out.csv", b"row,label\n1,low\n", "has other columns than this command writes"),
        (
            "out.jsonl",
            b'{"row": 1, "label": "low", "probability": 0.5, "top_k": [], "truncated": false}\n',
            "other columns",
        ),
        ("out.jsonl", b'{"row": 3}\n', "record 1 does not say that it is row 1"),
        ("out.jsonl", b"my notes\n", "this is no output of the same command"),
    ],
)
def test_resume_leaves_other_files_alone(folder, name, content, message, tmp_path):
    output = tmp_path / name
    output.write_bytes(content)
    with pytest.raises(UserError, match=message):
        predict(str(folder), ["w1"], output=str(output), resume=True)
    assert output.read_bytes() == content


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"texts": ["w1"], "file": "d.csv"}, "expected texts or --file, got both"),
        ({"file": "nowhere.csv"}, "nowhere.csv: cannot be read"),
        ({"texts": ["w1"], "resume": True}, "--resume: goes on with a file; name it with --output"),
        ({"texts": ["w1"], "output": "out.txt"}, r"expected a name ending in .jsonl or .csv, or --format=jsonl\|csv"),
        ({"texts": ["w1"], "output": "/nowhere/out.csv"}, "/nowhere/out.csv: cannot be written"),
        ({"texts": ["w1"], "keep_columns": ["id"]}, "a text of its own has no column 'id', only 'text'"),
        ({"file": "FILE", "text_column": "bodi"}, r"no column 'bodi', only 'id', 'body'; did you mean body\?"),
        ({"file": "FILE", "text_column": "body", "keep_columns": ["idd"]}, "has no column 'idd'.*did you mean id"),
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
