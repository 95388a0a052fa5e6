"""Numbers of an evaluation. Everything is computed over all texts at once, by scikit-learn."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epy

from amsdff_jax.config import LossConfig, TrainConfig
from amsdff_jax.evaluation import multi_label_metrics, regression_metrics
from amsdff_jax.evaluation.calibration import (
    CALIBRATION_BINS,
    Labels,
    Probabilities,
    brier_score,
    expected_calibration_error,
    log_loss,
)
from amsdff_jax.evaluation.evaluator import Evaluation
from amsdff_jax.models.losses import combine, loss_parts

with epy.lazy_imports():  # it takes two seconds to load, which the first step of a run need not wait for
    from sklearn import metrics

# What a run may choose its best checkpoint by.
LOWER_IS_BETTER = frozenset(
    {"loss", "cross_entropy", "log_loss", "brier", "ece", "mae", "rmse"}
    | {f"loss_{name}" for name in ("ce", "focal", "label_smoothing")}
)
HIGHER_IS_BETTER = frozenset(
    {"accuracy"}
    | {f"{average}_{name}" for average in ("macro", "weighted", "micro") for name in ("f1", "precision", "recall")}
)
NAMES = HIGHER_IS_BETTER | LOWER_IS_BETTER | {"examples", "mape", "roc_auc", "examples_per_second", "per_class"}

# Contrastive loss is not among the parts: it would depend on which texts share a batch.
_loss_parts = jax.jit(loss_parts, static_argnames="config")
ZERO: Any = 0  # scikit-learn's `zero_division`, which it declares to be a string

MEANINGS = {
    "loss": "the training loss without class weights, mean over texts; where labels are distributions, against these",
    "cross_entropy": "mean negative natural logarithm of the probability given to the true class, whatever the loss; "
    "where labels are distributions, against these",
    "mae": "mean absolute difference of true and predicted class NUMBER; meaningful only for ordered classes",
    "rmse": "root mean squared difference of true and predicted class number; meaningful only for ordered classes",
    "mape": "mean of |difference| / true class number in percent, over texts whose class number is not 0",
    "roc_auc": "one class against the rest, mean over the classes that occur; null where fewer than two occur",
    "log_loss": "cross_entropy under scikit-learn's name",
    "brier": "mean squared distance of the probabilities from the true class's indicator, summed over classes",
    "ece": f"expected calibration error, {CALIBRATION_BINS} equally wide bins of the top probability",
    "examples_per_second": "texts through the model, tokenizing and compilation excluded",
}


def compute_metrics(evaluation: Evaluation, class_names: Sequence[str], loss: LossConfig) -> dict[str, Any]:
    """All metrics of an evaluation, those of its task, ready for JSON; its meanings explain those that need it.

    Returns:
      Numbers by name; `per_class` is a list with a dict for every class.
    """
    return METRICS[evaluation.task].compute(evaluation, class_names, loss)


def lower_is_better(metric: str, task: str) -> bool:
    """Whether a metric of a kind of task is an error; one that a caller has added is not."""
    return metric in METRICS[task].lower_is_better


def best_metric(metric: str, task: str) -> str:
    """`metric`, or what "auto", the default of `train.best_metric`, means in a kind of task."""
    return METRICS[task].default if metric == TrainConfig.best_metric else metric


def _compute(evaluation: Evaluation, class_names: Sequence[str], loss: LossConfig) -> dict[str, Any]:
    """The metrics where a text has one class. Of a distribution that is the likeliest, but for the losses.

    Averages ("macro") run over the classes that occur in the truth or in the predictions.

    Returns:
      Numbers by name; `per_class` is a list with a dict for every class.
    """
    labels, predictions, probabilities = evaluation.classes, evaluation.predictions, evaluation.probabilities
    results: dict[str, Any] = {"examples": len(labels), "accuracy": float(metrics.accuracy_score(labels, predictions))}
    for average in ("macro", "weighted", "micro"):
        precision, recall, f1, _ = metrics.precision_recall_fscore_support(
            labels, predictions, average=average, zero_division=ZERO
        )
        results |= {
            f"{average}_f1": float(f1),
            f"{average}_precision": float(precision),
            f"{average}_recall": float(recall),
        }
    losses = jax.device_get(_loss_parts(evaluation.logits, evaluation.labels, loss))
    parts = {name: float(values.mean(dtype=np.float64)) for name, values in losses.items()}
    cross_entropy = log_loss(probabilities, evaluation.labels)
    results |= {"loss": float(combine(parts, loss)), "cross_entropy": cross_entropy}
    results |= {f"loss_{name}": value for name, value in parts.items()}
    results |= _class_number_errors(labels, predictions)
    results |= {
        "roc_auc": _roc_auc(labels, probabilities),
        "log_loss": cross_entropy,
        "brier": brier_score(probabilities, labels),
        "ece": expected_calibration_error(labels, predictions, probabilities),
        "examples_per_second": len(labels) / evaluation.seconds,
        "per_class": _per_class(labels, predictions, class_names),
    }
    return results


def _compute_ordinal(evaluation: Evaluation, class_names: Sequence[str], loss: LossConfig) -> dict[str, Any]:
    """The metrics where a text has one class of several in an order: those of `_compute`, and how far off they are."""
    labels, predictions, order = evaluation.classes, evaluation.predictions, range(len(class_names))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where all texts have, and get, the same class there is none
        kappa = float(metrics.cohen_kappa_score(labels, predictions, labels=order, weights="quadratic"))
    results = _compute(evaluation, class_names, loss)
    del results["mape"]  # a class number is no amount
    return results | {
        "quadratic_weighted_kappa": kappa if np.isfinite(kappa) else None,
        "off_by_one_accuracy": float(np.mean(np.abs(labels - predictions) <= 1)),
    }


def _class_number_errors(labels: Labels, predictions: Labels) -> dict[str, float | None]:
    not_zero = labels != 0
    mape = None
    if not_zero.any():
        mape = float(100 * metrics.mean_absolute_percentage_error(labels[not_zero], predictions[not_zero]))
    return {
        "mae": float(metrics.mean_absolute_error(labels, predictions)),
        "rmse": float(metrics.root_mean_squared_error(labels, predictions)),
        "mape": mape,
    }


def _roc_auc(labels: Labels, probabilities: Probabilities) -> float | None:
    occurring = np.unique(labels)
    if len(occurring) < 2:
        return None
    areas = [metrics.roc_auc_score(labels == label, probabilities[:, label]) for label in occurring]
    return float(np.mean(areas))


def _per_class(labels: Labels, predictions: Labels, class_names: Sequence[str]) -> list[dict[str, Any]]:
    numbers = np.arange(len(class_names))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes that do not occur have no recall; zero_division says what they get
        scores = metrics.precision_recall_fscore_support(labels, predictions, labels=numbers, zero_division=ZERO)
    precision, recall, f1, support = (np.asarray(column).tolist() for column in scores)
    predicted = np.bincount(predictions, minlength=len(class_names)).tolist()
    names = ("class", "precision", "recall", "f1", "support", "predicted")
    rows = zip(class_names, precision, recall, f1, support, predicted, strict=True)
    return [dict(zip(names, row, strict=True)) for row in rows]


class TaskMetrics(NamedTuple):
    """The metrics of a kind of task.

    Attributes:
      compute: what `compute_metrics` calls.
      higher_is_better, lower_is_better: what a run may choose its best checkpoint by.
      names: of all of them.
      meanings: what needs an explanation.
      shown: the most important by the titles that a terminal shows them under.
      default: what the default of `train.best_metric` means.
    """

    compute: Callable[[Evaluation, Sequence[str], LossConfig], dict[str, Any]]
    higher_is_better: frozenset[str]
    lower_is_better: frozenset[str]
    names: frozenset[str]
    meanings: Mapping[str, str]
    shown: Mapping[str, str]
    default: str = "macro_f1"


_TEXTS, _MACRO_F1 = {"texts": "examples"}, {"macro F1": "macro_f1"}
_ERRORS = {"MAE": "mae", "RMSE": "rmse", "R²": "r2", "Spearman": "spearman"}

_ORDINAL = frozenset({"quadratic_weighted_kappa", "off_by_one_accuracy"})

METRICS = {
    "single": TaskMetrics(
        _compute,
        HIGHER_IS_BETTER,
        LOWER_IS_BETTER,
        NAMES,
        MEANINGS,
        shown={
            **_TEXTS,
            **{"accuracy": "accuracy", **_MACRO_F1, "loss": "loss", "cross-entropy": "cross_entropy", "ECE": "ece"},
        },
    ),
    "ordinal": TaskMetrics(
        _compute_ordinal,
        HIGHER_IS_BETTER | _ORDINAL,
        LOWER_IS_BETTER,
        (NAMES | _ORDINAL) - {"mape"},
        {
            **{name: meaning for name, meaning in MEANINGS.items() if name != "mape"},
            "mae": "mean absolute difference of true and predicted class in steps of their order",
            "rmse": "root mean squared difference of true and predicted class in steps of their order",
            "quadratic_weighted_kappa": "agreement beyond chance, an error weighing its squared steps (Cohen, 1968); "
            "null where all texts have and get the same class",
            "off_by_one_accuracy": "share of the texts that get their class or a neighbour of it",
        },
        shown={
            **_TEXTS,
            **{"quadratic kappa": "quadratic_weighted_kappa", "MAE": "mae", "off by one": "off_by_one_accuracy"},
            **{"accuracy": "accuracy", "cross-entropy": "cross_entropy", "ECE": "ece"},
        },
        default="quadratic_weighted_kappa",
    ),
    "multi_label": TaskMetrics(
        multi_label_metrics.compute_multi_label_metrics,
        multi_label_metrics.HIGHER_IS_BETTER,
        multi_label_metrics.LOWER_IS_BETTER,
        multi_label_metrics.NAMES,
        multi_label_metrics.MEANINGS,
        shown={
            **_TEXTS,
            **{"subset accuracy": "accuracy", "micro F1": "micro_f1", **_MACRO_F1},
            **{"average precision": "average_precision", "loss": "loss", "ECE": "ece"},
        },
    ),
    "regression": TaskMetrics(
        regression_metrics.compute_regression_metrics,
        regression_metrics.HIGHER_IS_BETTER,
        regression_metrics.LOWER_IS_BETTER,
        regression_metrics.NAMES,
        regression_metrics.MEANINGS,
        shown={**_TEXTS, **_ERRORS},
        default="rmse",
    ),
}
