"""A model taken apart: its numbers beside its graph, as functions of explicit state take them."""

from typing import NamedTuple, Self

from flax import nnx


class Variables(NamedTuple):
    """A model's numbers as nested dicts: what is trained, what is frozen, BatchNorm's statistics."""

    trainable: dict
    frozen: dict
    batch_statistics: dict

    @classmethod
    def of(cls, model: nnx.Module) -> Self:
        """All numbers of a model, which shares them; nothing counts as frozen."""
        parameters, statistics = nnx.state(model, nnx.Param, nnx.BatchStat)
        return cls(nnx.to_pure_dict(parameters), {}, nnx.to_pure_dict(statistics))
