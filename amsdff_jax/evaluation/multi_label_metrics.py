"""Numbers of an evaluation where a text may have any number of classes, computed by scikit-learn."""

import warnings
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from etils import epy
from jaxtyping import Bool, Float

from amsdff_jax.config import LossConfig
from amsdff_jax.data.encoded_labels import count_classes
from amsdff_jax.evaluation.calibration import calibration_table, expected_calibration_error
from amsdff_jax.evaluation.evaluator import Evaluation
from amsdff_jax.models.losses import combine, multi_label_loss_parts

with epy.lazy_imports():  # as in `metrics`
    from sklearn import metrics

LOWER_IS_BETTER = frozenset(
    {"loss", "cross_entropy", "log_loss", "brier", "ece", "hamming_loss", "coverage_error", "label_ranking_loss"}
    | {f"loss_{name}" for name in ("ce", "focal", "label_smoothing")}
)
HIGHER_IS_BETTER = frozenset(
    {"accuracy", "sample_f1", "average_precision", "micro_average_precision", "label_ranking_average_precision"}
    | {f"{average}_{name}" for average in ("macro", "weighted", "micro") for name in ("f1", "precision", "recall")}
)
NAMES = HIGHER_IS_BETTER | LOWER_IS_BETTER | {"examples", "roc_auc", "examples_per_second", "per_class"}

MEANINGS = {
    "accuracy": "share of texts whose labels are all right (subset accuracy)",
    "hamming_loss": "share of wrong answers among all texts and classes",
    "sample_f1": "mean F1 of the labels of each text; 1 for a text without labels that gets none",
    "average_precision": "mean over the classes that occur of the average precision of their ranking of the texts",
    "micro_average_precision": "average precision of all pairs of text and class in one ranking",
    "coverage_error": "mean number of classes, the most likely first, that hold all labels of a text",
    "label_ranking_average_precision": "mean over the labels of a text of the share of labels among what ranks as high",
    "label_ranking_loss": "mean share of pairs of a label and another class that are in the wrong order",
    "loss": "the training loss without class weights, mean over texts",
    "cross_entropy": "mean binary cross-entropy over texts and classes, natural logarithm, whatever the loss",
    "log_loss": "cross_entropy under scikit-learn's name",
    "brier": "mean squared distance of the probability from the truth over texts and classes",
    "ece": "expected calibration error of all answers yes or no, by the probability of the answer",
    "roc_auc": "mean over the classes that some texts have and others have not; null where there are none",
    "examples_per_second": "texts through the model, tokenizing and compilation excluded",
}

_loss_parts = jax.jit(multi_label_loss_parts, static_argnames="config")

Labels = Bool[np.ndarray, "N C"]


def compute_multi_label_metrics(evaluation: Evaluation, class_names: Sequence[str], loss: LossConfig) -> dict[str, Any]:
    """All metrics of an evaluation, ready for JSON; `MEANINGS` explains those that need it.

    Averages ("macro") run over the classes that occur in the truth or in the predictions.

    Returns:
      Numbers by name; `per_class` is a list with a dict for every class.
    """
    labels, predictions, logits = evaluation.labels, evaluation.predictions, evaluation.logits
    results: dict[str, Any] = {
        "examples": len(labels),
        "accuracy": float(metrics.accuracy_score(labels, predictions)),
        "hamming_loss": float(metrics.hamming_loss(labels, predictions)),
        **_averages(labels, predictions),
    }
    losses = jax.device_get(_loss_parts(logits, labels, loss))
    parts = {name: float(values.mean(dtype=np.float64)) for name, values in losses.items()}
    average_precision = _average_precision(labels, logits)
    occurring = average_precision[labels.any(axis=0)]
    results |= {"loss": float(combine(parts, loss))} | {f"loss_{name}": value for name, value in parts.items()}
    results |= {
        "average_precision": float(occurring.mean()) if len(occurring) else 0.0,
        "micro_average_precision": float(_average_precision(labels.reshape(-1, 1), logits.reshape(-1, 1))[0]),
        "coverage_error": float(metrics.coverage_error(labels, logits)),
        "label_ranking_average_precision": float(metrics.label_ranking_average_precision_score(labels, logits)),
        "label_ranking_loss": float(metrics.label_ranking_loss(labels, logits)),
        "roc_auc": _roc_auc(labels, logits),
        **quality(labels, logits, evaluation.probabilities),
        "examples_per_second": len(labels) / evaluation.seconds,
        "per_class": _per_class(labels, predictions, average_precision, class_names),
    }
    return results


