"""Thresholds for texts that may have any number of classes, fitted on texts that the model has not seen in training."""

import dataclasses
import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float, Float64

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.validation import require
from amsdff_jax.evaluation.calibration import FOLDS, certain_threshold, sigmoid

HALF = 0.5
NEVER = 2.0  # a threshold that no probability reaches

# Tried for a precision, from the strictest on. They are fixed, so that none is picked for how it turns out.
CANDIDATES = (0.99, 0.98, 0.97, 0.95, *(round(0.9 - 0.05 * step, 2) for step in range(17)))

# Of N texts and C classes.
Logits = Float[np.ndarray, "N C"]
Probabilities = Float[np.ndarray, "N C"]
Labels = Bool[np.ndarray, "N C"]


@dataclasses.dataclass(frozen=True)
class MultiLabelCalibration:
    """What turns a model's logits into labels.

    Attributes:
      class_names: of the model that this belongs to.
      thresholds: [C] a text gets the classes whose probability is as high, or higher.
      target_precision: what they were chosen for, with certainty, of each class; 0: for the F1 of each class.
      label_probability: a label set holds the classes of at least this probability.
      false_negative_rate: the share of a text's labels that its label set lacks, on average, at most; 0: no label sets.
      label_set_size: mean number of classes in a set.
      texts: number of texts it was fitted on.
      file: name of the file that they came from.
      before, after: `f1_scores` with thresholds of 1/2 and with fitted ones, on texts that these were not fitted on.
    """

    class_names: tuple[str, ...]
    thresholds: tuple[float, ...]
    target_precision: float = 0.0
    label_probability: float = 0.0
    false_negative_rate: float = 0.0
    label_set_size: float = 0.0
    texts: int = 0
    file: str = ""
    before: dict = dataclasses.field(default_factory=dict)
    after: dict = dataclasses.field(default_factory=dict)

    task: ClassVar[str] = "multi_label"
    may_abstain: ClassVar[bool] = False  # a text without labels is an answer

    def __post_init__(self) -> None:
        fits = len(self.thresholds) == len(self.class_names) and all(0 <= each <= NEVER for each in self.thresholds)
        require(fits, "thresholds", self.thresholds, f"{len(self.class_names)} numbers from 0 to {NEVER:g}")
        for name in ("target_precision", "label_probability", "false_negative_rate"):
            require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "a number from 0 to 1")
        fits = 0 <= self.label_set_size <= len(self.class_names)
        require(fits, "label_set_size", self.label_set_size, "a number of classes")
        require(self.texts >= 0, "texts", self.texts, "a number of texts")

    @classmethod
    def neutral(cls, class_names: Sequence[str]) -> "MultiLabelCalibration":
        """That of a model that is not calibrated: thresholds of 1/2."""
        return cls(tuple(class_names), (HALF,) * len(class_names))

    @property
    def has_label_sets(self) -> bool:
        """Whether label sets were asked for."""
        return self.false_negative_rate > 0

    def probabilities(self, logits: Float[np.ndarray, "*N C"]) -> Float64[np.ndarray, "*N C"]:
        """The probability of each class by itself."""
        return sigmoid(logits)

    def labels(self, probabilities: Probabilities) -> Labels:
        """The classes that each text gets."""
        return probabilities >= np.array(self.thresholds)

    def label_sets(self, probabilities: Probabilities) -> Labels:
        """The classes in the label set of each text."""
        return probabilities >= self.label_probability


def calibrate_thresholds(
    logits: Logits,
    labels: Labels,
    class_names: Sequence[str],
    target_precision: float = 0.0,
    false_negative_rate: float = 0.0,
    file: str = "",
) -> MultiLabelCalibration:
    """Fits all that is asked for on held-out texts.

    Args:
      logits: of texts that the model was not trained on.
      labels: the truth.
      target_precision: of the texts that get a class, of each; 0: the thresholds are those of the best F1.
      false_negative_rate: share of a text's labels that its label set may lack, on average; 0: no label sets.
      file: where the texts came from, a name for people.

    Raises:
      UserError: too few texts, or a model too weak, for what is asked.
    """
    require(len(labels) >= FOLDS, "texts to calibrate on", len(labels), f"at least {FOLDS}")
    require(bool(np.isfinite(logits).all()), "logits", "NaN or infinity", "numbers")
    probabilities = sigmoid(logits)
    thresholds = find_thresholds(probabilities, labels, target_precision)
    if min(thresholds) == NEVER:
        raise UserError(
            f"no class has a precision of {target_precision:g} for certain at any threshold; ask for less, or give "
            f"more than these {len(labels)} texts"
        )
    calibration = MultiLabelCalibration(
        tuple(class_names),
        tuple(thresholds),
        target_precision=target_precision,
        label_probability=(
            find_label_probability(probabilities, labels, false_negative_rate) if false_negative_rate else 0.0
        ),
        false_negative_rate=false_negative_rate,
        texts=len(labels),
        file=file,
        before=f1_scores(probabilities >= HALF, labels),
        after=f1_scores(_cross_fitted(probabilities, labels, target_precision), labels),
    )
    size = float(calibration.label_sets(probabilities).sum(axis=-1).mean()) if false_negative_rate else 0.0
    return dataclasses.replace(calibration, label_set_size=size)


