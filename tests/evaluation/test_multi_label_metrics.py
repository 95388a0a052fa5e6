"""Metrics of several labels a text: by scikit-learn's and by hand, with empty rows and absent classes."""

import csv
import dataclasses
import json
import warnings

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from amsdff_jax.config import LossConfig
from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.evaluation.card_text import COLUMNS
from amsdff_jax.evaluation.evaluator import Evaluation
from amsdff_jax.evaluation.metrics import METRICS, compute_metrics, lower_is_better
from amsdff_jax.evaluation.report import draw_report, write_metrics, write_report

NAMES = tuple("abcdef")


def make_evaluation(seed: int = 0, number: int = 41) -> Evaluation:
    """Texts without labels and with all, a class that no text has and one that no text gets either."""
    random = np.random.default_rng(seed)
    labels = random.random((number, 6)) < [0.5, 0.3, 0.1, 0.2, 0, 0]
    labels[:3], labels[3, :4] = False, True
    logits = (random.normal(size=(number, 6)) * 2 + 2 * labels - 1).astype(np.float32)
    logits[:, 5] = -np.abs(logits[:, 5]) - 0.1
    logits[0] = -1
    return Evaluation(labels, logits, truncated=1, seconds=2.0, task="multi_label")


@pytest.mark.parametrize("seed", range(4))
def test_numbers_are_those_of_scikit_learn(seed):
    evaluation = make_evaluation(seed)
    found = compute_metrics(evaluation, NAMES, LossConfig())
    truth, predicted, scores = evaluation.labels, evaluation.predictions, evaluation.logits
    occurring = [column for column in range(6) if truth[:, column].any() or predicted[:, column].any()]
    assert 5 not in occurring
    expected = {
        "accuracy": sklearn_metrics.accuracy_score(truth, predicted),
        "hamming_loss": sklearn_metrics.hamming_loss(truth, predicted),
        "coverage_error": sklearn_metrics.coverage_error(truth, scores),
        "label_ranking_average_precision": sklearn_metrics.label_ranking_average_precision_score(truth, scores),
        "label_ranking_loss": sklearn_metrics.label_ranking_loss(truth, scores),
        "sample_f1": sklearn_metrics.f1_score(truth, predicted, average="samples", zero_division=1),
        "average_precision": np.mean(
            [sklearn_metrics.average_precision_score(truth[:, column], scores[:, column]) for column in range(4)]
        ),
        "micro_average_precision": sklearn_metrics.average_precision_score(truth, scores, average="micro"),
        "roc_auc": sklearn_metrics.roc_auc_score(truth[:, :4], scores[:, :4]),
    }
    for name in ("f1", "precision", "recall"):
        score = getattr(sklearn_metrics, f"{name}_score")
        for average in ("micro", "weighted"):
            expected[f"{average}_{name}"] = score(truth, predicted, average=average, zero_division=0)
        columns = score(truth, predicted, average=None, zero_division=0)
        expected[f"macro_{name}"] = columns[occurring].mean()
        assert [row[name] for row in found["per_class"]] == pytest.approx(columns, abs=1e-12)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-12), name
    assert [row["support"] for row in found["per_class"]] == truth.sum(axis=0).tolist()
    assert [row["predicted"] for row in found["per_class"]] == predicted.sum(axis=0).tolist()


def test_losses_and_calibration_by_hand():
    evaluation = make_evaluation()
    found = compute_metrics(evaluation, NAMES, LossConfig())
    right = np.where(evaluation.labels, evaluation.probabilities, 1 - evaluation.probabilities)
    assert found["cross_entropy"] == found["log_loss"] == pytest.approx(-np.log(right).mean())
    assert found["loss_ce"] == pytest.approx(-np.log(right).mean(), rel=1e-5)
    assert found["loss_focal"] == pytest.approx(((1 - right) ** 2 * -np.log(right)).mean(), rel=1e-5)
    smoothed = 0.95 * np.log(right) + 0.05 * np.log(1 - right)
    assert found["loss_label_smoothing"] == pytest.approx(-smoothed.mean(), rel=1e-5)
    assert found["brier"] == pytest.approx(np.square(evaluation.probabilities - evaluation.labels).mean())
    confidence = np.maximum(evaluation.probabilities, 1 - evaluation.probabilities)
    bins = (confidence * 15).astype(int).clip(max=14)
    gaps = [np.abs((confidence - (right > 0.5))[bins == one].sum()) for one in range(15)]
    assert found["ece"] == pytest.approx(np.sum(gaps) / confidence.size)


def test_names_meanings_and_directions():
    task, found = METRICS["multi_label"], compute_metrics(make_evaluation(), NAMES, LossConfig())
    assert found.keys() == task.names and task.meanings.keys() <= task.names
    assert not task.higher_is_better & task.lower_is_better
    assert set(task.shown.values()) | set(COLUMNS["multi_label"].values()) <= task.names
    assert all(isinstance(found[name], float) for name in task.higher_is_better | task.lower_is_better)
    assert lower_is_better("hamming_loss", "multi_label") and not lower_is_better("hamming_loss", "single")


def test_without_any_label_nothing_fails():
    labels, logits = np.zeros((3, 2), bool), np.full((3, 2), -1, np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = compute_metrics(Evaluation(labels, logits, 0, 1.0, "multi_label"), ("a", "b"), LossConfig())
    assert found["accuracy"] == found["sample_f1"] == 1 and found["micro_f1"] == found["average_precision"] == 0
    json.dumps(found, allow_nan=False)


def test_the_report_has_every_text_and_what_applies(tmp_path):
    evaluation = dataclasses.replace(make_evaluation(number=5), thresholds=(0.99, 0.02, 0.5, 0.5, 0.9, 0.1))
    found = compute_metrics(evaluation, NAMES, LossConfig())
    dataset = TextDataset(["t,0", "=1", 't"2', "t3", "t4\n"], evaluation.labels, NAMES)
    write_report(tmp_path, dataset, evaluation, found)
    write_metrics(tmp_path, {"test": found}, "multi_label")
    draw_report(tmp_path, NAMES, evaluation)
    with (tmp_path / "predictions.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    encoded = [
        [[name in json.loads(row[column]) for name in NAMES] for row in rows] for column in ("truth", "prediction")
    ]
    assert encoded == [evaluation.labels.tolist(), evaluation.predictions.tolist()]
    with (tmp_path / "errors.csv").open(newline="") as stream:
        errors = list(csv.DictReader(stream))
    assert len(errors) == (evaluation.labels != evaluation.predictions).any(axis=1).sum()
    assert {row["text"] for row in errors} <= {"t,0", "'=1", 't"2', "t3", "t4\n"}
    for row in errors:
        wrong = set(json.loads(row["truth"])) ^ set(json.loads(row["prediction"]))
        assert row["worst_class"] in wrong
    files = {"errors.csv", "metrics.json", "per_class.csv", "predictions.csv", "reliability.png"}
    assert {file.name for file in tmp_path.iterdir()} == files
    assert "hamming_loss" in json.loads((tmp_path / "metrics.json").read_text())["test"]["meanings"]
