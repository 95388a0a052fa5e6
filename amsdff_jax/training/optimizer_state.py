"""AdamW's state between optax and PyTorch: moments, steps done, the schedule's position."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
from flax import traverse_util

from amsdff_jax.base.errors import UserError
from amsdff_jax.config import EncoderConfig, TrainConfig
from amsdff_jax.interop.weights_file import current_name
from amsdff_jax.models.state_dict import LEAVES, in_registration_order, to_torch_layout, torch_name, torch_shape
from amsdff_jax.training.optimizer import is_decayed

MOMENTS = {"step", "exp_avg", "exp_avg_sq"}
ADAMW_DEFAULTS = dict.fromkeys(("amsgrad", "maximize", "capturable", "differentiable"), False)
ADAMW_DEFAULTS |= {"foreach": None, "fused": None, "decoupled_weight_decay": True}
BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


def optimizer_to_torch(
    optimizer_state: optax.OptState,
    step: int,
    paths: Iterable[tuple],
    rates: Mapping[str, float],
    shares: Mapping[str, float],
    config: TrainConfig,
) -> dict[str, Any]:
    """The state of `torch.optim.AdamW` at the same point.

    Parameters of the same rate and decay share a group, whose `param_names` say which they are;
    with one group, as of `AdamW(model.parameters())`, the numbers are those of that call.

    Args:
      optimizer_state: of `make_optimizer`.
      step: updates done.
      paths: of all parameters, the frozen ones too.
      rates: peak learning rate of every parameter by PyTorch name, 0 where it is frozen.
      shares: of the peak, that the schedule gives to each parameter in the next step.
    """
    moments = {
        kind: {
            torch_name(path): to_torch_layout(path, value)
            for path, value in _flat_moments(optimizer_state, moment).items()
        }
        for kind, moment in (("exp_avg", "mu"), ("exp_avg_sq", "nu"))
    }
    groups: dict[tuple[float, float, float], list[str]] = {}
    by_name = {torch_name(path): path for path in paths}
    for name in in_registration_order(by_name):
        decay = config.weight_decay if is_decayed(by_name[name], config) else 0.0
        groups.setdefault((rates[name], shares[name], decay), []).append(name)
    state, param_groups, number = {}, [], 0
    for (rate, share, decay), names in groups.items():
        for index, name in enumerate(names, start=number):
            if name in moments["exp_avg"]:
                state[index] = {"step": np.array(step, np.float32)}
                state[index] |= {kind: tensors[name] for kind, tensors in moments.items()}
        param_groups.append(
            ADAMW_DEFAULTS
            | {"lr": rate * share, "initial_lr": rate, "weight_decay": decay}
            | {"betas": (config.beta1, config.beta2), "eps": config.epsilon}
            | {"params": list(range(number, number + len(names))), "param_names": names}
        )
        number += len(names)
    return {"state": state, "param_groups": param_groups}


def schedule_to_torch(step: int, optimizer: Mapping[str, Any]) -> dict[str, Any]:
    """The state of `torch.optim.lr_scheduler.LambdaLR` after `step` updates of `optimizer`, an optimizer's state."""
    groups = optimizer["param_groups"]
    return {
        "base_lrs": [group["initial_lr"] for group in groups],
        "last_epoch": step,
        "_step_count": step + 1,
        "_last_lr": [group["lr"] for group in groups],
        "lr_lambdas": [None for _ in groups],
    }


