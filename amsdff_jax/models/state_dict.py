"""The one table between Flax parameters and PyTorch's state dict, used in both directions.

Module paths are the same on both sides; only the last part of a name and the layout differ, and
those follow from the kind of leaf. NumPy only: nothing here needs PyTorch.
"""

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx, traverse_util
from jax.typing import ArrayLike

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.validation import LONGEST, MOST_PARTS, first_of

MOST_CANDIDATES = 300  # names among which the nearest are sought; among more it takes too long


def _same(array: np.ndarray) -> np.ndarray:
    return array


def _transpose(array: np.ndarray) -> np.ndarray:
    return array.T


class Leaf(NamedTuple):
    """How one kind of Flax leaf is called and laid out in PyTorch."""

    torch_name: str
    to_torch: Callable[[np.ndarray], np.ndarray] = _same
    from_torch: Callable[[np.ndarray], np.ndarray] = _same


# LSTM and GRU keep PyTorch's names and packing.
RECURRENT_WEIGHTS = tuple(
    f"weight_{kind}_l{layer}{ending}" for kind in ("ih", "hh") for layer in (0, 1) for ending in ("", "_reverse")
)
RECURRENT_BIASES = tuple(name.replace("weight", "bias") for name in RECURRENT_WEIGHTS)

# What is called and laid out alike on both sides.
ALIKE = (
    *("bias", "cls_token", "in_proj_bias", "running_mean", "running_var", "thresholds"),
    *RECURRENT_WEIGHTS, *RECURRENT_BIASES,
)  # fmt: skip

LEAVES = {
    **{name: Leaf(name) for name in ALIKE},
    "kernel": Leaf("weight", _transpose, _transpose),
    "scale": Leaf("weight"),
    "embedding": Leaf("weight"),
    "in_proj_kernel": Leaf("in_proj_weight", _transpose, _transpose),
    # [width,H] <-> [H,1,width] and [H,F] <-> [F,H,1]
    "depthwise_kernel": Leaf("weight", lambda array: array.T[:, None, :], lambda array: array[:, 0, :].T),
    "pointwise_kernel": Leaf("weight", lambda array: array.T[:, :, None], lambda array: array[:, :, 0].T),
    # [width,H,F] <-> [F,H,width]
    "conv_kernel": Leaf("weight", _transpose, _transpose),
    "num_batches_tracked": Leaf(
        "num_batches_tracked", lambda array: array.astype(np.int64), lambda array: array.astype(np.int32)
    ),
}

# Leaves that stand for a weight matrix, the only ones that weight decay is meant for.
MATRIX_LEAVES = frozenset(
    {"kernel", "in_proj_kernel", "depthwise_kernel", "pointwise_kernel", "conv_kernel", *RECURRENT_WEIGHTS}
)


# The parts of PyTorch's names in the order in which its modules register them. Only neighbours in the
# same module are ever compared, so one list serves all models.
REGISTRATION_ORDER = """
    embeddings embeddings_project encoder transformer word_embeddings position_embeddings token_type_embeddings
    tok_embeddings norm layers attn_norm attn Wqkv mlp_norm mlp Wi Wo final_norm layer relative_attention_bias
    rel_embeddings attention self q k v o query_proj key_proj value_proj query key value q_lin k_lin v_lin out_lin
    sa_layer_norm ffn lin1 lin2 output_layer_norm intermediate output dense LayerNorm multi_scale_attention
    scale_convs scale_fusion output_projection layer_norm feature_enhancer dynamic_fusion experts gate
    pooling_strategy cls_token attention_pooling cls_attention pooling_fusion lstm gru convs pooler classifier
    in_proj_weight in_proj_bias weight bias running_mean running_var num_batches_tracked out_proj weight_ih_l0
    weight_hh_l0 bias_ih_l0 bias_hh_l0 weight_ih_l0_reverse weight_hh_l0_reverse bias_ih_l0_reverse
    bias_hh_l0_reverse weight_ih_l1 weight_hh_l1 bias_ih_l1 bias_hh_l1 weight_ih_l1_reverse weight_hh_l1_reverse
    bias_ih_l1_reverse bias_hh_l1_reverse lora_A lora_B thresholds
"""
REGISTRATION_NUMBER = {part: number for number, part in enumerate(REGISTRATION_ORDER.split())}


def in_registration_order(names: Iterable[str]) -> list[str]:
    """PyTorch names in the order of `state_dict()`, in which optimizers number the parameters.

    RoBERTa's positions, which PyTorch has behind the norm of the embeddings, stand before it, as in other families.
    """

    def numbers(name: str) -> list[int]:
        return [int(part) if part.isdigit() else REGISTRATION_NUMBER[part] for part in name.split(".")]

    return sorted(names, key=numbers)


