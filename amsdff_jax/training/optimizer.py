"""AdamW with warm-up and cosine decay, and the peak learning rate of every parameter."""

import dataclasses
import functools
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import traverse_util

from amsdff_jax.base.errors import UserError
from amsdff_jax.config import TrainConfig
from amsdff_jax.models.lora import is_adapter, is_new
from amsdff_jax.models.state_dict import MATRIX_LEAVES, torch_name

logger = logging.getLogger(__name__)

Schedule = Callable[[Any], Any]  # number of updates done -> share of the peak rate, floats or arrays of JAX


def peak_learning_rates(names: Iterable[str], config: TrainConfig) -> dict[str, float]:
    """The peak learning rate of each parameter, 0 where it is frozen.

    The first pattern of the table that is found in a name decides; where none is, `encoder_learning_rate` holds for
    the encoder and `head_learning_rate` for all else. Of an encoder with adapters nothing but these is trained; they
    are new, so `head_learning_rate` holds for them.

    Args:
      names: PyTorch names of the parameters.

    Raises:
      UserError: a pattern or a rate that decides nothing, or nothing left to train.
    """
    names = list(names)
    has_adapters = any(map(is_adapter, names))
    rates, deciding = {}, set()
    for name in names:
        rates[name], decides = _peak_learning_rate(name, config)
        if has_adapters and not is_new(name) and rates[name]:
            rates[name] = 0.0
        else:
            deciding.add(decides)
    for place, (pattern, _) in enumerate(config.learning_rate_table):
        if place not in deciding:
            raise UserError(
                f"train.learning_rate_table: {pattern!r} decides no parameter (names look like {names[0]}, "
                f"{names[-1]}; the first pattern that is found in a name decides"
                f"{', and model.lora_rank freezes all of the encoder but its adapters' if has_adapters else ''})"
            )
    for field, whose in (("head_learning_rate", "everything new"), ("encoder_learning_rate", "the encoder")):
        rate = getattr(config, field)
        frozen = has_adapters and field == "encoder_learning_rate"
        if field not in deciding and rate != getattr(TrainConfig, field) and not frozen:
            raise UserError(
                f"train.{field}: {rate} decides nothing, because train.learning_rate_table decides all parameters of "
                f"{whose}; change the table, or empty it with --config.train.learning_rate_table='()'"
            )
    if not any(rates.values()):
        raise UserError("train.head_learning_rate: every parameter is frozen (rate 0), so there is nothing to train")
    return rates


def _peak_learning_rate(name: str, config: TrainConfig) -> tuple[float, int | str]:
    """The rate of one parameter, and what decides it: a place in the table, or a field."""
    for place, (pattern, rate) in enumerate(config.learning_rate_table):
        if re.search(pattern, name):
            return rate, place
    field = "head_learning_rate" if is_new(name) else "encoder_learning_rate"
    return getattr(config, field), field


def without_idle_rates(config: TrainConfig, names: Iterable[str]) -> TrainConfig:
    """The settings with the rates at their defaults of which `peak_learning_rates` would say that they decide nothing.

    For models that share their settings: a table for one of them may leave another no rate to be decided.
    """
    deciding = {_peak_learning_rate(name, config)[1] for name in names}
    idle = {"head_learning_rate", "encoder_learning_rate"} - deciding
    return dataclasses.replace(config, **{field: getattr(TrainConfig, field) for field in idle})


def unit_schedule(total_steps: int, warmup_ratio: float) -> Schedule:
    """Step to share of the peak rate: linear over `int(warmup_ratio * total_steps)` steps, then cosine to 0.

    The same numbers as transformers' `get_cosine_schedule_with_warmup`.
    """
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0, peak_value=1.0, warmup_steps=int(warmup_ratio * total_steps), decay_steps=total_steps
    )


def encoder_schedule(total_steps: int, config: TrainConfig) -> Schedule:
    """The share of the encoder's peak rates: 0 for `encoder_delay` of all steps, then `unit_schedule` over the rest.

    A classifier that is still random would only disturb the pretrained weights below it (Kumar et al., 2022).
    """
    waiting = int(config.encoder_delay * total_steps)
    schedule = unit_schedule(total_steps - waiting, config.warmup_ratio)
    if not waiting:
        return schedule
    return lambda step: jnp.where(step < waiting, 0.0, schedule(jnp.maximum(step - waiting, 0)))


