"""Logits to the answers that users get: a label, its probability and what a calibration says of them."""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from amsdff_jax.evaluation.calibration import Calibration
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
        rows = [(label, percent(probability), probability) for label, probability in self.top_k]
        classes = Table([*columns("Class", "Probability"), Column("", "weight")], rows)
        return render("notebook.html.j2", classes=classes, notes=notes, words=None)


def make_predictions(
    logits: np.ndarray, truncated: np.ndarray, calibration: Calibration, top_k: int | None
) -> Iterator[Prediction | None]:
    """A prediction for every row of logits, None for one that is not finite.

    Args:
      logits: [N,C] float32.
      truncated: [N] bool, whether the text was truncated.
      calibration: of the model.
      top_k: as many classes are in `Prediction.top_k`; None: all.
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
