"""One update by a batch, as a pure function of explicit state."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx, traverse_util

from amsdff_jax.config import Config
from amsdff_jax.data.batches import Batch
from amsdff_jax.data.encoded_labels import likeliest_classes
from amsdff_jax.models.dropout import Dropout
from amsdff_jax.models.layers import BatchNorm
from amsdff_jax.models.losses import OBJECTIVES, Objective, combine, contrastive_loss
from amsdff_jax.models.pretrained import PretrainedClassifier
from amsdff_jax.models.state_dict import torch_name
from amsdff_jax.models.variables import Variables, graph_identity
from amsdff_jax.training.optimizer import make_optimizer


class TrainState(NamedTuple):
    """Everything a step reads and writes.

    Attributes:
      step: scalar int32, updates done so far.
      variables: the model's numbers.
      optimizer_state: optax's, for the trainable parameters.
    """

    step: jax.Array
    variables: Variables
    optimizer_state: optax.OptState


class Graphs(NamedTuple):
    """The model without its numbers, in its two modes."""

    train: nnx.GraphDef
    eval: nnx.GraphDef


TrainStep = Callable[[TrainState, Batch, jax.Array], tuple[TrainState, dict[str, jax.Array]]]


def split_model(
    model: nnx.Module, rates: Mapping[str, float], axis_name: str | None = None
) -> tuple[Graphs, Variables]:
    """Takes a model apart. The numbers are copies: a step that donates them leaves the model intact.

    Args:
      rates: peak learning rate of every parameter by PyTorch name; one of 0 is frozen.
      axis_name: the axis over which `jax.pmap` will spread the batches of the train mode.
    """
    model.train()
    model.set_attributes(BatchNorm, Dropout, axis_name=axis_name, raise_if_not_found=False)
    train_graph = nnx.graphdef(model)
    model.eval()
    model.set_attributes(BatchNorm, Dropout, axis_name=None, raise_if_not_found=False)
    eval_graph = nnx.graphdef(model)
    parameters, _, statistics = jax.tree.map(jnp.copy, Variables.of(model))
    flat = traverse_util.flatten_dict(parameters)
    trainable = {path: value for path, value in flat.items() if rates[torch_name(path)]}
    frozen = {path: value for path, value in flat.items() if not rates[torch_name(path)]}
    variables = Variables(traverse_util.unflatten_dict(trainable), traverse_util.unflatten_dict(frozen), statistics)
    return Graphs(train_graph, eval_graph), variables


def update_model(model: nnx.Module, variables: Variables) -> None:
    """Puts copies of `variables` back into the model they were taken from."""
    for part in variables:
        nnx.update(model, jax.tree.map(jnp.copy, part))


def _forward(model: PretrainedClassifier, batch: Batch, dropout_key: jax.Array) -> Any:
    return model(batch.input_ids, batch.attention_mask, dropout_key)


def make_train_step(
    graph: nnx.GraphDef,
    config: Config,
    optimizer: optax.GradientTransformation,
    weights: np.ndarray,
    axis_name: str | None = None,
    forward: Callable[[PretrainedClassifier, Any, jax.Array], Any] = _forward,
    gather: Callable[[dict], dict] = lambda parameters: parameters,
) -> TrainStep:
    """The function of one update, to be compiled with its state donated.

    Args:
      graph: the model in train mode.
      weights: [C] weight of each class in the loss, as the objective of `config.task` takes it.
      axis_name: None for a function of whole batches; for one to run under `jax.pmap`, on the rows
        of one device, the name of the mapped axis, over which it sums.
      forward: (model, batch, dropout key) -> the model's output, for batches of anything but token ids.
      gather: brings the parameters to where they are used, see `DataParallel.gather`.

    Returns:
      (state, batch, key) -> (new state, metrics). `key` is the run's; the step's own is folded from
      it. The metrics are scalars: `loss` and its parts, weighted by class as in training,
      `accuracy` where answers are classes, `examples` and `gradient_norm` before clipping.
    """
    objective = OBJECTIVES[config.task.kind]

    def loss_share(trainable: dict, frozen: dict, statistics: dict, batch: Batch, weight: jax.Array, key: jax.Array):
        """The part that the rows of `batch` have in the loss, if `weight` [B] is each one's share of all weight."""
        model = nnx.merge(graph, gather(trainable), gather(frozen), statistics)
        output = forward(model, batch, key)
        valid_mask: Any = batch.attention_mask.any(axis=-1)
        parts = objective.loss_parts(output.logits, batch.labels, config.loss, weights)
        if config.loss.r_drop:
            other = forward(model, batch, jax.random.fold_in(key, 1)).logits
            others = objective.loss_parts(other, batch.labels, config.loss, weights)
            parts = {name: (part + others[name]) / 2 for name, part in parts.items()}
            parts["r_drop"] = objective.divergence(output.logits, other)
        if config.loss.contrastive:
            classes: Any = likeliest_classes(batch.labels)
            parts["contrastive"] = contrastive_loss(
                output.pooled_features, classes, valid_mask, config.loss.temperature, axis_name
            )
        sums = {name: jnp.sum(part * weight) for name, part in parts.items()}
        sums["examples"] = valid_mask.sum().astype(jnp.float32)
        if objective.is_right is not None:
            correct = objective.is_right(output.logits, batch.labels) & valid_mask
            sums["correct"] = correct.sum().astype(jnp.float32)
        return combine(sums, config.loss), (sums, nnx.to_pure_dict(nnx.state(model, nnx.BatchStat)))

    differentiate = jax.grad(loss_share, has_aux=True)

    def train_step(state: TrainState, batch: Batch, key: jax.Array) -> tuple[TrainState, dict[str, jax.Array]]:
        trainable, frozen, statistics = state.variables
        step_key = jax.random.fold_in(key, state.step)

        def differentiate_piece(statistics: dict, piece: tuple[jax.Array, tuple[Batch, jax.Array]]):
            number, (rows, weight) = piece
            key = jax.random.fold_in(step_key, number)
            gradients, (sums, statistics) = differentiate(trainable, frozen, statistics, rows, weight, key)
            return statistics, (gradients, sums)

        weight = _weight_shares(batch, objective, weights, axis_name)
        statistics, (gradients, sums) = _accumulate(
            differentiate_piece, statistics, (batch, weight), config.train.accumulation_steps
        )
        if axis_name:
            gradients, sums = jax.lax.psum((gradients, sums), axis_name)
        updates, optimizer_state = optimizer.update(gradients, state.optimizer_state, trainable)
        examples, correct = sums.pop("examples"), sums.pop("correct", None)
        metrics = sums | {
            "loss": combine(sums, config.loss),
            **({} if correct is None else {"accuracy": correct / jnp.maximum(examples, 1)}),
            "examples": examples,
            "gradient_norm": optax.tree.norm(gradients),
        }
        updated: Any = optax.apply_updates(trainable, updates)
        variables = Variables(updated, frozen, statistics)
        return TrainState(state.step + 1, variables, optimizer_state), metrics

    return train_step


