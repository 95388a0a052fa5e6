"""Metrics of ordered classes are scikit-learn's, beside those of single labels."""

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from amsdff_jax.config import LossConfig
from amsdff_jax.evaluation.evaluator import Evaluation
from amsdff_jax.evaluation.metrics import METRICS, best_metric, compute_metrics, lower_is_better

NAMES = ("a", "b", "c", "d", "e", "f")


def evaluate(labels: np.ndarray, predictions: np.ndarray, task: str) -> dict:
    logits = np.log(np.eye(len(NAMES), dtype=np.float32)[predictions] * 0.9 + 0.01)
    return compute_metrics(Evaluation(labels.astype(np.int32), logits, 0, 2.0, task), NAMES, LossConfig())


@pytest.mark.parametrize("seed", range(5))
def test_metrics_are_those_of_the_library_with_classes_that_do_not_occur(seed):
    rng = np.random.default_rng(seed)
    used = rng.choice(len(NAMES), 2 + seed % 4, replace=False)
    labels, predictions = rng.choice(used, 41), rng.choice(used, 41)
    found, single = (evaluate(labels, predictions, task) for task in ("ordinal", "single"))
    assert found.keys() == METRICS["ordinal"].names
    kappa = cohen_kappa_score(labels, predictions, labels=range(len(NAMES)), weights="quadratic")
    steps = np.abs(labels - predictions)
    # Of its definition: squared steps, by those of pairs drawn at random.
    chance = np.square(labels[:, None] - predictions[None]).mean()
    assert found["quadratic_weighted_kappa"] == pytest.approx(kappa, abs=1e-12)
    assert found["quadratic_weighted_kappa"] == pytest.approx(1 - np.square(steps).mean() / chance, abs=1e-12)
    assert found["mae"] == pytest.approx(steps.mean(), abs=1e-12)
    assert found["off_by_one_accuracy"] == pytest.approx((steps <= 1).mean(), abs=1e-12)
    assert {name: found[name] for name in single if name in found} == {
        name: value for name, value in single.items() if name != "mape"
    }


def test_kappa_of_a_single_class_is_null_and_of_its_opposite_below_0():
    same = np.full(7, 2)
    assert evaluate(same, same, "ordinal")["quadratic_weighted_kappa"] is None
    assert evaluate(np.array([0, 5]), np.array([5, 0]), "ordinal")["quadratic_weighted_kappa"] == pytest.approx(-1)


def test_the_default_metric_is_the_kappa():
    assert best_metric("auto", "ordinal") == "quadratic_weighted_kappa"
    assert best_metric("macro_f1", "ordinal") == "macro_f1"
    assert best_metric("accuracy", "ordinal") == "accuracy"
    assert lower_is_better("mae", "ordinal") and not lower_is_better("quadratic_weighted_kappa", "ordinal")
    assert METRICS["ordinal"].meanings.keys() <= METRICS["ordinal"].names
