"""How a run starts, once all goes together: with new layers fitted, from a file of PyTorch's, or where it stopped."""

import dataclasses
import hashlib
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.validation import first_of, nearest, require
from amsdff_jax.config import Config, TaskConfig
from amsdff_jax.data.batches import make_batch, plan_sample
from amsdff_jax.data.dataset import KINDS, TextDataset
from amsdff_jax.data.encoded_labels import count_classes, label_kind
from amsdff_jax.data.tokens import Tokens
from amsdff_jax.evaluation.metrics import METRICS, best_metric
from amsdff_jax.interop.weights_file import read_weights_file
from amsdff_jax.models.dropout import Dropout
from amsdff_jax.models.last_layer import CumulativeLogits, last_layer_of
from amsdff_jax.models.lora import is_adapter
from amsdff_jax.models.pretrained import PretrainedClassifier
from amsdff_jax.models.state_dict import load_state_dict, to_state_dict
from amsdff_jax.models.variables import Variables
from amsdff_jax.parallel.data_parallel import DataParallel
from amsdff_jax.parallel.hosts import require_same_on_all_hosts
from amsdff_jax.training.checkpoint import Checkpoints, checksum, has_checkpoint
from amsdff_jax.training.optimizer_state import optimizer_from_torch
from amsdff_jax.training.progress import RunProgress
from amsdff_jax.training.step import Graphs, TrainState, initial_state, split_model, update_model

SAMPLED_TEXTS = 64  # that new layers are fitted to

logger = logging.getLogger(__name__)


def with_task(config: Config, train_data: TextDataset) -> Config:
    """The settings with the task of a run, which the training data tells where they do not, and a metric that it has.

    That classes are ordered the settings alone can say.

    Raises:
      UserError: the settings say another task.
    """
    task = train_data.task
    if label_kind(config.task.kind) not in ("single", task) or (config.task.kind == "ordinal" and task != "single"):
        raise UserError(
            f"task.kind: {config.task.kind}, but {train_data.name} has {KINDS[task]}; "
            f"read it with task={config.task.kind}"
        )
    task = "ordinal" if config.task.kind == "ordinal" else task
    metric = best_metric(config.train.best_metric, task)
    train = dataclasses.replace(config.train, best_metric=metric)
    return dataclasses.replace(config, task=TaskConfig(task), train=train)


def check_run(
    model: PretrainedClassifier,
    config: Config,
    train_data: TextDataset,
    val_data: TextDataset,
    metrics: Iterable[str] = (),
) -> None:
    """Raises `UserError` unless settings, model and data go together.

    Args:
      metrics: the names of those that the caller computes.
    """
    task = METRICS[config.task.kind]
    known = sorted(task.higher_is_better | task.lower_is_better | set(metrics))
    if config.train.best_metric not in known:
        raise UserError(
            f"train.best_metric: no metric {config.train.best_metric!r}{nearest(config.train.best_metric, known)}; "
            f"there are {', '.join(known)}, and what is given to Trainer as metrics="
        )
    val_data.require_classes(train_data.class_names, train_data.name, train_data.task)
    if train_data.task != "single" and config.loss.contrastive:
        raise UserError(
            f"loss.contrastive: {config.loss.contrastive}, but it compares texts by their one class, and "
            f"{train_data.name} has {KINDS[train_data.task]}; expected 0"
        )
    if config.loss.contrastive and config.train.batch_size == config.train.accumulation_steps:
        raise UserError(
            f"loss.contrastive: {config.loss.contrastive}, but train.batch_size={config.train.batch_size} in "
            f"train.accumulation_steps={config.train.accumulation_steps} is one text at a time, and it compares texts"
        )
    # Not in `Config`, so that runs of earlier versions, which took them, can still be read.
    if config.loss.focal:
        require(0 < config.loss.focal_alpha < math.inf, "loss.focal_alpha", config.loss.focal_alpha, "a number above 0")
        require(0 <= config.loss.focal_gamma < math.inf, "loss.focal_gamma", config.loss.focal_gamma, "0 or more")
    require(0 < config.train.epsilon < math.inf, "train.epsilon", config.train.epsilon, "a number above 0")
    if train_data.task == "regression" and train_data.labels.min() == train_data.labels.max():
        raise UserError(f"{train_data.name}: all labels are {train_data.labels[0]:g}; expected several numbers")
    if train_data.task == "regression" and config.train.init_from:
        raise UserError(
            f"train.init_from: {config.train.init_from}, but with task.kind=regression a run begins with a new last "
            "layer, for standardized labels; expected nothing"
        )
    val_data.require_pairs(train_data.text_pairs is not None, train_data.name)
    if config.loss.r_drop and not any(
        module.rate > 0 for _, module in nnx.iter_modules(model) if isinstance(module, Dropout)
    ):
        raise UserError(
            f"loss.r_drop: {config.loss.r_drop}, but nothing of the model is dropped, and both passes are the same; "
            "expected 0, or a dropout rate above 0"
        )
    if config.task.kind == "ordinal" and not model.config.ordinal:
        raise UserError(
            "task.kind: ordinal, but the model has no thresholds between ordered classes; make it with ordinal=True"
        )
    if config.task.kind == "ordinal" and config.train.linear_probe:
        raise UserError("train.linear_probe: True, but ordered classes have one score and thresholds; expected False")
    classes, positions = model.config.num_classes, model.encoder_config.max_tokens
    if classes != len(train_data.class_names):
        raise UserError(
            f"model.num_classes: the model has {classes}, but {train_data.name} has {len(train_data.class_names)}"
        )
    if config.data.max_length > positions:
        raise UserError(
            f"data.max_length: expected at most {positions}, the encoder's positions, got {config.data.max_length}"
        )


