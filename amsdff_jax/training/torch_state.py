"""A run's newest checkpoint, and the dict that the published PyTorch trainer would save of it."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from flax import nnx, traverse_util

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.files import user_path
from amsdff_jax.config import Config, ModelConfig
from amsdff_jax.interop.encoder_files import read_encoder_config
from amsdff_jax.interop.hub import find_encoder
from amsdff_jax.interop.sequence_classification import PROBLEM_TYPES
from amsdff_jax.models.adapters import merge_adapters
from amsdff_jax.models.lora import is_adapter
from amsdff_jax.models.pretrained import PretrainedClassifier
from amsdff_jax.models.registry import MODELS
from amsdff_jax.models.state_dict import parameter_names, to_state_dict, torch_name
from amsdff_jax.training.checkpoint import Checkpoints, has_checkpoint
from amsdff_jax.training.inputs import RunInputs
from amsdff_jax.training.optimizer import peak_learning_rates, schedule_shares
from amsdff_jax.training.optimizer_state import optimizer_to_torch, schedule_to_torch
from amsdff_jax.training.progress import RunProgress
from amsdff_jax.training.step import TrainState, initial_state, split_model, update_model
from amsdff_jax.training.workdir import read_run_config


class RunState(NamedTuple):
    """Where a run stands: its settings, its state, and the model with the weights of that moment."""

    config: Config
    state: TrainState
    progress: RunProgress
    model: PretrainedClassifier


def read_run_state(workdir: str | Path) -> RunState:
    """The newest checkpoint of a run, finished or not.

    Raises:
      UserError: no run in that folder, no checkpoint yet, or one that cannot be read.
    """
    workdir = user_path(workdir)
    config = read_run_config(workdir)
    if config.task.kind == "regression":
        raise UserError(
            f"{workdir}: a run with task.kind=regression learns standardized labels; convert {workdir / 'model'}, "
            "which answers in their unit"
        )
    if not has_checkpoint(workdir):
        raise UserError(f"{workdir}: this run has no checkpoint yet")
    inputs = RunInputs.read(workdir)  # runs of earlier versions have none
    encoder_config = (
        inputs.encoder
        if inputs
        else read_encoder_config(config.model.encoder_config or find_encoder(config.model.encoder))
    )
    model = MODELS[config.model.name](config.model, encoder_config, rngs=nnx.Rngs(0))
    rates = peak_learning_rates(parameter_names(model), config.train)
    # Only the shape of the state counts here, and that does not depend on the number of steps.
    like, _ = initial_state(split_model(model, rates)[1], rates, config, total_steps=1)
    state, progress = Checkpoints(workdir / "checkpoints").restore(like)
    update_model(model, jax.device_get(state.variables))
    return RunState(config, state, RunProgress(**progress), model)


def trainer_checkpoint(run: RunState) -> dict[str, Any]:
    """The dict that the published PyTorch trainer saves, with NumPy arrays for tensors.

    Adapters are merged into the weights, and their moments left out: the encoder counts as frozen.
    """
    train, step = run.config.train, int(run.state.step)
    paths = [*_paths(run.state.variables.trainable), *_paths(run.state.variables.frozen)]
    rates = peak_learning_rates(map(torch_name, paths), train)
    paths = [path for path in paths if not is_adapter(torch_name(path))]
    shares = schedule_shares(rates, train, run.progress.total_steps, step)
    optimizer = optimizer_to_torch(run.state.optimizer_state, step, paths, rates, shares, train)
    history = {
        f"{ours}_{metric}": [record[split][metric] for record in run.progress.history]
        for ours, split in (("train", "train"), ("val", "validation"))
        for metric in ("loss", "accuracy")
    }
    return {
        "model_state_dict": to_state_dict(merge_adapters(run.model)),
        "optimizer_state_dict": optimizer,
        "scheduler_state_dict": schedule_to_torch(step, optimizer),
        "config": dataclasses.asdict(run.config)
        | checkpoint_settings(
            run.config.model,
            run.progress.class_names,
            run.config.data.max_length,
            run.config.data.long_texts,
            run.config.data.window_overlap,
            run.config.task.kind,
        ),
        "history": history,
        "best_val_accuracy": max(history["val_accuracy"], default=0.0),
    }


def checkpoint_settings(
    model: ModelConfig, class_names: Sequence[str], max_length: int, long_texts: str, window_overlap: int, task: str
) -> dict[str, Any]:
    """What `from_torch` needs to know and cannot read off tensors."""
    return {
        "class_names": list(class_names),
        "max_length": max_length,
        "long_texts": long_texts,
        "window_overlap": window_overlap,
        "padding": "masked" if model.mask_padding else "reference",
        "num_attention_heads": model.num_attention_heads,
        "problem_type": PROBLEM_TYPES[task],
    }


def _paths(tree: dict) -> list[tuple]:
    return list(traverse_util.flatten_dict(tree))
