"""Several labels a text, from the file to the prediction; the loss is PyTorch's."""

import csv
import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score

from amsdff_jax import Classifier, Config, Trainer, UserError, load_data
from amsdff_jax.config import LossConfig
from amsdff_jax.conversion.convert import from_torch, to_torch
from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.data.sources import DataSplits
from amsdff_jax.evaluation.calibration_file import read_calibration
from amsdff_jax.experiments.frozen import run_frozen
from amsdff_jax.experiments.tfidf import run_tfidf
from amsdff_jax.explanation.write import write_explanations
from amsdff_jax.export.exporter import export_model
from amsdff_jax.inspection.inspect import inspect_data
from amsdff_jax.models.losses import class_weights, multi_label_loss_parts
from amsdff_jax.models.model_folder import read_model_folder
from amsdff_jax.models.registry import MODELS
from amsdff_jax.prediction.calibrate_model import calibrate_model
from amsdff_jax.prediction.evaluate import evaluate_model, evaluate_run
from amsdff_jax.prediction.run import predict
from amsdff_jax.training.train_run import train_run
from tests.conftest import WORDS, write_json_lines

NAMES = ("first", "last", "even")


def make_rows(number: int, seed: int) -> list[tuple[str, list[str]]]:
    """Texts that have a label for each kind of words in them: of the first 13, of the last 14, and none of others."""
    choice, rows = random.Random(seed), []
    groups = {"first": WORDS[:13], "last": WORDS[26:], "even": WORDS[13:20]}
    for _ in range(number):
        labels = [name for name in NAMES if choice.random() < 0.4]
        words = [word for name in labels for word in choice.choices(groups[name], k=4)]
        words += choice.choices(WORDS[20:26], k=2)
        choice.shuffle(words)
        rows.append((" ".join(words), labels))
    return rows


@pytest.fixture(scope="module")
def config(tiny_encoder, tmp_path_factory) -> Config:
    folder = tmp_path_factory.mktemp("multi_label")
    return Config.from_dict(
        {
            "model": {"encoder": str(tiny_encoder), "name": "linear"},
            "data": {
                "max_length": 16, "num_buckets": 1,
                "train_file": write_json_lines(folder / "train.jsonl", make_rows(240, 1)),
                "test_file": write_json_lines(folder / "test.jsonl", make_rows(60, 2)),
            },
            "loss": {"class_weights": "balanced"},
            "train": {
                "epochs": 4, "batch_size": 16, "eval_batch_size": 20, "head_learning_rate": 2e-2,
                "encoder_learning_rate": 3e-3, "best_metric": "micro_f1", "trackers": "",
            },
        }
    )  # fmt: skip


def test_a_run_learns_and_its_folder_says_what_it_does(run, config):
    metrics = json.loads((run / "report" / "metrics.json").read_text())
    assert metrics["test"]["micro_f1"] > 0.9 and metrics["test"]["examples"] == 60
    assert json.loads((run / "model" / "config.json").read_text())["problem_type"] == "multi_label_classification"
    assert json.loads((run / "config.json").read_text())["task"] == {"kind": "multi_label"}
    card = (run / "model" / "README.md").read_text()
    assert (
        "any number of them: even, first, last" in card and "| micro F1" in card and "Every text gets one" not in card
    )
    again = evaluate_run(run, "test")
    assert again["micro_f1"] == metrics["test"]["micro_f1"]
    by_model = evaluate_model(run / "model", config.data.test_file, output=run.parent / "other")
    assert by_model["loss"] == pytest.approx(metrics["test"]["loss"], rel=1e-5)
    assert train_run(config, run)  # which is finished


def test_predictions_hold_all_labels_above_their_thresholds(run, config, tmp_path, capsysbinary):
    texts = load_data(config.data).require_test().texts
    classifier = Classifier.from_pretrained(run / "model")
    probabilities = classifier.predict_proba(texts)
    assert probabilities.shape == (60, 3) and (np.abs(probabilities.sum(axis=1) - 1) > 0.1).any()
    for prediction, row in zip(classifier.predict(texts, top_k=2), probabilities, strict=True):
        expected = [classifier.class_names[column] for column in np.argsort(-row, kind="stable") if row[column] >= 0.5]
        assert [label for label, _ in prediction.labels] == expected
        assert len(prediction.top_k) == 2 and prediction.label_set is None
        assert "Labels: " in prediction._repr_html_()
    for name in ("p.jsonl", "p.csv", "top.jsonl"):
        top_k = 2 if name == "top.jsonl" else 1
        assert predict(str(run / "model"), file=config.data.test_file, output=str(tmp_path / name), top_k=top_k)
    lines = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    with (tmp_path / "p.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == [
        *("row", "labels", "probability.even", "probability.first", "probability.last", "truncated", "error")
    ]
    for line, row, values in zip(lines, rows, probabilities, strict=True):
        assert list(line["probabilities"].values()) == pytest.approx(values, abs=1e-5)
        assert json.loads(row["labels"]) == line["labels"]
        assert float(row["probability.last"]) == line["probabilities"]["last"]
    top = [json.loads(line) for line in (tmp_path / "top.jsonl").read_text().splitlines()]
    assert all(
        len(line["top_k"]) == 2 and line["labels"] == other["labels"] for line, other in zip(top, lines, strict=True)
    )


