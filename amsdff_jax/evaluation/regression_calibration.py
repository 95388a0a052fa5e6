"""Prediction intervals for numbers, by split conformal prediction (Vovk et al., 2005; Lei et al., 2018)."""

import dataclasses
import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.validation import require


@dataclasses.dataclass(frozen=True)
class RegressionCalibration:
    """What turns a model's number into an interval.

    Attributes:
      class_names: of the model that this belongs to: what its number is called.
      half_width: an interval reaches so far to both sides of the predicted number, in the labels' unit.
      coverage: the share of intervals that hold the truth, at least, on average over draws of the texts fitted on and
        of new ones like them; 0: no intervals.
      texts: number of texts it was fitted on.
      file: name of the file that they came from.
    """

    class_names: tuple[str, ...]
    half_width: float = 0.0
    coverage: float = 0.0
    texts: int = 0
    file: str = ""

    task: ClassVar[str] = "regression"
    may_abstain: ClassVar[bool] = False
    has_label_sets: ClassVar[bool] = False

    def __post_init__(self) -> None:
        fits = self.half_width >= 0 and math.isfinite(self.half_width)
        require(fits, "half_width", self.half_width, "a number of 0 or more")
        require(0 <= self.coverage < 1, "coverage", self.coverage, "from 0 to below 1")
        require(self.texts >= 0, "texts", self.texts, "a number of texts")

    @property
    def has_intervals(self) -> bool:
        """Whether intervals were asked for."""
        return self.coverage > 0

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Raises `UserError`: a number has no probability."""
        raise UserError(f"the model predicts a number, {self.class_names[0]!r}, and no probabilities; use predict")


def calibrate_intervals(
    logits: Float[np.ndarray, "N 1"],
    labels: Float[np.ndarray, " N"],
    class_names: Sequence[str],
    coverage: float,
    file: str = "",
) -> RegressionCalibration:
    """Fits the width of the intervals on held-out texts.

    It is the ceil((N + 1) coverage)-th smallest absolute error, which the error on a new text exceeds with a
    probability of at most 1 - coverage, whatever model and data are like, if the texts are exchangeable.

    Args:
      logits: predicted numbers of texts that the model was not trained on.
      labels: the true ones.
      class_names: what they are called, alone.
      coverage: share of intervals that are to hold the truth.
      file: where the texts came from, a name for people.

    Raises:
      UserError: too few texts for this coverage.
    """
    require(0 < coverage < 1, "coverage", coverage, "between 0 and 1")
    require(bool(np.isfinite(logits).all()), "logits", "NaN or infinity", "numbers")
    errors = np.sort(np.abs(logits[:, 0].astype(np.float64) - labels))
    rank = math.ceil((len(errors) + 1) * coverage * (1 - 1e-12))  # which rounding must not raise
    if rank > len(errors):
        needed = math.ceil(coverage / (1 - coverage) * (1 - 1e-12))
        raise UserError(f"{len(errors)} texts to calibrate on; a coverage of {coverage:g} takes at least {needed}")
    return RegressionCalibration(tuple(class_names), float(errors[rank - 1]), coverage, len(errors), file)