def optimizer_from_torch(
    saved: Mapping[str, Any],
    names: Sequence[str],
    optimizer_state: optax.OptState,
    source: str,
    model_type: str = EncoderConfig.model_type,
) -> tuple[optax.OptState, int]:
    """`optimizer_state` with the moments that PyTorch saved, and the number of updates that made them.

    A parameter that has no moments in the file (it was frozen there) begins with zeros.

    Args:
      saved: `optimizer_state_dict` of an Adam or AdamW.
      names: PyTorch names of the file's tensors, in the file's order.
      optimizer_state: of `make_optimizer`, for what is trained here.
      source: what error messages call the file.
      model_type: of the encoder, as its `EncoderConfig` says.

    Raises:
      UserError: no state of an Adam, one whose parameters cannot be told apart, or one of other shapes.
    """
    state, groups = (saved.get("state"), saved.get("param_groups")) if isinstance(saved, Mapping) else (None, None)
    if type(state) is not dict or type(groups) is not list or not all(map(_is_group, groups)):
        raise UserError(f"{source}: its optimizer's state is not of PyTorch's form (a dict of state and param_groups)")
    by_name, steps = {}, set()
    for index, name in _numbered_names(saved, names, source, model_type).items():
        entry = saved["state"].get(index)
        if entry is None:
            continue
        if not isinstance(entry, dict) or entry.keys() != MOMENTS:
            held = ", ".join(map(str, entry)) if isinstance(entry, dict) else type(entry).__name__
            raise UserError(
                f"{source}: its optimizer holds {held} for {name}; expected {', '.join(sorted(MOMENTS))} of a plain "
                "Adam or AdamW"
            )
        if name not in names:
            raise UserError(f"{source}: its optimizer has a parameter {name}, which the model has not")
        by_name[name] = entry
        step = np.asarray(entry["step"])
        if step.size != 1 or step.dtype.kind not in "iuf":
            raise UserError(f"{source}: its optimizer's step of {name} is no number")
        steps.add(float(step.reshape(())))
    if len(steps) != 1 or not 0 <= min(steps) < 2**31:
        raise UserError(f"{source}: its optimizer has made {sorted(steps) or 'no'} steps; expected one number for all")
    moments = {}
    for kind, moment in (("exp_avg", "mu"), ("exp_avg_sq", "nu")):
        flat = _flat_moments(optimizer_state, moment)
        read = {path: _moment(path, zeros, by_name, kind, source) for path, zeros in flat.items()}
        moments[moment] = traverse_util.unflatten_dict(read)
    step = int(*steps)
    # NumPy's, because the step donates its state: two counts in one buffer of JAX's would be donated twice.
    return optax.tree_utils.tree_set(optimizer_state, **moments, count=np.array(step, np.int32)), step


def _numbered_names(saved: Mapping[str, Any], names: Sequence[str], source: str, model_type: str) -> dict[int, str]:
    groups = saved["param_groups"]
    numbers = [number for group in groups for number in group["params"]]
    if all("param_names" in group for group in groups):
        ordered = [current_name(str(name), model_type) for group in groups for name in group["param_names"]]
    elif len(groups) == 1:
        ordered = [name for name in names if name.rsplit(".", 1)[-1] not in BUFFERS]
    else:
        raise UserError(
            f"{source}: its optimizer has {len(groups)} groups without param_names, so nobody knows which moments are "
            "whose; save the weights alone, or build the optimizer from model.named_parameters()"
        )
    if len(ordered) != len(numbers):
        raise UserError(f"{source}: its optimizer has {len(numbers)} parameters, but the model has {len(ordered)}")
    return dict(zip(numbers, ordered, strict=True))


def _is_group(group: Any) -> bool:
    return (
        isinstance(group, dict)
        and isinstance(group.get("params"), list)
        and all(type(number) is int for number in group["params"])
        and isinstance(group.get("param_names", []), list)
    )


def _flat_moments(optimizer_state: optax.OptState, moment: str) -> dict[tuple, Any]:
    """One of Adam's moments by the path of its parameter."""
    return dict(traverse_util.flatten_dict(optax.tree_utils.tree_get(optimizer_state, moment)))


def _moment(path: tuple, zeros: jnp.ndarray, entries: Mapping[str, Any], kind: str, source: str) -> jnp.ndarray:
    name = torch_name(path)
    if name not in entries:
        return zeros
    leaf, stored = LEAVES[path[-1]], np.asarray(entries[name][kind])
    expected = torch_shape(path, zeros.shape)
    if not jnp.issubdtype(stored.dtype, jnp.number) or not np.isfinite(stored).all():
        raise UserError(f"{source}: its optimizer's {kind} of {name} holds NaN, infinity or no numbers")
    if stored.shape != expected:
        raise UserError(f"{source}: its optimizer's {kind} of {name} has shape {stored.shape}, expected {expected}")
    return jnp.asarray(leaf.from_torch(stored), zeros.dtype)
