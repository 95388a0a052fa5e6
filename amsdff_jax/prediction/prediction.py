"""Logits to the answers that users get: a label, its probability and what a calibration says of them."""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

import numpy as np

from amsdff_jax.evaluation.calibration import Calibration
from amsdff_jax.evaluation.calibration_file import AnyCalibration
from amsdff_jax.evaluation.multi_label_calibration import MultiLabelCalibration
from amsdff_jax.evaluation.regression_calibration import RegressionCalibration
from amsdff_jax.reporting.escape import percent
from amsdff_jax.reporting.render import render
from amsdff_jax.reporting.table import Column, Table, columns


class ScoredLabel(NamedTuple):
    """A class and its probability, which other libraries call its score."""

    label: str
    probability: float

    @property
    def score(self) -> float:
        """The probability."""
        return self.probability


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a model says of one text.

    Attributes:
      label: name of the most likely class.
      probability: of that class; calibrated, if the model is.
      top_k: the most likely classes, best first, as many as were asked for.
      truncated: whether the text was truncated to the model's maximal length.
      abstained: whether the probability is below the threshold that the model was calibrated with, so that `label`
        should not be relied on.
      label_set: the classes that hold the truth with the probability that the model was calibrated for, most likely
        first; None for a model without label sets.
    """

    label: str
    probability: float
    top_k: tuple[ScoredLabel, ...]
    truncated: bool
    abstained: bool = False
    label_set: tuple[str, ...] | None = None

    @property
    def score(self) -> float:
        """The probability, under the name that other libraries have for it."""
        return self.probability

    def _repr_html_(self) -> str:
        """What a notebook shows: the classes of `top_k`, and what is to be known of the label."""
        notes = ["The text was truncated to the model's maximal length."] * self.truncated
        notes += ["The model abstains: the probability is below its threshold."] * self.abstained
        if self.label_set is not None:
            notes.append(f"Label set: {', '.join(self.label_set)}")
        return _notebook(self.top_k, notes)


@dataclasses.dataclass(frozen=True)
class MultiLabelPrediction:
    """What a model says of one text that may have any number of classes.

    Attributes:
      labels: the classes whose probability reaches their threshold, most likely first; perhaps none.
      top_k: the most likely classes, best first, as many as were asked for, whether they reach it or not.
      truncated: whether the text was truncated to the model's maximal length.
      label_set: the classes among which no larger share of the text's labels is missing, on average, than the model was
        calibrated for, most likely first; None for a model without such sets.
    """

    labels: tuple[ScoredLabel, ...]
    top_k: tuple[ScoredLabel, ...]
    truncated: bool
    label_set: tuple[str, ...] | None = None

    def _repr_html_(self) -> str:
        """What a notebook shows: the classes of `top_k`, and which of them the text has."""
        notes = [f"Labels: {', '.join(label for label, _ in self.labels) or 'none'}"]
        notes += ["The text was truncated to the model's maximal length."] * self.truncated
        if self.label_set is not None:
            notes.append(f"Label set: {', '.join(self.label_set) or 'none'}")
        return _notebook(self.top_k, notes)


@dataclasses.dataclass(frozen=True)
class NumberPrediction:
    """What a model says of one text whose label is a number.

    Attributes:
      value: the number, in the unit of the labels.
      truncated: whether the text was truncated to the model's maximal length.
      interval: its ends, between which the truth lies with the probability that the model was calibrated for; None for
        a model that was not.
    """

    value: float
    truncated: bool
    interval: tuple[float, float] | None = None


AnyPrediction: TypeAlias = Prediction | MultiLabelPrediction | NumberPrediction


def _notebook(scores: tuple[ScoredLabel, ...], notes: list[str]) -> str:
    rows = [(label, percent(probability), probability) for label, probability in scores]
    classes = Table([*columns("Class", "Probability"), Column("", "weight")], rows)
    return render("notebook.html.j2", classes=classes, notes=notes, words=None)


def make_predictions(
    logits: np.ndarray, truncated: np.ndarray, calibration: AnyCalibration, top_k: int | None
) -> Iterator[AnyPrediction | None]:
    """A prediction for every row of logits, None for one that is not finite.

    Args:
      logits: [N,C] float32.
      truncated: [N] bool, whether the text was truncated.
      calibration: of the model.
      top_k: as many classes are in `Prediction.top_k`; None: all.
    """
    finite = np.all(np.isfinite(logits), axis=-1, keepdims=True)[:, 0]
    known = np.where(finite[:, None], logits, 0)
    if isinstance(calibration, MultiLabelCalibration):
        answers = _label_lists(known, truncated, calibration, top_k)
    elif isinstance(calibration, RegressionCalibration):
        answers = _numbers(known, truncated, calibration)
    else:
        answers = _single_labels(known, truncated, calibration, top_k)
    for answer, is_finite in zip(answers, finite, strict=True):
        yield answer if is_finite else None


def _numbers(
    logits: np.ndarray, truncated: np.ndarray, calibration: RegressionCalibration
) -> Iterator[NumberPrediction]:
    for value, is_truncated in zip(logits[:, 0].tolist(), truncated.tolist(), strict=True):
        ends = (value - calibration.half_width, value + calibration.half_width)
        yield NumberPrediction(value, is_truncated, ends if calibration.has_intervals else None)


def _single_labels(
    logits: np.ndarray, truncated: np.ndarray, calibration: Calibration, top_k: int | None
) -> Iterator[Prediction]:
    probabilities = calibration.probabilities(logits)
    abstained: np.ndarray = calibration.abstains(probabilities)
    sets = calibration.label_sets(probabilities) if calibration.has_label_sets else None
    names = calibration.class_names
    for row, classes in enumerate(_by_logit(logits)):
        best = tuple(ScoredLabel(names[label], float(probabilities[row, label])) for label in classes[:top_k])
        label_set = None if sets is None else tuple(names[label] for label in classes if sets[row, label])
        yield Prediction(*best[0], best, bool(truncated[row]), bool(abstained[row]), label_set)


def _label_lists(
    logits: np.ndarray, truncated: np.ndarray, calibration: MultiLabelCalibration, top_k: int | None
) -> Iterator[MultiLabelPrediction]:
    probabilities = calibration.probabilities(logits)
    chosen = calibration.labels(probabilities)
    sets = calibration.label_sets(probabilities) if calibration.has_label_sets else None
    names = calibration.class_names
    for row, classes in enumerate(_by_logit(logits)):
        scored = [ScoredLabel(names[label], float(probabilities[row, label])) for label in classes]
        labels = tuple(each for each, label in zip(scored, classes, strict=True) if chosen[row, label])
        label_set = None if sets is None else tuple(names[label] for label in classes if sets[row, label])
        yield MultiLabelPrediction(labels, tuple(scored[:top_k]), bool(truncated[row]), label_set)


def _by_logit(logits: np.ndarray) -> np.ndarray:
    """[N,C] the classes of each text, the most likely first; as `Evaluation.predictions` has them.

    Not by probability: different logits may have the same one.
    """
    return np.argsort(-logits, axis=-1, kind="stable")