def test_calibration_decides_what_is_predicted(run, config, tmp_path, capsys):
    saved = read_model_folder(run / "model")
    Classifier(saved).save(tmp_path / "model")
    calibration = calibrate_model(str(tmp_path / "model"), config.data.test_file, false_negative_rate=0.1)
    assert read_calibration(tmp_path / "model", saved.class_names, "multi_label") == calibration
    classifier = Classifier.from_pretrained(tmp_path / "model")
    texts = load_data(config.data).require_test().texts
    for prediction, row in zip(classifier.predict(texts), classifier.predict_proba(texts), strict=True):
        above = np.flatnonzero(row >= np.array(calibration.thresholds))
        assert {label for label, _ in prediction.labels} == {saved.class_names[index] for index in above}
        assert prediction.label_set is not None
    evaluated = evaluate_model(tmp_path / "model", config.data.test_file, output=tmp_path / "report")
    truth, chosen = (
        load_data(config.data).require_test().labels,
        classifier.predict_proba(texts) >= calibration.thresholds,
    )
    assert evaluated["micro_f1"] == pytest.approx(f1_score(truth, chosen, average="micro"))
    with pytest.raises(UserError, match="--coverage: of models of one label a text"):
        calibrate_model(str(tmp_path / "model"), config.data.test_file, coverage=0.9)


def test_every_label_of_a_text_is_explained(run, tmp_path):
    text = " ".join([*WORDS[:4], *WORDS[26:30]])
    page, numbers = tmp_path / "page.html", tmp_path / "numbers.json"
    write_explanations(run / "model", [text], page, numbers=numbers)
    explained = json.loads(numbers.read_text())
    labels = [label for label, _ in Classifier.from_pretrained(run / "model").predict(text).labels]
    assert set(labels) == {"first", "last"}
    assert [one["explained_class"] for one in explained] == explained[0]["labels"] == labels
    for one in explained:
        assert one["probabilities"][one["explained_class"]] > 0.5
        assert one["integrated_gradients"]["relative_completeness_error"] < 0.01
    content = page.read_text()
    assert all(f"Why {label}. Labels" in content for label in labels) and "sigmoid" in content


def test_a_folder_called_test_is_not_the_test_split(run, config, tmp_path):
    (tmp_path / "test").mkdir()
    lines = Path(config.data.test_file).read_text().splitlines(keepends=True)
    (tmp_path / "test" / "a.jsonl").write_text("".join(lines[:20]))
    before = (run / "report" / "metrics.json").read_text(), json.loads((run / "model" / "card.json").read_text())
    assert evaluate_run(run, file=str(tmp_path / "test"))["examples"] == 20
    assert (run / "report" / "test-files" / "metrics.json").exists()
    after = (run / "report" / "metrics.json").read_text(), json.loads((run / "model" / "card.json").read_text())
    assert before[0] == after[0] and before[1]["metrics"]["test"] == after[1]["metrics"]["test"]


@pytest.mark.slow
def test_an_export_gives_the_same_labels(run, config, tmp_path):
    Classifier.from_pretrained(run / "model").save(tmp_path / "model")
    calibrate_model(str(tmp_path / "model"), config.data.test_file)
    assert export_model(tmp_path / "model", tmp_path / "out", file=config.data.test_file).equal
    texts = load_data(config.data).require_test().texts[:9]
    program = """import load, json, sys; from answers import labels
print(json.dumps([labels(row.tolist()) for row in load.probabilities(sys.argv[1:])]))
try: load.probabilities(sys.argv[1])
except ValueError as error: print(error, file=sys.stderr)"""
    command = [sys.executable, "-c", program, *texts]
    done = subprocess.run(command, cwd=tmp_path / "out", check=True, capture_output=True, text=True)
    assert "texts: expected a list of texts, got " in done.stderr
    found = [dict(map(tuple, row)) for row in json.loads(done.stdout)]
    for one, prediction in zip(found, Classifier.from_pretrained(tmp_path / "model").predict(texts), strict=True):
        assert one == pytest.approx(dict(prediction.labels), abs=1e-4)