def find_thresholds(probabilities: Probabilities, labels: Labels, target_precision: float = 0.0) -> list[float]:
    """A threshold for every class; 1/2 for one that no text has.

    For F1 it is the middle of the gap in which F1 is best on these texts. For a precision it is the lowest of
    `CANDIDATES` for which `certain_threshold` finds it on new texts too, or `NEVER` where it finds none.

    Args:
      probabilities: of held-out texts.
      labels: the truth.
      target_precision: above 0, below 1; 0: for the best F1.
    """
    if not target_precision:
        columns = zip(probabilities.T, labels.T, strict=True)
        return [_best_f1(values, truth) if truth.any() else HALF for values, truth in columns]
    require(0 < target_precision < 1, "target precision", target_precision, "a number between 0 and 1")
    thresholds = []
    for values, truth in zip(probabilities.T, labels.T, strict=True):
        kept = [values >= candidate for candidate in CANDIDATES]
        counts = [(int(truth[each].sum()), int(each.sum())) for each in kept]
        place, _ = certain_threshold(counts, target_precision)
        thresholds.append(NEVER if place is None else CANDIDATES[place])
    return thresholds


def find_label_probability(probabilities: Probabilities, labels: Labels, rate: float) -> float:
    """The probability from which on a class belongs to the label set (conformal risk control).

    It is the highest at which N / (N + 1) of the mean share of missing labels, and 1 / (N + 1), are no more than `rate`
    together; then that share is no more in the mean over new texts of the same kind (Angelopoulos et al., 2022). A text
    without labels lacks none.

    Args:
      probabilities: of held-out texts.
      labels: the truth.
      rate: above 0, below 1.

    Raises:
      UserError: too few texts.
    """
    require(0 < rate < 1, "false negative rate", rate, "a number between 0 and 1")
    number = len(labels)
    fewest = math.ceil(round(1 / rate - 1, 9))
    if number < fewest:
        raise UserError(
            f"a false negative rate of {rate:g} needs at least {fewest} texts, got {number}; give more or ask for more"
        )
    # Each label, from the least probable on, is missing as soon as the threshold is above its probability.
    shares = labels / np.maximum(labels.sum(axis=1, keepdims=True), 1)
    values, weights = probabilities[labels], shares[labels]
    order = np.argsort(values, kind="stable")
    allowed = rate * (number + 1) - 1
    missing = np.cumsum(weights[order])  # in texts, if the threshold is just above
    over = np.flatnonzero(missing > allowed + 1e-9)
    # The threshold may rise to the first label that must not be missing, which it then holds.
    return float(values[order[over[0]]]) if len(over) else 1.0


def f1_scores(predictions: Labels, labels: Labels) -> dict[str, float]:
    """`micro_f1`, and `macro_f1` over the classes that occur in the truth or in the predictions."""
    hits = 2 * (predictions & labels).sum(axis=0)
    both = predictions.sum(axis=0) + labels.sum(axis=0)
    occurring = both > 0
    if not occurring.any():
        return {"micro_f1": 0.0, "macro_f1": 0.0}
    macro = float((hits[occurring] / both[occurring]).mean())
    return {"micro_f1": float(hits.sum() / both.sum()), "macro_f1": macro}


def _best_f1(values: Float[np.ndarray, " N"], truth: Bool[np.ndarray, " N"]) -> float:
    order = np.argsort(-values, kind="stable")
    ranked, hits = values[order], np.cumsum(truth[order])
    scores = 2 * hits / (np.arange(1, len(values) + 1) + truth.sum())
    scores[:-1][ranked[:-1] == ranked[1:]] = -1  # no threshold divides equals
    last = int(scores.argmax())
    below = ranked[last + 1] if last + 1 < len(ranked) else 0.0
    return float((ranked[last] + below) / 2)


def _cross_fitted(probabilities: Probabilities, labels: Labels, target_precision: float) -> Labels:
    """The labels of texts, each by thresholds that were fitted on the other folds."""
    fold = np.random.default_rng(0).permutation(len(labels)) % FOLDS
    predictions = np.zeros(labels.shape, bool)
    for number in range(FOLDS):
        inside = fold == number
        thresholds = find_thresholds(probabilities[~inside], labels[~inside], target_precision)
        predictions[inside] = probabilities[inside] >= np.array(thresholds)
    return predictions
