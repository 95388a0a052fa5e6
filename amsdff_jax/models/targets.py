"""Numbers as a model learns them: with mean 0 and standard deviation 1, and back in their unit."""

import contextlib
import weakref
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from flax import nnx
from jaxtyping import Float

from amsdff_jax.models.last_layer import last_layer_of

# The models whose logits are in the labels' unit. An attribute of theirs would make them other graphs, to be compiled
# anew.
in_unit: "weakref.WeakSet[nnx.Module]" = weakref.WeakSet()


class TargetScale(NamedTuple):
    """Mean and standard deviation of the training labels, in their unit; 0 and 1 change nothing."""

    mean: float = 0.0
    deviation: float = 1.0

    @classmethod
    def of(cls, labels: Float[np.ndarray, " N"]) -> "TargetScale":
        """That of some labels."""
        return cls(float(labels.mean()), float(labels.std()))

    def standardize(self, labels: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
        """Labels in standard deviations from the mean."""
        return (labels - self.mean) / self.deviation

    def in_unit(self, logits: Float[np.ndarray, "N 1"]) -> Float[np.ndarray, "N 1"]:
        """What a model of standardized labels says, in the labels' unit."""
        return (logits.astype(np.float64) * self.deviation + self.mean).astype(np.float32)

    def fold_into(self, model: nnx.Module) -> None:
        """Makes a model of standardized labels one whose logits are in their unit, by its last layer."""
        layer: Any = last_layer_of(model)
        layer.kernel[...] = layer.kernel[...] * self.deviation
        layer.bias[...] = layer.bias[...] * self.deviation + self.mean
        in_unit.add(model)

    @contextlib.contextmanager
    def unfolded(self, model: nnx.Module) -> Iterator[None]:
        """Makes a model whose logits are in the labels' unit one of standardized labels meanwhile; others stay so."""
        if model not in in_unit:
            yield
            return
        layer: Any = last_layer_of(model)
        layer.kernel[...] = layer.kernel[...] / self.deviation
        layer.bias[...] = (layer.bias[...] - self.mean) / self.deviation
        try:
            yield
        finally:
            self.fold_into(model)
