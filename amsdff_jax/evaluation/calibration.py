"""Probabilities that one can act on: a temperature, a threshold of abstention, sets of labels.

All of it is fitted on the logits of texts that the model has not seen in training.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float, Float64, Int

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.validation import require
from amsdff_jax.data.encoded_labels import is_distribution

CALIBRATION_BINS = 15
TEMPERATURES = (0.01, 100.0)  # between which the best one is sought
FOLDS = 5  # of the texts, for the quality of a temperature on texts that it was not fitted on
CONFIDENCE = 0.95  # that precision on new texts is what was asked for
KEPT_SHARES = 20  # so many thresholds are tried, which keep 1/20, 2/20, ... of the texts

# Of N texts and C classes; labels are true classes.
Logits = Float[np.ndarray, "N C"]
Probabilities = Float[np.ndarray, "N C"]
Labels = Int[np.ndarray, " N"]


@dataclasses.dataclass(frozen=True)
class Calibration:
    """What turns a model's logits into answers that keep their promises.

    Attributes:
      class_names: of the model that this belongs to.
      temperature: logits are divided by it before the softmax.
      threshold: the model abstains where its top probability is below; 0: it never abstains.
      target_precision: what the threshold was chosen for; 0: no threshold.
      kept: share of the texts that are not abstained from.
      precision: share of those whose predictions are right.
      label_probability: a label set holds the classes of at least this probability, and the predicted one.
      coverage: the share of label sets that hold the truth, at least, on average over draws of the texts; 0: no label
        sets.
      label_set_size: mean number of classes in a set.
      texts: number of texts it was fitted on.
      file: name of the file that they came from.
      before, after: `quality` without and with the temperature, the latter on texts that it was not fitted on.
    """

    class_names: tuple[str, ...]
    temperature: float
    threshold: float = 0.0
    target_precision: float = 0.0
    kept: float = 1.0
    precision: float = 0.0
    label_probability: float = 1.0
    coverage: float = 0.0
    label_set_size: float = 1.0
    texts: int = 0
    file: str = ""
    before: dict = dataclasses.field(default_factory=dict)
    after: dict = dataclasses.field(default_factory=dict)

    task: ClassVar[str] = "single"

    def __post_init__(self) -> None:
        positive = self.temperature > 0 and math.isfinite(self.temperature)
        require(positive, "temperature", self.temperature, "a number above 0")
        for name in ("threshold", "target_precision", "kept", "precision", "label_probability", "coverage"):
            require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "a number from 0 to 1")
        fits = 0 <= self.label_set_size <= len(self.class_names)
        require(fits, "label_set_size", self.label_set_size, "a number of classes")
        require(self.texts >= 0, "texts", self.texts, "a number of texts")

    @property
    def may_abstain(self) -> bool:
        """Whether there is a threshold below which the model abstains."""
        return self.target_precision > 0

    @property
    def has_label_sets(self) -> bool:
        """Whether label sets were asked for."""
        return self.coverage > 0

    def probabilities(self, logits: Float[np.ndarray, "*N C"]) -> Float64[np.ndarray, "*N C"]:
        """Calibrated probabilities."""
        return softmax(logits, self.temperature)

    def abstains(self, probabilities: Probabilities) -> Bool[np.ndarray, " N"]:
        """Where the top one of calibrated `probabilities` is too low to rely on."""
        return probabilities.max(axis=-1) < self.threshold

    def label_sets(self, probabilities: Probabilities) -> Bool[np.ndarray, "N C"]:
        """The classes in the label set of each text, of which there is at least one."""
        likely = probabilities >= self.label_probability
        likely[np.arange(len(likely)), probabilities.argmax(axis=-1)] = True
        return likely


def calibrate(
    logits: Logits,
    labels: Labels,
    class_names: Sequence[str],
    target_precision: float = 0.0,
    coverage: float = 0.0,
    file: str = "",
) -> Calibration:
    """Fits all that is asked for on held-out texts.

    Args:
      logits: of texts that the model was not trained on.
      labels: the truth.
      target_precision: of the predictions that are not abstained from; 0: no threshold.
      coverage: share of label sets that are to hold the truth; 0: no label sets.
      file: where the texts came from, a name for people.

    Raises:
      UserError: too few texts, or a model too weak, for what is asked.
    """
    require(len(labels) >= FOLDS, "texts to calibrate on", len(labels), f"at least {FOLDS}")
    require(bool(np.isfinite(logits).all()), "logits", "NaN or infinity", "numbers")
    temperature = fit_temperature(logits, labels)
    probabilities = softmax(logits, temperature)
    calibration = Calibration(
        tuple(class_names),
        temperature,
        threshold=find_threshold(probabilities, labels, target_precision) if target_precision else 0.0,
        target_precision=target_precision,
        label_probability=find_label_probability(probabilities, labels, coverage) if coverage else 1.0,
        coverage=coverage,
        texts=len(labels),
        file=file,
        before=quality(softmax(logits), labels),
        after=quality(_cross_fitted(logits, labels), labels),
    )
    kept = ~calibration.abstains(probabilities)
    correct = probabilities.argmax(axis=-1) == labels
    return dataclasses.replace(
        calibration,
        kept=float(kept.mean()),
        precision=float(correct[kept].mean()),
        label_set_size=float(calibration.label_sets(probabilities).sum(axis=-1).mean()),
    )


def fit_temperature(logits: Logits, labels: Labels) -> float:
    """The temperature of least log loss (Guo et al., 2017).

    It is sought over its logarithm, between `TEMPERATURES`.
    """
    from scipy import optimize  # here, because a prediction needs none of SciPy, which takes a second to import

    best = optimize.minimize_scalar(
        lambda logarithm: log_loss(softmax(logits, math.exp(logarithm)), labels),
        bounds=[math.log(bound) for bound in TEMPERATURES],
        method="bounded",
    )
    return math.exp(best.x)


def find_threshold(probabilities: Probabilities, labels: Labels, target_precision: float) -> float:
    """The lowest threshold above which predictions are right as often as asked, on new texts too.

    The thresholds tried are the `KEPT_SHARES` that keep 1/20, 2/20, ... of the texts, from the strictest on;
    `certain_threshold` decides.

    Args:
      probabilities: calibrated.
      labels: the truth.
      target_precision: above 0, below 1.

    Raises:
      UserError: no threshold does it; says how far the best one gets and what would help.
    """
    require(0 < target_precision < 1, "target precision", target_precision, "a number between 0 and 1")
    confidence = probabilities.max(axis=-1)
    correct = probabilities.argmax(axis=-1) == labels
    order = np.argsort(-confidence, kind="stable")
    ranks = (max(round(len(labels) * share / KEPT_SHARES), 1) - 1 for share in range(1, KEPT_SHARES + 1))
    candidates = [float(confidence[order[rank]]) for rank in ranks]
    kept = [confidence >= candidate for candidate in candidates]
    place, highest = certain_threshold([(int(correct[each].sum()), int(each.sum())) for each in kept], target_precision)
    if place is not None:
        return candidates[place] if not kept[place].all() else 0.0
    fewest = math.ceil(math.log((1 - CONFIDENCE) / KEPT_SHARES) / math.log(target_precision))
    raise UserError(
        f"no threshold has a precision of {target_precision:g} for certain; at best, {highest:.3f}; ask for less, or "
        f"give more than these {len(labels)} texts ({fewest} are needed above the threshold even if all are right)"
    )


def certain_threshold(counts: Sequence[tuple[int, int]], target_precision: float) -> tuple[int | None, float]:
    """The last of several thresholds that has a precision for certain.

    Precision at a threshold that was picked for its precision is too rosy. So a threshold counts only if the lower
    bound of Clopper and Pearson (1934) on its precision reaches the target. All bounds hold together with probability
    `CONFIDENCE`, so that it does not matter which is taken: each has an equal part of the risk, and that of a threshold
    that reached the target passes on to the next (the fallback procedure of Wiens and Dmitrienko, 2005).

    Args:
      counts: (right, all) answers at each threshold, from the strictest on, in an order that was fixed beforehand.
      target_precision: above 0, below 1.

    Returns:
      Its place, None if there is none; and the highest of all bounds.
    """
    from scipy import special

    part = (1 - CONFIDENCE) / len(counts)
    risk, highest, found = 0.0, 0.0, None
    for place, (right, number) in enumerate(counts):
        risk += part
        bound = float(special.betaincinv(right, number - right + 1, risk)) if right else 0.0
        if bound >= target_precision:
            found = place
        else:
            risk = 0.0
        highest = max(highest, bound)
    return found, highest


def find_label_probability(probabilities: Probabilities, labels: Labels, coverage: float) -> float:
    """The probability from which on a class belongs to the label set (split conformal prediction).

    The score of a text is 1 - the probability of its true class (Sadinle et al., 2019), which gives the smallest
    sets; its ceil((N + 1) coverage)-th smallest value is the quantile that makes the sets of new texts of the same
    kind hold the truth with at least the probability `coverage`, whatever the model.

    Args:
      probabilities: calibrated.
      labels: the truth.
      coverage: above 0, below 1.

    Raises:
      UserError: too few texts.
    """
    require(0 < coverage < 1, "coverage", coverage, "a number between 0 and 1")
    number = len(labels)
    # Rounded first: (9 + 1) * 0.9 is not quite 9.
    rank = math.ceil(round((number + 1) * coverage, 9))
    fewest = math.ceil(round(coverage / (1 - coverage), 9))
    if rank > number:
        raise UserError(
            f"a coverage of {coverage:g} needs at least {fewest} texts, got {number}; give more or ask for less"
        )
    of_truth = probabilities[np.arange(number), labels]
    return float(np.sort(of_truth)[number - rank])


def _cross_fitted(logits: Logits, labels: Labels) -> Probabilities:
    """Probabilities of texts, each at a temperature that was fitted on the other folds."""
    fold = np.random.default_rng(0).permutation(len(labels)) % FOLDS
    probabilities = np.zeros(logits.shape, np.float64)
    for number in range(FOLDS):
        inside = fold == number
        probabilities[inside] = softmax(logits[inside], fit_temperature(logits[~inside], labels[~inside]))
    return probabilities


def softmax(logits: Float[np.ndarray, "*N C"], temperature: float = 1.0) -> Float64[np.ndarray, "*N C"]:
    """The probabilities of the classes."""
    numbers = logits.astype(np.float64)  # in place from here on: of millions of texts there is one such array
    numbers /= temperature
    numbers -= numbers.max(axis=-1, keepdims=True)
    np.exp(numbers, out=numbers)
    numbers /= numbers.sum(axis=-1, keepdims=True)
    return numbers


def sigmoid(logits: Float[np.ndarray, "*N C"]) -> Float64[np.ndarray, "*N C"]:
    """The probability of each class by itself."""
    return np.exp(-np.logaddexp(0, -logits.astype(np.float64)))


def log_loss(probabilities: Probabilities, labels: Labels | Probabilities) -> float:
    """Mean negative natural logarithm of the probability given to the true class, or against distributions."""
    tiny = np.finfo(np.float64).tiny
    if is_distribution(labels):
        return float(-(labels * np.log(np.clip(probabilities, tiny, 1))).sum(axis=-1).mean())
    of_truth = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.clip(of_truth, tiny, 1)).mean())


def brier_score(probabilities: Probabilities, labels: Labels) -> float:
    """Mean squared distance of the probabilities from the indicators of the true classes, summed over classes."""
    differences = probabilities.astype(np.float64)
    differences[np.arange(len(labels)), labels] -= 1
    return float(np.square(differences, out=differences).sum(axis=-1).mean())


def calibration_table(
    labels: Labels, predictions: Labels, probabilities: Probabilities
) -> Float64[np.ndarray, "bins 3"]:
    """Number of texts, mean top probability and accuracy in each bin of the top probability; empty bins are 0."""
    confidence = probabilities.max(axis=-1)
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    table = np.zeros((CALIBRATION_BINS, 3))
    for number in range(CALIBRATION_BINS):
        inside = bins == number
        if inside.any():
            table[number] = inside.sum(), confidence[inside].mean(), (predictions == labels)[inside].mean()
    return table


def expected_calibration_error(labels: Labels, predictions: Labels, probabilities: Probabilities) -> float:
    """Mean distance of confidence and accuracy, weighted by the texts in each bin (Guo et al., 2017)."""
    counts, confidence, accuracy = calibration_table(labels, predictions, probabilities).T
    return float((counts * np.abs(confidence - accuracy)).sum() / counts.sum())


def quality(probabilities: Probabilities, labels: Labels) -> dict[str, float]:
    """`ece`, `log_loss` and `brier` of probabilities against the truth."""
    return {
        "ece": expected_calibration_error(labels, probabilities.argmax(axis=-1), probabilities),
        "log_loss": log_loss(probabilities, labels),
        "brier": brier_score(probabilities, labels),
    }
