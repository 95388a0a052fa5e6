"""Exports a model as StableHLO, which any later JAX runs on CPUs, GPUs and TPUs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from flax import nnx, traverse_util

from amsdff_jax.models.model_folder import SavedModel
from amsdff_jax.models.multi_scale import ScaleConv

PROGRAM, WEIGHTS = "model.stablehlo", "weights.npz"
PLATFORMS = ("cpu", "cuda", "tpu")


def write_stablehlo(saved: SavedModel, folder: Path) -> None:
    """Writes the program and, beside it, the weights that it takes as its first argument.

    Beside it, because the program is compiled for every shape of a batch, and weights inside would go through
    the compiler each time. In masked semantics batch and length are symbolic, up to the encoder's positions; in
    reference semantics only the batch is, for the answer depends on the length.

    Args:
      saved: its model computes in float32 with XLA's attention, so that it can be lowered for every platform. What
        is written has BatchNorm folded in.
      folder: exists.
    """
    model = nnx.clone(saved.model)
    for _, module in nnx.iter_modules(model):
        if isinstance(module, ScaleConv):
            module.fold_batch_norm()
    graph, state = nnx.split(model)
    arrays = traverse_util.flatten_dict(nnx.to_pure_dict(state))
    paths = {".".join(map(str, path)): path for path in arrays}
    weights: dict[str, Any] = {name: np.asarray(arrays[path]) for name, path in paths.items()}

    def logits(weights: Mapping[str, jax.Array], input_ids: jax.Array, attention_mask: jax.Array) -> jax.Array:
        variables = traverse_util.unflatten_dict({paths[name]: array for name, array in weights.items()})
        return nnx.merge(graph, variables)(input_ids, attention_mask).logits

    tokens = jax.ShapeDtypeStruct(_shape(saved), jnp.int32)
    exported = jax.export.export(jax.jit(logits), platforms=PLATFORMS)(weights, tokens, tokens)
    (folder / PROGRAM).write_bytes(exported.serialize())
    np.savez(folder / WEIGHTS, **weights)


def _shape(saved: SavedModel) -> Sequence[Any]:
    """[B,S] of the tokens, symbolic where it may vary."""
    if not saved.model.config.mask_padding:
        return jax.export.symbolic_shape(f"b, {saved.max_length}")
    positions = saved.model.encoder_config.max_tokens
    return jax.export.symbolic_shape("b, s", constraints=[f"s <= {positions}"])