def step_identity(
    graph: nnx.GraphDef, config: Config, rates: Mapping[str, float], weights: np.ndarray, total_steps: int
) -> str | None:
    """All that the step of `make_train_step` depends on but its arguments; None where that cannot be told."""
    identity = graph_identity(graph)
    if identity is None:
        return None
    settings = (config.train, config.loss, config.parallel, rates, weights.tolist(), total_steps)
    task = "" if config.task.kind == "single" else f"\n{config.task}"
    return f"{identity}\n{settings}{task}"


def initial_state(
    variables: Variables, rates: Mapping[str, float], config: Config, total_steps: int
) -> tuple[TrainState, optax.GradientTransformation]:
    """The state before the first step, and the optimizer that moves it."""
    optimizer = make_optimizer(variables.trainable, rates, config.train, total_steps)
    return TrainState(jnp.zeros((), jnp.int32), variables, optimizer.init(variables.trainable)), optimizer


def _weight_shares(batch: Batch, objective: Objective, weights: np.ndarray, axis_name: str | None) -> jax.Array:
    """[B] the share of each text in the weight of the whole batch; 0 on filler.

    The weight is divided here and not in the end, because gradients are far larger than a batch.
    """
    weight = objective.text_weights(jnp.asarray(batch.labels), jnp.asarray(weights))
    weight = jnp.where(batch.attention_mask.any(axis=-1), weight, 0.0)
    total = jax.lax.psum(weight.sum(), axis_name) if axis_name else weight.sum()
    return weight / jnp.maximum(total, jnp.finfo(jnp.float32).tiny)


def _accumulate(function: Callable, carry: Any, batch: Any, pieces: int) -> tuple[Any, Any]:
    """The sum of what `function` gives for each of `pieces` parts of a batch, one after the other, to save memory.

    Args:
      function: (carry, (number of the piece, its rows)) -> (carry, results).
      batch: arrays [B,...].
    """
    if pieces == 1:
        return function(carry, (jnp.int32(0), batch))
    # Every n-th row makes a piece, so that each piece is spread over all devices.
    parts = jax.tree.map(lambda x: x.reshape(-1, pieces, *x.shape[1:]).swapaxes(0, 1), batch)

    def add(carry_and_totals: tuple[Any, Any], piece: Any):
        carry, totals = carry_and_totals
        carry, results = function(carry, piece)
        return (carry, jax.tree.map(jnp.add, totals, results)), None

    _, shapes = jax.eval_shape(function, carry, (jnp.int32(0), jax.tree.map(lambda x: x[0], parts)))
    zeros = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)
    return jax.lax.scan(add, (carry, zeros), (jnp.arange(pieces), parts))[0]