def torch_name(path: tuple) -> str:
    """The PyTorch name of the Flax leaf at `path`, such as ("classifier", 4, "kernel")."""
    return ".".join([*map(str, path[:-1]), LEAVES[path[-1]].torch_name])


def to_state_dict(model: nnx.Module) -> dict[str, np.ndarray]:
    """All parameters and statistics of `model` under their PyTorch names, in PyTorch's layout and order."""
    tensors = {torch_name(path): to_torch_layout(path, value) for path, value in _flat_state(model).items()}
    return {name: tensors[name] for name in in_registration_order(tensors)}


def to_torch_layout(path: tuple, value: ArrayLike) -> np.ndarray:
    """The Flax leaf at `path`, or anything of its shape, in PyTorch's layout."""
    return np.array(LEAVES[path[-1]].to_torch(np.asarray(value)), order="C")


def torch_shape(path: tuple, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that the Flax leaf at `path`, of `shape`, has in PyTorch."""
    return LEAVES[path[-1]].to_torch(np.broadcast_to(np.float32(0), shape)).shape


def parameter_names(model: nnx.Module) -> list[str]:
    """PyTorch names of what can be trained, BatchNorm's statistics left out."""
    return [torch_name(path) for path in traverse_util.flatten_dict(nnx.to_pure_dict(nnx.state(model, nnx.Param)))]


def load_state_dict(model: nnx.Module, tensors: Mapping[str, np.ndarray], source: str) -> None:
    """Puts `tensors`, in PyTorch's names and layout, into `model`.

    Args:
      model: changed in place, once every tensor has been found fit.
      tensors: exactly the names of `to_state_dict(model)`, any float type.
      source: what error messages call the place the tensors come from.

    Raises:
      UserError: tensors that are missing, unknown, misshapen, or hold NaN or infinity; the first few of each kind, in
        one message.
    """
    current = _flat_state(model)
    names = {torch_name(path): path for path in current}
    missing, unknown = sorted(names.keys() - tensors.keys()), sorted(tensors.keys() - names.keys())
    faults, loaded = [], {}
    for name, path in names.items():
        if name not in tensors:
            continue
        leaf = LEAVES[path[-1]]
        expected = torch_shape(path, current[path].shape)
        kind = jnp.floating if jnp.issubdtype(current[path].dtype, jnp.floating) else jnp.integer
        if tensors[name].shape != expected:
            faults.append(f"{name} has shape {tensors[name].shape}, expected {expected}")
        elif not jnp.issubdtype(tensors[name].dtype, kind):
            faults.append(f"{name} holds {tensors[name].dtype}, expected {kind.__name__}")
        else:
            with np.errstate(over="ignore"):  # what is too large for the type here becomes infinity
                value = leaf.from_torch(np.asarray(tensors[name])).astype(current[path].dtype, copy=False)
            if not np.isfinite(value).all():
                faults.append(f"{name} holds NaN or infinity")
            elif path[-1] == "running_var" and (value < 0).any():
                faults.append(f"{name} holds variances below 0")
            loaded[path] = jnp.asarray(value)
    if missing or unknown or faults:
        parts = [
            _listed("missing", missing, unknown),
            _listed("unknown", unknown, missing),
            first_of(faults, separator="; "),
        ]
        raise UserError(f"{source}: the weights do not fit the model: {'; '.join(filter(None, parts))}")
    nnx.update(model, traverse_util.unflatten_dict(loaded))


def _flat_state(model: nnx.Module) -> dict[tuple, Any]:
    """All leaves by their paths: arrays, or what `nnx.eval_shape` has in their places."""
    return traverse_util.flatten_dict(nnx.to_pure_dict(nnx.state(model, (nnx.Param, nnx.BatchStat))))


def _listed(what: str, names: Sequence[str], others: Sequence[str]) -> str:
    # The nearest names of only those that are shown.
    shown = [f"{what} {name}{_candidates(name, others)}" for name in names[:MOST_PARTS]]
    return first_of([*shown, *names[MOST_PARTS:]], separator="; ")


def _candidates(name: str, others: Sequence[str]) -> str:
    if len(others) > MOST_CANDIDATES or len(name) > LONGEST:
        return ""
    close = difflib.get_close_matches(name, [other for other in others if len(other) <= LONGEST], n=2, cutoff=0.8)
    return f" (near: {', '.join(close)})" if close else ""