class Start(NamedTuple):
    """What the first step of a session needs.

    Attributes:
      graphs: the model without its numbers.
      optimizer: what moves them.
      state: before the first step, on this host. A run that has a checkpoint replaces it by `resume_run`.
    """

    graphs: Graphs
    optimizer: optax.GradientTransformation
    state: TrainState


def start_run(
    model: PretrainedClassifier,
    config: Config,
    rates: Mapping[str, float],
    train_tokens: Tokens,
    class_names: Sequence[str],
    workdir: Path,
    total_steps: int,
    parallel: DataParallel,
) -> Start:
    """The start of the run in `workdir`: a new one with fitted layers or from `train.init_from`, or one to resume.

    Args:
      model: gets the weights that the run starts from.
      rates: peak learning rate of every parameter by PyTorch name, 0 where it is frozen.
      total_steps: updates of the whole run.
      parallel: the devices that it is to run on.

    Raises:
      UserError: a folder with a model whose checkpoints are gone; an `init_from` that cannot be read or does not fit.
    """
    is_new = not has_checkpoint(workdir)
    if is_new and (workdir / "model").exists():
        raise UserError(
            f"{workdir}: holds a finished model without the checkpoints of its run; use another --workdir, or "
            f"move {workdir / 'model'} away"
        )
    file = config.train.init_from if is_new else ""
    padded = None if config.model.mask_padding else config.data.max_length  # which the layers then see
    if is_new and not file and config.train.data_dependent_init and model.needs_data_init:
        fit_new_layers(model, train_tokens, config.seed, padded)
    if is_new and not file and config.train.linear_probe:
        from amsdff_jax.training.linear_probe import fit_linear_probe  # loads scikit-learn, which takes two seconds

        fit_linear_probe(model, train_tokens, config.seed, padded)
    with parallel.making_state():
        if parallel.mode == "fsdp":
            update_model(model, Variables.of(model))  # it, too, leaves the device, which may have no room for both
        graphs, variables = split_model(model.for_platform(parallel.platform), rates, parallel.axis_name)
        state, optimizer = initial_state(variables, rates, config, total_steps)
        if file:
            state = _read_start(file, model, class_names, rates, state, total_steps)
    return Start(graphs, optimizer, state)


def resume_run(
    workdir: Path, checkpoints: Checkpoints, state: TrainState, progress: RunProgress
) -> tuple[TrainState, RunProgress]:
    """The state and the progress of the newest checkpoint; those of later steps are deleted.

    Args:
      state: one with the shapes, types and places on the devices that are expected.
      progress: of this run before its first step.

    Raises:
      UserError: no checkpoint can be read, or they are of a run on other training data.
    """
    restored = checkpoints.restore(state)
    saved = RunProgress(**restored.progress)
    if saved.data_fingerprint != progress.data_fingerprint:
        raise UserError(f"{workdir}: holds a run on other training data (or another tokenizer); use another --workdir")
    checkpoints.delete_checkpoints_after(int(restored.state.step))
    return restored.state, saved


def require_same_settings(config: Config) -> None:
    """Raises `UserError` on every host unless all of them have the same settings."""
    require_same_on_all_hosts("settings", hashlib.blake2b(repr(config).encode(), digest_size=16).hexdigest())


def require_same_weights(state: TrainState) -> None:
    """Raises `UserError` on every host unless all of them start from the same weights."""
    if jax.process_count() > 1:  # for the sum takes a while
        require_same_on_all_hosts("weights", f"{checksum(state):08x}")