def quality(
    labels: Labels, logits: Float[np.ndarray, "N C"], probabilities: Float[np.ndarray, "N C"]
) -> dict[str, float]:
    """`cross_entropy`, `log_loss`, `brier` and `ece` of probabilities against the truth."""
    cross_entropy = float(np.logaddexp(0, np.where(labels, -logits, logits).astype(np.float64)).mean())
    return {
        "cross_entropy": cross_entropy,
        "log_loss": cross_entropy,
        "brier": float(np.square(probabilities - labels).mean()),
        "ece": expected_calibration_error(*answers(labels, probabilities)),
    }


def answers(labels: Labels, probabilities: Float[np.ndarray, "N C"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth [N C], answers [N C] and probabilities [N C,2] of every question whether a text has a class."""
    yes = probabilities.ravel()
    return labels.ravel().astype(int), (yes >= 0.5).astype(int), np.stack([1 - yes, yes], axis=-1)


def reliability(evaluation: Evaluation) -> tuple[np.ndarray, float]:
    """`calibration_table` and expected calibration error of all answers yes or no."""
    asked = answers(evaluation.labels, evaluation.probabilities)
    return calibration_table(*asked), expected_calibration_error(*asked)


def _averages(labels: Labels, predictions: Labels) -> dict[str, float]:
    occurring = np.flatnonzero(labels.any(axis=0) | predictions.any(axis=0))
    results = {}
    for average in ("macro", "weighted", "micro"):
        scores = (0.0, 0.0, 0.0, None)
        if len(occurring):
            scores = _scores(labels, predictions, average, occurring)
        precision, recall, f1, _ = scores
        results |= {
            f"{average}_f1": float(f1),
            f"{average}_precision": float(precision),
            f"{average}_recall": float(recall),
        }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one: Any = 1  # scikit-learn's `zero_division`, which it declares to be a string
        results["sample_f1"] = float(metrics.f1_score(labels, predictions, average="samples", zero_division=one))
    return results


def _scores(labels: Labels, predictions: Labels, average: Any, classes: np.ndarray | None = None) -> Any:
    zero: Any = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what has no recall; zero_division says what it gets
        return metrics.precision_recall_fscore_support(
            labels, predictions, labels=classes, average=average, zero_division=zero
        )


def _average_precision(labels: Labels, logits: Float[np.ndarray, "N C"]) -> np.ndarray:
    """[C], 0 for classes that do not occur."""
    result = np.zeros(labels.shape[1])
    for index in np.flatnonzero(labels.any(axis=0)):
        result[index] = metrics.average_precision_score(labels[:, index], logits[:, index])
    return result


def _roc_auc(labels: Labels, logits: Float[np.ndarray, "N C"]) -> float | None:
    both = np.flatnonzero(labels.any(axis=0) & ~labels.all(axis=0))
    areas = [metrics.roc_auc_score(labels[:, index], logits[:, index]) for index in both]
    return float(np.mean(areas)) if areas else None


def _per_class(
    labels: Labels, predictions: Labels, average_precision: np.ndarray, class_names: Sequence[str]
) -> list[dict[str, Any]]:
    precision, recall, f1, support = _scores(labels, predictions, None)
    columns = (precision, recall, f1, average_precision, support, count_classes(predictions, len(class_names)))
    names = ("class", "precision", "recall", "f1", "average_precision", "support", "predicted")
    rows = zip(class_names, *(np.asarray(column).tolist() for column in columns), strict=True)
    return [dict(zip(names, row, strict=True)) for row in rows]
