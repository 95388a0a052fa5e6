"""Calibration: known temperatures are found, promises hold on new texts, bad files are one line."""

import json

import numpy as np
import pytest

from amsdff_jax import UserError
from amsdff_jax.evaluation.calibration import (
    Calibration,
    calibrate,
    find_label_probability,
    find_threshold,
    fit_temperature,
    quality,
    softmax,
)
from amsdff_jax.evaluation.calibration_file import read_calibration, write_calibration

NAMES = ("a", "b", "c", "d", "e")


def draw(number: int, seed: int, overconfidence: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels drawn from them: calibrated, if not for the factor."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(number, len(NAMES))) * 4
    labels = (logits + random.gumbel(size=logits.shape)).argmax(axis=-1)
    return (logits * overconfidence).astype(np.float32), labels


@pytest.mark.parametrize("overconfidence", [0.3, 1.0, 4.0])
def test_the_temperature_undoes_overconfidence(overconfidence):
    logits, labels = draw(6000, 0, overconfidence)
    assert fit_temperature(logits, labels) == pytest.approx(overconfidence, rel=0.06)
    new_logits, new_labels = draw(20_000, 1, overconfidence)
    assert quality(softmax(new_logits, fit_temperature(logits, labels)), new_labels)["ece"] < 0.02


def test_quality_after_is_measured_on_other_texts_than_the_temperature_was_fitted_on():
    # Random labels: the best temperature flattens everything, and no fit to its own texts can look better than that.
    logits = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32) * 9
    labels = np.random.default_rng(1).integers(0, 5, 40)
    calibration = calibrate(logits, labels, NAMES)
    fitted_on_all = quality(calibration.probabilities(logits), labels)["log_loss"]
    assert fitted_on_all < calibration.after["log_loss"] < calibration.before["log_loss"]


@pytest.mark.parametrize(("number", "target"), [(400, 0.9), (1000, 0.9), (1000, 0.82)])
def test_precision_above_the_threshold_holds_on_new_texts(number, target):
    new_logits, new_labels = draw(20_000, 10**6)
    probabilities, correct = softmax(new_logits), new_logits.argmax(axis=-1) == new_labels
    assert correct.mean() < target  # so that there is something to do
    precisions, kept = [], []
    for seed in range(60):
        logits, labels = draw(number, seed)
        answered = probabilities.max(axis=-1) >= find_threshold(softmax(logits), labels, target)
        precisions.append(correct[answered].mean())
        kept.append(answered.mean())
    assert np.mean(np.array(precisions) >= target) >= 0.93  # promised: 0.95
    assert np.mean(kept) > 0.4  # and yet it does not abstain from everything


def test_a_model_that_is_good_enough_never_abstains():
    labels = np.arange(300) % 5
    probabilities = softmax(np.eye(5)[labels].astype(np.float32) * 4)
    assert find_threshold(probabilities, labels, 0.95) == 0


def test_as_many_right_answers_as_the_bound_needs():
    # 0.0025 is a twentieth of the risk, and 0.0025 ** (1 / 117) is the first of these to reach 0.95.
    labels = np.zeros(117, int)
    probabilities = softmax(np.stack([np.linspace(3, 4, 117), np.zeros(117)], axis=1))
    assert find_threshold(probabilities, labels, 0.95) == 0
    with pytest.raises(UserError, match=r"at best, 0\.950"):
        find_threshold(probabilities[1:], labels[1:], 0.95)


def test_a_precision_out_of_reach_says_what_would_help():
    logits, labels = draw(90, 0)
    with pytest.raises(UserError, match=r"no threshold has a precision of 0.95.*more than these 90 texts \(117 are"):
        find_threshold(softmax(logits), labels, 0.95)


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_label_sets_hold_the_truth_as_often_as_asked(coverage):
    new_logits, new_labels = draw(20_000, 10**6)
    shares = []
    for seed in range(40):
        logits, labels = draw(300, seed)
        probability = find_label_probability(softmax(logits), labels, coverage)
        sets = Calibration(NAMES, 1.0, label_probability=probability, coverage=coverage).label_sets(softmax(new_logits))
        assert sets.any(axis=-1).all()
        shares.append(sets[np.arange(20_000), new_labels].mean())
    assert coverage - 0.005 < np.mean(shares) < coverage + 0.02


def test_the_quantile_of_few_texts_is_exact():
    of_truth = np.array([0.9, 0.2, 0.5, 0.7, 0.3, 0.6, 0.4, 0.8, 0.25])
    probabilities = np.stack([of_truth, 1 - of_truth], axis=1)
    labels = np.zeros(9, int)
    assert find_label_probability(probabilities, labels, 0.9) == 0.2  # rank 9 of 9
    assert find_label_probability(probabilities, labels, 0.8) == 0.25
    with pytest.raises(UserError, match=r"a coverage of 0.91 needs at least 11 texts, got 9"):
        find_label_probability(probabilities, labels, 0.91)


@pytest.mark.parametrize(("name", "value"), [("target_precision", 1.0), ("coverage", -0.1), ("coverage", 95)])
def test_targets_are_shares(name, value):
    with pytest.raises(UserError, match="expected a number between 0 and 1"):
        calibrate(*draw(50, 0), NAMES, **{name: value})


def test_a_file_comes_back_as_it_was(tmp_path):
    calibration = calibrate(*draw(800, 0, 2.0), NAMES, target_precision=0.85, coverage=0.9, file="held_out.csv")
    assert read_calibration(tmp_path, NAMES) is None
    write_calibration(tmp_path, calibration)
    assert read_calibration(tmp_path, NAMES) == calibration
    assert [file.name for file in tmp_path.iterdir()] == ["calibration.json"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": -1}, "temperature: expected a number above 0"),
        ({"temperature": "warm"}, "temperature: expected a number, got 'warm'"),
        ({"threshold": 3.0}, "threshold: expected a number from 0 to 1"),
        ({"threshold": float("nan")}, "threshold: expected a number from 0 to 1, got nan"),
        ({"label_probability": float("nan")}, "label_probability: expected a number from 0 to 1"),
        ({"label_set_size": float("nan")}, "label_set_size: expected a number of classes"),
        ({"temperature": float("inf")}, "temperature: expected a number above 0"),
        ({"format_version": 2}, "is in format 2, expected 1"),
        ({"class_names": ["x", "y", "z", "p", "q"]}, "belongs to a model with other class names"),
        ({"temprature": 1.0}, "temprature: no such field; did you mean temperature"),
        (None, "not valid JSON"),
    ],
)
def test_a_damaged_file_is_one_line(change, message, tmp_path):
    write_calibration(tmp_path, calibrate(*draw(40, 0), NAMES))
    file = tmp_path / "calibration.json"
    text = file.read_text()
    file.write_text(text[:50] if change is None else json.dumps(json.loads(text) | change))
    with pytest.raises(UserError, match=f"calibration.json: {message}.*calibrate again"):
        read_calibration(tmp_path, NAMES)