def fit_new_layers(model: PretrainedClassifier, tokens: Tokens, seed: int, padded: int | None = None) -> None:
    """Fits the random layers of `model` to some texts of `tokens`, chosen by `seed`, and thresholds to all labels.

    Args:
      padded: to how many tokens; None: to those of the longest text.
    """
    if model.can_fit_new_layers:
        batch = make_batch(tokens, plan_sample(tokens.lengths, SAMPLED_TEXTS, seed, padded))
        mask = jnp.asarray(batch.attention_mask, bool)
        fit_to_features(model, _encode(model, jnp.asarray(batch.input_ids), mask), mask)
        logger.info("new layers fitted to %d training texts", len(batch.labels))
    fit_last_layer(model, tokens.labels)


def fit_to_features(model: PretrainedClassifier, encoder_output: jax.Array, mask: jax.Array) -> None:
    """Fits the random layers of `model` to what the encoder has made of some texts: [B,S,H], and mask [B,S] bool."""
    _fit(model, encoder_output, mask)


def fit_last_layer(model: PretrainedClassifier, labels: np.ndarray) -> None:
    """Fits the thresholds of ordered classes, if the model has any, to training labels; the last layer to be fitted."""
    last = last_layer_of(model)
    if isinstance(last, CumulativeLogits):
        last.fit(count_classes(labels, last.out_features))
    model.needs_data_init = False


def _compare_settings(file: str, saved: Any, model: PretrainedClassifier, class_names: Sequence[str]) -> None:
    """Raises `UserError`, or warns, where the file's weights were made for other settings that no tensor tells."""
    saved = saved if isinstance(saved, dict) else {}
    heads, own_heads = saved.get("num_attention_heads"), model.config.num_attention_heads
    if isinstance(heads, int) and heads != own_heads and model.name in ("amsdff", "transformer"):
        raise UserError(
            f"{file}: is of a model whose layers have {heads} attention heads, and this one's have {own_heads}; set "
            f"--config.model.num_attention_heads={heads}"
        )
    padding = "masked" if model.config.mask_padding else "reference"
    if saved.get("padding", padding) != padding:
        logger.warning("%s: was trained with %s padding, and this run's is %s", file, saved["padding"], padding)
    names = saved.get("class_names", class_names)
    if isinstance(names, list) and list(map(str, names)) != list(class_names):
        message = "%s: its classes are %s, and here the same rows of the last layer are %s"
        logger.warning(message, file, first_of(list(map(str, names))), first_of(class_names))


@nnx.jit
def _encode(model: PretrainedClassifier, input_ids: jax.Array, mask: jax.Array) -> jax.Array:
    return model.encode(input_ids, mask)


@nnx.jit
def _fit(model: PretrainedClassifier, encoder_output: jax.Array, mask: jax.Array) -> None:
    model.fit_new_layers(encoder_output, mask)


def _read_start(
    file: str,
    model: PretrainedClassifier,
    class_names: Sequence[str],
    rates: Mapping[str, float],
    state: TrainState,
    total_steps: int,
) -> TrainState:
    """Takes weights from a file of PyTorch's, and the optimizer's state where the file has it.

    With an optimizer's state the run starts after the updates that it has made: their batches are skipped, and the
    learning rate stands where it would. The model is not changed unless all of the file fits.

    Raises:
      UserError: a file that cannot be read, does not fit, or has made all steps of the run already.
    """
    model_type = model.encoder_config.model_type
    weights = read_weights_file(file, model_type)
    _compare_settings(file, weights.training.get("config"), model, class_names)
    optimizer_state, step = state.optimizer_state, 0
    saved = weights.training.get("optimizer_state_dict")
    if saved is not None:
        optimizer_state, step = optimizer_from_torch(saved, list(weights.tensors), optimizer_state, file, model_type)
    if step >= total_steps:
        raise UserError(
            f"{file}: its optimizer has made {step} steps, and this run has only {total_steps}; raise train.epochs "
            "(and train.max_steps), or save the weights alone to begin anew"
        )
    # Files hold ordinary models: adapters begin anew beside their weights.
    own = to_state_dict(model) if model.config.lora_rank else {}
    adapters = {name: tensor for name, tensor in own.items() if is_adapter(name)}
    load_state_dict(model, adapters | weights.tensors, file)
    logger.info("%s: %d tensors loaded, beginning after step %d", file, len(weights.tensors), step)
    return TrainState(jnp.int32(step), split_model(model, rates)[1], optimizer_state)
