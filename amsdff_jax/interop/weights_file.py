"""Recognises a file of weights that PyTorch wrote, and gives its tensors the names of this project."""

import re
from collections.abc import Container
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.files import user_path
from amsdff_jax.config import EncoderConfig
from amsdff_jax.interop.encoder_files import encoder_name, fold_segments, reason_to_ignore
from amsdff_jax.interop.safetensors_file import read_safetensors
from amsdff_jax.interop.tensor_files import find_state_dict
from amsdff_jax.interop.torch_checkpoint import read_torch_file

ENCODER = "transformer."  # what the encoder's names begin with

# Wrappers that put their own name in front: DataParallel and DistributedDataParallel, torch.compile.
WRAPPERS = re.compile(r"^((module|_orig_mod)\.)+")

# What the encoder's names once began with.
OLD_SPELLING = re.compile(r"^(transformer\.)?distilbert\.")

# A key that tells one kind of classifier from those below it.
MARKS = {
    "amsdff": "multi_scale_attention.scale_convs.0.0.weight",
    "lstm": "lstm.weight_ih_l0",
    "gru": "gru.weight_ih_l0",
    "transformer": "attention.in_proj_weight",
    "cnn": "convs.0.weight",
    "attention": "attention.0.weight",
    "bert": "pooler.dense.weight",
    "linear": "classifier.weight",
}


class WeightsFile(NamedTuple):
    """A file of weights."""

    kind: str  # what the file is, in words
    model_name: str  # the kind of classifier, as in `ModelConfig.name`; "" when no classifier is recognised
    tensors: dict[str, np.ndarray]  # names and layout of the PyTorch model, in the file's order and own types
    renamed: dict[str, str]  # names in the file that are spelled otherwise here
    ignored: dict[str, str]  # names in the file that no model needs, with the reason
    training: dict[str, Any]  # what the file holds beside the weights, such as `optimizer_state_dict`


def read_weights_file(file: str | Path, model_type: str = EncoderConfig.model_type) -> WeightsFile:
    """Reads a `.pt` or safetensors file, whatever wrapped the model or the dict.

    Args:
      model_type: of the encoder in it, as its `EncoderConfig` says; "": not known, its names stay as they are.

    Raises:
      UserError: not a file of weights, or one that is refused; nothing in it has been run.
    """
    file = user_path(file)
    if file.suffix == ".safetensors":
        stored, training, kind = read_safetensors(file), {}, "safetensors file"
    else:
        stored, training, kind = find_state_dict(file, read_torch_file(file))
    tensors, renamed, ignored = {}, {}, {}
    for stored_name, tensor in stored.items():
        name = current_name(stored_name, model_type)
        reason = reason_to_ignore(name.removeprefix(ENCODER)) if name.startswith(ENCODER) else ""
        if reason:
            ignored[stored_name] = reason
            continue
        if name in tensors:
            raise UserError(f"{file}: two tensors would be called {name}, one of them {stored_name}")
        if name != stored_name:
            renamed[stored_name] = name
        tensors[name] = tensor
    if model_type == EncoderConfig.model_type:
        fold_segments(tensors, str(file), ENCODER)
    return WeightsFile(kind, classifier_name(tensors), tensors, renamed, ignored, training)


def classifier_name(tensors: Container[str]) -> str:
    """The kind of classifier that has tensors of these names; "" when none is recognised."""
    return next((name for name, mark in MARKS.items() if mark in tensors), "")


def current_name(name: str, model_type: str = EncoderConfig.model_type) -> str:
    """What a parameter is called here, whatever wraps the model and however old its spelling is.

    Args:
      model_type: as for `read_weights_file`.
    """
    name = OLD_SPELLING.sub(ENCODER, WRAPPERS.sub("", name))
    if not name.startswith(ENCODER):
        return name
    return ENCODER + encoder_name(name.removeprefix(ENCODER), model_type)
