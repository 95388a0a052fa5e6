"""Thresholds of several labels a text: the best by trying all, promises held on new texts."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from amsdff_jax import UserError
from amsdff_jax.evaluation.calibration_file import read_calibration, write_calibration
from amsdff_jax.evaluation.multi_label_calibration import (
    NEVER,
    MultiLabelCalibration,
    calibrate_thresholds,
    f1_scores,
    find_label_probability,
    find_thresholds,
    sigmoid,
)

NAMES = ("a", "b", "c", "d")


def draw(number: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits, shifted by class, and labels drawn from them; no text has the last class."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(number, 4)) * 3 - 1
    labels = random.random((number, 4)) < sigmoid(logits)
    labels[:, 3] = False
    return (logits + np.array([0, 2, -2, 0])).astype(np.float32), labels


def test_no_other_threshold_has_a_better_f1():
    logits, labels = draw(61, seed=1)
    probabilities = sigmoid(np.round(logits))  # so that there are equals
    thresholds = find_thresholds(probabilities, labels)
    assert thresholds[3] == 0.5
    for column in range(3):
        tried = [f1_score(labels[:, column], probabilities[:, column] >= t) for t in np.linspace(0, 1, 40)]
        assert f1_score(labels[:, column], probabilities[:, column] >= thresholds[column]) >= max(tried)


def test_precision_holds_on_new_texts_for_each_class():
    (logits, labels), (new, truth) = draw(3000, seed=2), draw(20000, seed=3)
    calibration = calibrate_thresholds(logits, labels, NAMES, target_precision=0.9)
    chosen = calibration.labels(calibration.probabilities(new))
    assert calibration.thresholds[3] == NEVER and not chosen[:, 3].any()
    for column in range(3):
        assert truth[chosen[:, column], column].mean() >= 0.9 and chosen[:, column].sum() > 500
    with pytest.raises(UserError, match=r"no class has a precision of 0\.999 for certain"):
        calibrate_thresholds(logits[:50], labels[:50], NAMES, target_precision=0.999)


@pytest.mark.parametrize("rate", [0.05, 0.3])
def test_label_sets_lack_no_more_than_was_asked_and_not_much_less(rate):
    missing = []
    for seed in range(60):
        logits, labels = draw(100, seed)
        probability = find_label_probability(sigmoid(logits), labels, rate)
        new, truth = draw(1000, seed + 1000)
        held = sigmoid(new) >= probability
        missing.append(((truth & ~held).sum(axis=1) / np.maximum(truth.sum(axis=1), 1)).mean())
    assert rate - 0.03 < np.mean(missing) <= rate + 2 * np.std(missing) / 60**0.5


def test_the_label_probability_is_the_highest_that_the_bound_allows():
    logits, labels = draw(37, seed=5)
    probabilities = sigmoid(logits)

    def bound(threshold):
        lacking = (labels & (probabilities < threshold)).sum(axis=1) / np.maximum(labels.sum(axis=1), 1)
        return (lacking.sum() + 1) / 38

    found = find_label_probability(probabilities, labels, 0.2)
    assert bound(found) <= 0.2 < bound(np.nextafter(found, 2))
    with pytest.raises(UserError, match=r"a false negative rate of 0\.01 needs at least 99 texts, got 37"):
        find_label_probability(probabilities, labels, 0.01)


def test_thresholds_help_and_are_kept_in_the_folder(tmp_path):
    calibration = calibrate_thresholds(*draw(400, seed=6), NAMES, false_negative_rate=0.1, file="x.csv")
    assert calibration.after["macro_f1"] > calibration.before["macro_f1"]
    assert 0 < calibration.label_set_size <= 4
    write_calibration(tmp_path, calibration)
    assert read_calibration(tmp_path, NAMES, "multi_label") == calibration
    for class_names, task in ((NAMES, "single"), (NAMES[::-1], "multi_label")):
        with pytest.raises(UserError, match=r"calibration\.json: .*calibrate again"):
            read_calibration(tmp_path, class_names, task)
    with pytest.raises(UserError, match="thresholds: expected 4 numbers"):
        MultiLabelCalibration(NAMES, (0.5,))


def test_f1_scores_are_those_of_scikit_learn():
    logits, labels = draw(80, seed=7)
    chosen = logits > 1
    chosen[:, 3] = False
    scores = f1_scores(chosen, labels)
    assert scores["micro_f1"] == pytest.approx(f1_score(labels, chosen, average="micro"), abs=1e-12)
    assert scores["macro_f1"] == pytest.approx(f1_score(labels[:, :3], chosen[:, :3], average="macro"), abs=1e-12)