def highest_rates(rates: Mapping[str, float], config: TrainConfig, total_steps: int) -> dict[str, Schedule]:
    """The learning rates that a log shows: the highest of all, and the highest of the encoder.

    Args:
      rates: peak learning rate of every parameter by PyTorch name.
    """
    share, encoder_share = unit_schedule(total_steps, config.warmup_ratio), encoder_schedule(total_steps, config)
    highest = max(rates.values())
    encoder = max(rate for name, rate in rates.items() if name.startswith("transformer."))
    return {
        "learning_rate": lambda step: highest * share(step),
        "encoder_learning_rate": lambda step: encoder * encoder_share(step),
    }


def schedule_shares(names: Iterable[str], config: TrainConfig, total_steps: int, step: int) -> dict[str, float]:
    """The share of its peak rate that each parameter, by PyTorch name, moves with after `step` updates."""
    of_encoder = float(encoder_schedule(total_steps, config)(step))
    of_new = float(unit_schedule(total_steps, config.warmup_ratio)(step))
    return {name: of_encoder if name.startswith("transformer.") else of_new for name in names}


def is_decayed(path: tuple, config: TrainConfig) -> bool:
    """Whether weight decay applies to the Flax leaf at `path`: matrices only, unless `decay_all`."""
    return config.decay_all or path[-1] in MATRIX_LEAVES


def clip_by_global_norm(updates: Any, _parameters: Any = None, *, limit: float) -> Any:
    """Scales all updates so that their norm together is at most `limit`; 0: leaves them alone.

    optax's function of the same name divides every element by the norm, and XLA keeps the quotients in memory; products
    with one factor go straight into the update. (In a profile on a CPU the quotients of minilm-l6's embeddings took
    38 ms of a step of 770.)
    """
    if not limit:
        return updates
    factor = jnp.minimum(1.0, limit / jnp.maximum(optax.tree.norm(updates), jnp.finfo(jnp.float32).tiny))
    return jax.tree.map(lambda update: update * factor, updates)


def make_optimizer(
    trainable: dict, rates: Mapping[str, float], config: TrainConfig, total_steps: int
) -> optax.GradientTransformation:
    """AdamW over the trainable parameters, with clipping before it.

    Args:
      trainable: nested dict of the parameters.
      rates: peak learning rate by PyTorch name, from `peak_learning_rates`.
    """
    flat = traverse_util.flatten_dict(trainable)
    peaks = traverse_util.unflatten_dict({path: rates[torch_name(path)] for path in flat})
    decayed = traverse_util.unflatten_dict({path: is_decayed(path, config) for path in flat})

    return optax.chain(
        optax.stateless(functools.partial(clip_by_global_norm, limit=config.gradient_clip)),
        optax.adamw(
            learning_rate=1.0,
            b1=config.beta1,
            b2=config.beta2,
            eps=config.epsilon,
            weight_decay=config.weight_decay,
            mask=decayed,
        ),
        scale_by_rates(peaks, config, total_steps),
    )


def scale_by_rates(peaks: dict, config: TrainConfig, total_steps: int) -> optax.GradientTransformation:
    """Multiplies every update by its peak rate and by the share that its schedule gives to the step.

    Args:
      peaks: the peak rate of every parameter, a float in the place of the array; those of the encoder stand under
        "transformer".
    """
    schedules = {True: encoder_schedule(total_steps, config), False: unit_schedule(total_steps, config.warmup_ratio)}

    def init(params: Any) -> optax.ScaleByScheduleState:
        return optax.ScaleByScheduleState(count=jnp.zeros((), jnp.int32))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[dict, optax.ScaleByScheduleState]:
        shares = {of_encoder: schedule(state.count) for of_encoder, schedule in schedules.items()}
        scaled = {}
        for part in updates:
            share = shares[part == "transformer"]
            rates = jax.tree.map(lambda peak, share=share: peak * share, peaks[part])
            scaled[part] = jax.tree.map(jnp.multiply, updates[part], rates)
        return scaled, optax.ScaleByScheduleState(count=optax.safe_increment(state.count))

    return optax.GradientTransformation(init, update)
