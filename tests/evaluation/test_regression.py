"""Metrics of numbers are scikit-learn's and SciPy's; intervals hold what they promise."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.stats import spearmanr
from sklearn import metrics

from amsdff_jax.base.errors import UserError
from amsdff_jax.config import LossConfig
from amsdff_jax.evaluation.evaluator import Evaluation
from amsdff_jax.evaluation.metrics import METRICS, best_metric, compute_metrics
from amsdff_jax.evaluation.regression_calibration import calibrate_intervals
from amsdff_jax.models.targets import TargetScale


@pytest.mark.parametrize("seed", range(5))
def test_metrics_are_those_of_the_libraries(seed):
    rng = np.random.default_rng(seed)
    truth = rng.normal(3, 2, 41).round(seed % 2)  # with ties, too
    logits = (truth[:, None] + rng.normal(size=(41, 1))).astype(np.float32)
    found = compute_metrics(Evaluation(truth, logits, 0, 2.0, "regression"), ("x",), LossConfig())
    predicted = logits[:, 0].astype(np.float64)
    expected = {
        "mae": metrics.mean_absolute_error(truth, predicted),
        "mse": metrics.mean_squared_error(truth, predicted),
        "rmse": np.sqrt(np.mean((truth - predicted) ** 2)),
        "median_absolute_error": np.median(np.abs(truth - predicted)),
        "r2": metrics.r2_score(truth, predicted),
        "spearman": spearmanr(truth, predicted).statistic,
        "examples": 41,
        "examples_per_second": 20.5,
    }
    assert found == pytest.approx(expected, abs=1e-12, rel=1e-12)
    assert found.keys() == METRICS["regression"].names


def test_what_is_not_defined_is_null():
    truth, logits = np.ones(3), np.array([[1], [2], [3]], np.float32)
    found = compute_metrics(Evaluation(truth, logits, 0, 1.0, "regression"), ("x",), LossConfig())
    assert found["r2"] is None and found["spearman"] is None and found["mae"] == 1


def test_the_default_metric_is_one_that_the_task_has():
    assert best_metric("auto", "regression") == "rmse"
    assert best_metric("spearman", "regression") == "spearman"
    assert best_metric("auto", "single") == best_metric("auto", "multi_label") == "macro_f1"
    assert all(kind.default in kind.higher_is_better | kind.lower_is_better for kind in METRICS.values())


@pytest.mark.parametrize(("coverage", "texts"), [(0.9, 99), (0.8, 150), (0.5, 31)])
def test_intervals_cover_as_many_new_texts_as_promised(coverage, texts):
    rng, held, promised = np.random.default_rng(1), [], []
    for _ in range(200):
        logits = rng.normal(size=(texts + 500, 1)).astype(np.float32)
        truth = logits[:, 0] + rng.standard_t(3, size=len(logits)) * 2 + 0.3
        fitted = calibrate_intervals(logits[:texts], truth[:texts], ("x",), coverage)
        held.append(np.mean(np.abs(logits[texts:, 0] - truth[texts:]) <= fitted.half_width))
        promised.append(fitted.coverage)
    # The mean lies from the coverage to 1 / (N + 1) above it; one of 200 resamples with its own noise.
    noise = 4 * np.std(held) / np.sqrt(200)
    assert coverage - noise <= np.mean(held) <= coverage + 1 / (texts + 1) + noise
    assert set(promised) == {coverage}


def test_the_rank_of_the_error_is_that_of_split_conformal_prediction():
    errors = np.arange(1.0, 10.0)  # the 9th of 9 errors holds 9 of 10 new texts
    zeros = np.zeros((9, 1), np.float32)
    assert calibrate_intervals(zeros, errors, ("x",), 0.9).half_width == 9
    assert calibrate_intervals(zeros, -errors, ("x",), 0.8).half_width == 8
    with pytest.raises(UserError, match=r"9 texts to calibrate on; a coverage of 0\.95 takes at least 19"):
        calibrate_intervals(zeros, errors, ("x",), 0.95)
    nineteen = np.zeros((19, 1), np.float32)
    assert calibrate_intervals(nineteen, np.arange(19.0), ("x",), 0.95).half_width == 18


def test_a_scale_is_undone_by_the_last_layer():
    from amsdff_jax.models.layers import Linear

    labels = np.array([1e6, 1e6 + 3, 1e6 + 9])
    scale = TargetScale.of(labels)
    standard = scale.standardize(labels)
    assert np.mean(standard) == pytest.approx(0, abs=1e-9) and np.std(standard) == pytest.approx(1)
    np.testing.assert_allclose(scale.in_unit(standard[:, None].astype(np.float32))[:, 0], labels, rtol=1e-7)

    class Model(nnx.Module):
        def __init__(self):
            self.classifier = Linear(5, 1, dtype=np.float32, rngs=nnx.Rngs(0))

    model, x = Model(), jnp.asarray(np.random.default_rng(0).normal(size=(7, 5)), jnp.float32)
    before = np.asarray(model.classifier(x))
    scale.fold_into(model)
    np.testing.assert_allclose(np.asarray(model.classifier(x)), scale.in_unit(before), rtol=1e-6)
