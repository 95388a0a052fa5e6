"""A model taken apart: its numbers beside its graph, as functions of explicit state take them."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Self, TypeVar

import jax
from flax import nnx

from amsdff_jax.config import ModelConfig
from amsdff_jax.models.attention import MultiheadAttention
from amsdff_jax.models.layers import Linear

M = TypeVar("M", bound=nnx.Module)


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


def make_inference_variables(graph: nnx.GraphDef) -> Callable[[Variables], Variables]:
    """The function that turns a model's numbers into those that its forward pass is fastest with; jit it.

    The kernels of the dense layers are rounded to the compute type once, and not at every call. (In a profile of
    minilm-l6 in bfloat16 on a CPU the rounding took 18 ms of 217.) The results are the same.
    """

    def inference_variables(variables: Variables) -> Variables:
        model = nnx.merge(graph, *variables)
        for _, module in nnx.iter_modules(model):
            if isinstance(module, Linear):
                module.kernel.set_value(module.kernel[...].astype(module.dtype))
            elif isinstance(module, MultiheadAttention):
                module.in_proj_kernel.set_value(module.in_proj_kernel[...].astype(module.dtype))
        return Variables.of(model)

    return inference_variables


def graph_identity(graph: nnx.GraphDef) -> str | None:
    """All that a model computes but for its numbers and the code of its classes: equal in every process.

    None for a model with layers or functions that are not of this package, Flax, JAX or Python: their code may change.
    """
    statics = [(key, _without_origin(getattr(value, "value", value))) for key, value in graph.attributes]
    functions = [value for _, value in statics if callable(value)]
    types = (getattr(node, "type", None) for node in graph.nodes)
    code = [*functions, *filter(None, types)]
    if {part.__module__.partition(".")[0] for part in code} - {"amsdff_jax", "flax", "jax", "builtins"}:
        return None
    named = [(key, value.__qualname__ if callable(value) else value) for key, value in statics]
    text = f"{[*map(_without_order, graph.nodes)]}\n{named}"
    # Of a function without a name of its own, or of an object that only says where it lies, too little is known.
    return None if " at 0x" in text or "<lambda>" in text or "<locals>" in text else text


def _without_origin(value: Any) -> Any:
    """Settings without those that say where weights came from: a saved model computes what the trained one did."""
    return dataclasses.replace(value, encoder="", encoder_config="") if isinstance(value, ModelConfig) else value


def _without_order(node: Any) -> Any:
    """A node of a graph; of a variable's definition what is equal where only the order of its metadata differs."""
    metadata = getattr(node, "metadata", None)
    return (node.type, node.index, sorted(metadata.items())) if isinstance(metadata, Mapping) else node


def abstract_model(make: Callable[[nnx.Rngs], M]) -> M:
    """The model that `make` makes, with shapes and types where its numbers would be, to be filled from a file.

    Its random numbers all come of one key, which nobody sees. (`nnx.Rngs` counts the keys it gives, and JAX looks for
    the origin of each count: that took 0.8 of the 0.9 s of an AMSDFF classifier.)
    """
    return nnx.eval_shape(lambda: make(_OneKey()))


class _OneKey(nnx.Rngs):
    def __init__(self) -> None:
        self.key = jax.random.key(0)

    def params(self) -> jax.Array:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self.key