@pytest.mark.slow
def test_a_frozen_encoder_and_words_alone_learn_several_labels(config):
    few = config.replace(loss__class_weights="")
    data = load_data(few.data)
    frozen = run_frozen(few, data, seeds=(0,), learning_rates=(0.03,), epochs=3)[0]
    words = run_tfidf(few, data)
    for outcome, least in ((frozen, 0.5), (words, 0.9)):
        assert outcome.evaluation.task == "multi_label" and outcome.metrics["micro_f1"] > least
    # A class that training does not have is never given.
    part = data.train.take(~data.train.of_class(1), "without")
    without = run_tfidf(few, DataSplits(part, data.validation, data.test))
    assert not without.evaluation.predictions[:, 1].any()
    # One that all training texts have is certain.
    every = run_tfidf(few, DataSplits(data.train.take(data.train.of_class(0), "with"), data.validation, data.test))
    assert (every.evaluation.probabilities[:, 0] > 0.999).all()


def test_what_takes_one_label_a_text_says_so(config, tmp_path):
    with pytest.raises(UserError, match="has any number of labels a text; amsdff inspect takes one class a text"):
        inspect_data(config, "mine", tmp_path / "page.html")


def test_the_task_survives_the_way_through_pytorch(run, config, tmp_path):
    for name, source in (("model", run / "model"), ("run", run)):
        to_torch(source, tmp_path / f"{name}.pt", layout="trainer")
        saved = from_torch(tmp_path / f"{name}.pt", tmp_path / name, encoder_config=config.model.encoder)
        assert saved.task == read_model_folder(tmp_path / name).task == "multi_label"
    to_torch(run / "model", tmp_path / "weights.safetensors")
    for task, expected in (("", "single"), ("multi_label", "multi_label")):
        options = {"encoder_config": config.model.encoder, "class_names": NAMES, "padding": "masked", "task": task}
        assert from_torch(tmp_path / "weights.safetensors", tmp_path / "model", **options).task == expected


def test_balanced_weights_are_positive_weights():
    labels = np.array([[1, 0, 1], [1, 0, 0], [0, 0, 1], [1, 0, 1]], bool)
    weights = class_weights(LossConfig(class_weights="balanced"), labels, NAMES)
    assert weights.tolist() == pytest.approx([1 / 3, 3, 1 / 3])
    assert class_weights(LossConfig(class_weights="balanced"), np.ones((3, 3), bool), NAMES).min() > 0


def test_the_loss_is_that_of_pytorch(torch):
    random = np.random.default_rng(0)
    logits, labels = random.normal(size=(5, 3)).astype(np.float32) * 3, random.random((5, 3)) < 0.4
    weights = np.array([0.5, 1, 4], np.float32)
    parts = multi_label_loss_parts(logits, labels, LossConfig(smoothing=0.2), weights)

    def loss(targets):
        function = torch.nn.BCEWithLogitsLoss(reduction="none", pos_weight=torch.tensor(weights))
        return function(torch.tensor(logits), torch.tensor(targets.astype(np.float32))).mean(dim=1).numpy()

    assert parts["ce"] == pytest.approx(loss(labels), rel=1e-5)
    assert parts["label_smoothing"] == pytest.approx(loss(labels * 0.8 + 0.1), rel=1e-5)


def test_what_does_not_go_together_is_one_line(config, tmp_path):
    data = load_data(config.data)
    model = MODELS["linear"].from_pretrained(config.model.encoder, 3)
    single = TextDataset(["w1", "w2", "w3"], [0, 1, 2], data.train.class_names, name="single.csv")

    def message(train, validation, **settings):
        with pytest.raises(UserError) as caught:
            Trainer(model, config.replace(**settings), train, validation, tmp_path)
        return str(caught.value)

    assert message(data.train, single) == (
        f"single.csv: has one label a text, but {data.train.name} any number of labels a text; expected the same"
    )
    assert message(single, single, task__kind="multi_label").startswith("task.kind: multi_label, but single.csv has")
    assert message(data.train, data.validation, loss__contrastive=0.1).startswith("loss.contrastive: 0.1, but it")
    assert "train.best_metric: no metric 'mae'" in message(data.train, data.validation, train__best_metric="mae")
    assert "train.best_metric: no metric 'hamming_loss'" in message(single, single, train__best_metric="hamming_loss")
