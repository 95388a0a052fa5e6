"""Metrics against numbers worked out by hand, and the files of a report."""

import csv
import json

import numpy as np
import pytest

from amsdff_jax.config import LossConfig
from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.evaluation import metrics as evaluation_metrics
from amsdff_jax.evaluation.evaluator import Evaluation
from amsdff_jax.evaluation.metrics import HIGHER_IS_BETTER, LOWER_IS_BETTER, compute_metrics
from amsdff_jax.evaluation.report import draw_learning_curves, draw_report, write_metrics, write_report

NAMES = ("low", "mid", "high", "never")


def make_evaluation() -> Evaluation:
    labels = np.array([0, 1, 2, 2, 1, 0])
    chosen = np.array([0, 1, 1, 2, 0, 2])
    logits = np.full((6, 4), -1.0, np.float32)
    logits[np.arange(6), chosen] = [2.0, 1.0, 0.5, 3.0, 0.0, 1.5]
    return Evaluation(labels, logits, truncated=1, seconds=2.0)


@pytest.fixture
def metrics():
    return compute_metrics(make_evaluation(), NAMES, LossConfig())


def test_counts_and_errors_by_hand(metrics):
    assert metrics["examples"] == 6
    assert metrics["accuracy"] == metrics["micro_f1"] == pytest.approx(3 / 6)
    # Precision, recall and F1 are 1/2 for all of the three classes that occur.
    for name in ("macro_f1", "macro_precision", "macro_recall", "weighted_f1"):
        assert metrics[name] == pytest.approx(0.5), name
    assert metrics["mae"] == pytest.approx((1 + 1 + 2) / 6)
    assert metrics["rmse"] == pytest.approx(np.sqrt((1 + 1 + 4) / 6))
    assert metrics["mape"] == pytest.approx(100 * (1 / 2 + 1 / 1) / 4)  # class 0 left out
    assert metrics["examples_per_second"] == 3
    assert metrics["per_class"][3] == {
        "class": "never", "precision": 0, "recall": 0, "f1": 0, "support": 0, "predicted": 0,
    }  # fmt: skip


def test_probabilities_by_hand(metrics):
    evaluation = make_evaluation()
    probabilities = np.exp(evaluation.logits.astype(float))
    probabilities /= probabilities.sum(-1, keepdims=True)
    of_truth = probabilities[np.arange(6), evaluation.labels]
    assert metrics["cross_entropy"] == metrics["log_loss"]
    assert metrics.keys() == evaluation_metrics.NAMES
    assert metrics["log_loss"] == pytest.approx(-np.log(of_truth).mean())
    assert metrics["loss_ce"] == pytest.approx(-np.log(of_truth).mean())
    assert metrics["loss_focal"] == pytest.approx(((1 - of_truth) ** 2 * -np.log(of_truth)).mean())
    smoothed = 0.9 * np.log(of_truth) + 0.1 * np.log(probabilities).mean(-1)
    assert metrics["loss_label_smoothing"] == pytest.approx(-smoothed.mean())
    parts = (metrics[f"loss_{part}"] for part in ("ce", "focal", "label_smoothing"))
    assert metrics["loss"] == pytest.approx(np.dot([0.4, 0.4, 0.2], list(parts)))
    # Every text is in a bin of its own, so the error is the mean distance of confidence and correctness.
    correct = evaluation.labels == evaluation.predictions
    assert metrics["ece"] == pytest.approx(np.abs(probabilities.max(-1) - correct).mean())
    pairs = [
        probabilities[evaluation.labels == c, c][:, None] - probabilities[evaluation.labels != c, c] for c in range(3)
    ]
    areas = [((pair > 0) + 0.5 * (pair == 0)).mean() for pair in pairs]
    assert metrics["roc_auc"] == pytest.approx(np.mean(areas))


def test_a_single_class_has_no_roc_and_no_mape_of_zeros():
    evaluation = Evaluation(np.zeros(2, int), np.zeros((2, 2), np.float32), 0, 1.0)
    metrics = compute_metrics(evaluation, ("a", "b"), LossConfig())
    assert metrics["roc_auc"] is None
    assert metrics["mape"] is None
    json.dumps(metrics, allow_nan=False)


def test_metrics_to_choose_by_are_numbers(metrics):
    assert not LOWER_IS_BETTER & HIGHER_IS_BETTER
    for name in LOWER_IS_BETTER | HIGHER_IS_BETTER:
        assert isinstance(metrics[name], float), name


def read(file):
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.reader(stream))


def test_report_files(metrics, tmp_path):
    dataset = TextDataset(["t,0", "t1", 't"2', "t3", "t4\n", "😀 \ud83d"], make_evaluation().labels, NAMES)
    write_report(tmp_path, dataset, make_evaluation(), metrics)
    write_metrics(tmp_path, {"test": metrics})
    write_metrics(tmp_path, {"more": {"accuracy": 1.0}})
    content = json.loads((tmp_path / "metrics.json").read_text())
    assert (content["test"]["accuracy"], content["more"]["accuracy"]) == (0.5, 1.0)
    assert "class NUMBER" in content["test"]["meanings"]["mae"]
    assert read(tmp_path / "confusion_matrix.csv")[1:] == [
        ["low", "1", "0", "1", "0"], ["mid", "1", "1", "0", "0"], ["high", "0", "1", "1", "0"], ["never"] + ["0"] * 4,
    ]  # fmt: skip
    predictions = read(tmp_path / "predictions.csv")
    assert predictions[3][:3] == ["2", "high", "mid"]
    errors = read(tmp_path / "errors.csv")
    assert [row[0] for row in errors[1:]] == ["5", "2", "4"]  # most confident first
    assert errors[1][-1] == r"😀 \ud83d"  # half of a character, which no file can hold
    assert [row[0] for row in read(tmp_path / "per_class.csv")] == ["class", *NAMES]
    draw_report(tmp_path, NAMES, make_evaluation())
    for name in ("confusion_matrix.png", "reliability.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_learning_curves_are_drawn_from_the_log(tmp_path):
    records = [{"kind": kind, "step": step, "loss": 1.0, "accuracy": 0.5, "macro_f1": 0.4}
               for step in (5, 10) for kind in ("train", "validation")]  # fmt: skip
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    draw_learning_curves(tmp_path, tmp_path / "metrics.jsonl", 10, "macro_f1")
    assert (tmp_path / "learning_curves.png").stat().st_size > 5000
