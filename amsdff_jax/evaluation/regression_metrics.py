"""Numbers of an evaluation where labels are numbers, computed by scikit-learn and SciPy."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from etils import epy

from amsdff_jax.config import LossConfig
from amsdff_jax.evaluation.evaluator import Evaluation

with epy.lazy_imports():  # as in `metrics`
    from scipy import stats
    from sklearn import metrics

LOWER_IS_BETTER = frozenset({"mae", "rmse", "mse", "median_absolute_error"})
HIGHER_IS_BETTER = frozenset({"r2", "spearman"})
NAMES = LOWER_IS_BETTER | HIGHER_IS_BETTER | {"examples", "examples_per_second"}

MEANINGS = {
    "mae": "mean absolute error, in the unit of the labels",
    "rmse": "square root of the mean squared error, in the unit of the labels",
    "mse": "mean squared error, in the squared unit of the labels",
    "median_absolute_error": "median of the absolute error, in the unit of the labels",
    "r2": "coefficient of determination: 1 - mse / variance of the labels; null where all labels are equal",
    "spearman": "rank correlation of predicted and true numbers; null where all of either are equal",
    "examples_per_second": "texts through the model, tokenizing and compilation excluded",
}


def compute_regression_metrics(evaluation: Evaluation, class_names: Sequence[str], loss: LossConfig) -> dict[str, Any]:
    """All metrics of an evaluation, ready for JSON; `MEANINGS` explains those that need it.

    There is no `loss`: that of the training is of numbers in another unit.
    """
    truth, predicted = evaluation.labels, evaluation.predictions
    varies = bool(np.ptp(truth) > 0)
    ranked = varies and bool(np.ptp(predicted) > 0)
    correlation: Any = stats.spearmanr(truth, predicted) if ranked else None
    return {
        "examples": len(truth),
        "mae": float(metrics.mean_absolute_error(truth, predicted)),
        "rmse": float(metrics.root_mean_squared_error(truth, predicted)),
        "mse": float(metrics.mean_squared_error(truth, predicted)),
        "median_absolute_error": float(metrics.median_absolute_error(truth, predicted)),
        "r2": float(metrics.r2_score(truth, predicted)) if varies else None,
        "spearman": float(correlation.statistic) if ranked else None,
        "examples_per_second": len(truth) / evaluation.seconds,
    }
