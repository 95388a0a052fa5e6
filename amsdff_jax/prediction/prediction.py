"""Logits to the answers that users get: a label, its probability and what a calibration says of them."""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from amsdff_jax.evaluation.calibration import Calibration


class ScoredLabel(NamedTuple):
    """A class and its probability."""

    label: str
    probability: float


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


def make_predictions(
    logits: np.ndarray, truncated: np.ndarray, calibration: Calibration, top_k: int
) -> Iterator[Prediction | None]:
    """A prediction for every row of logits, None for one that is not finite.

    Args:
      logits: [N,C] float32.
      truncated: [N] bool, whether the text was truncated.
      calibration: of the model.
      top_k: as many classes are in `Prediction.top_k`.
    """
    finite = np.all(np.isfinite(logits), axis=-1, keepdims=True)[:, 0]
    probabilities = calibration.probabilities(np.where(finite[:, None], logits, 0))
    abstained: np.ndarray = calibration.abstains(probabilities)
    sets = calibration.label_sets(probabilities) if calibration.coverage else None
    # By logits, as `Evaluation.predictions` does: different ones may have the same probability.
    order = np.argsort(-logits, axis=-1, kind="stable")
    names = calibration.class_names
    for row, classes in enumerate(order):
        if not finite[row]:
            yield None
            continue
        best = tuple(ScoredLabel(names[label], float(probabilities[row, label])) for label in classes[:top_k])
        label_set = None if sets is None else tuple(names[label] for label in classes if sets[row, label])
        yield Prediction(*best[0], best, bool(truncated[row]), bool(abstained[row]), label_set)
