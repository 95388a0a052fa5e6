"""Conversion between PyTorch's files and model folders, in both directions, without PyTorch."""

import logging
import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.escaping import printable
from amsdff_jax.base.files import user_path
from amsdff_jax.base.validation import require, require_choice
from amsdff_jax.config import LONG_TEXTS, TASKS, DataConfig
from amsdff_jax.data.saved_tokenizer import Tokenizer
from amsdff_jax.data.tokenization import check_vocabulary, has_tokenizer, load_tokenizer, make_windows
from amsdff_jax.evaluation.model_card import record_conversion
from amsdff_jax.interop.encoder_files import read_encoder_config
from amsdff_jax.interop.hub import find_encoder
from amsdff_jax.interop.peft_adapter import is_adapter_folder, read_adapter
from amsdff_jax.interop.safetensors_file import write_safetensors
from amsdff_jax.interop.sequence_classification import read_task
from amsdff_jax.interop.torch_checkpoint import write_torch_file
from amsdff_jax.interop.weights_file import read_weights_file
from amsdff_jax.models.dimensions import read_dimensions
from amsdff_jax.models.model_folder import SavedModel, check_class_names, load_model, read_model_config, save_model
from amsdff_jax.models.registry import MODELS
from amsdff_jax.models.state_dict import load_state_dict, to_state_dict
from amsdff_jax.models.variables import abstract_model
from amsdff_jax.training.torch_state import checkpoint_settings, read_run_state, trainer_checkpoint

PUBLISHED_MAX_LENGTH = 256

logger = logging.getLogger(__name__)


def describe(file: str | Path) -> str:
    """What a file of weights is and holds, a printable line a tensor.

    Raises:
      UserError: not a file of weights, or one that is refused; nothing in it has been run.
    """
    weights = read_weights_file(file, model_type="")
    numbers = sum(tensor.size for tensor in weights.tensors.values())
    model = f"the classifier {weights.model_name!r}" if weights.model_name else "no classifier of this project"
    lines = [f"{file}: {weights.kind}; {model}; {len(weights.tensors)} tensors, {numbers:,} numbers"]
    width = max(map(len, weights.tensors), default=0)
    lines += [f"  {name:{width}}  {tensor.dtype!s:8}  {list(tensor.shape)}" for name, tensor in weights.tensors.items()]
    lines += [f"  renamed: {old} -> {new}" for old, new in weights.renamed.items()]
    lines += [f"  ignored: {name} ({reason})" for name, reason in weights.ignored.items()]
    lines += [f"  beside the weights: {name}, {_summary(value)}" for name, value in weights.training.items()]
    return "\n".join(map(printable, lines))


def from_torch(
    file: str | Path,
    folder: str | Path,
    *,
    encoder_config: str = "",
    tokenizer: str = "",
    class_names: Sequence[str] = (),
    padding: str = "",
    num_attention_heads: int = 0,
    max_length: int = 0,
    task: str = "",
) -> SavedModel:
    """Makes a model folder of a PyTorch checkpoint.

    What is not given is taken from the `config` that a checkpoint of this project holds.

    Args:
      file: `.pt` or safetensors, see `read_weights_file`; or a folder of peft's adapters, which are merged into the
        encoder at `encoder_config`.
      folder: written, or replaced if it is a model folder.
      encoder_config: encoder's folder, config.json, or a name that `find_encoder` knows; it tells the
        number of attention heads, which tensors do not.
      tokenizer: folder or such a name; "": the encoder's, if there is one.
      class_names: C names; (): numbers.
      padding: `reference`, which PyTorch weights are trained with, or `masked`; "": reference.
      num_attention_heads: of the layers after the encoder; 0: 8, as published.
      max_length: tokens a text is truncated to; 0: 256, as published.
      task: the kind of task that the weights were trained for, one of `TASKS`; "": as the file says, or as
        transformers has it: single, and regression of one logit. With thresholds between the classes it is ordinal.

    Raises:
      UserError: anything about the file that does not fit, all of it in one message; nothing is written then.
    """
    encoder_path = _find(encoder_config, "--encoder_config") if encoder_config else None
    model_type = read_encoder_config(encoder_path).model_type if encoder_path else ""
    if is_adapter_folder(user_path(file)):
        weights = read_adapter(user_path(file), encoder_path, model_type)
    else:
        weights = read_weights_file(file, model_type)
    settings = _settings(weights.training.get("config"))
    padding = padding or settings.get("padding", "reference")
    heads = num_attention_heads or settings.get("num_attention_heads", 8)
    config, encoder = read_dimensions(weights, str(file), str(encoder_path or ""), heads, padding == "masked")
    model = abstract_model(lambda rngs: MODELS[config.name](config, encoder, rngs=rngs))
    load_state_dict(model, weights.tensors, str(file))
    found = _tokenizer(tokenizer, encoder_path)
    if found is not None:
        check_vocabulary(found, encoder.vocab_size, str(tokenizer or encoder_path))
    names = class_names or settings.get("class_names", [str(number) for number in range(config.num_classes)])
    check_class_names(names, config.num_classes)
    length = min(max_length or settings.get("max_length", PUBLISHED_MAX_LENGTH), encoder.max_tokens)
    require(length >= 3, "max_length", length, "at least 3 tokens")
    long_texts = settings.get("long_texts", "truncate")
    require_choice(f"{file}: long_texts", long_texts, LONG_TEXTS)
    if long_texts == "windows" and found is None:
        raise UserError(f"{file}: its model reads windows of long texts, for which --tokenizer=DIR must name one")
    if found is not None:
        overlap = settings.get("window_overlap", 0)
        data = DataConfig(max_length=length, long_texts=long_texts, window_overlap=overlap)
        model.read_in_windows(make_windows(data, found))
    require_choice("task", task, ("", *TASKS))
    task = task or read_task(settings, config.num_classes, config.ordinal)
    saved = SavedModel(model, found, tuple(names), length, long_texts=long_texts, task=task)
    save_model(folder, saved)
    record_conversion(folder, file, weights.kind)
    counts = f"{len(weights.tensors)} tensors, {len(weights.renamed)} renamed, {len(weights.ignored)} ignored"
    sizes = f"task {task}, {config.num_classes} classes, {padding} padding, {heads} heads, at most {length} tokens"
    logger.info(f"{file}: {weights.kind}, {counts} -> {folder} ({config.name}, {sizes})")
    if found is None:
        logger.warning("%s: no tokenizer, so the model runs on token ids only; --tokenizer=DIR adds one", folder)
    return saved


def to_torch(source: str | Path, file: str | Path, layout: str = "state_dict") -> None:
    """Writes a model for PyTorch.

    Args:
      source: a model folder; or a run's folder, whose newest checkpoint (not its best) gives optimizer and
        schedule too.
      file: `.pt` or `.safetensors`.
      layout: `state_dict`, or `trainer`: the dict that the published trainer saves (`.pt` only).

    Raises:
      UserError: no such source, or a file that cannot be written.
    """
    source, file = user_path(source), user_path(file)
    if file.suffix not in (".pt", ".pth", ".bin", ".safetensors"):
        raise UserError(f"{file}: expected a name that ends in .pt or .safetensors")
    if (source / "checkpoints").is_dir():
        checkpoint = trainer_checkpoint(read_run_state(source))
    else:
        config = read_model_config(source)
        overlap = config.windows.overlap if config.windows else 0
        checkpoint = {
            "model_state_dict": to_state_dict(load_model(source)),
            "config": checkpoint_settings(
                config.model, config.class_names, config.max_length, config.long_texts, overlap, config.task
            ),
        }
    content = checkpoint if layout == "trainer" else checkpoint["model_state_dict"]
    if file.suffix == ".safetensors":
        if layout == "trainer":
            raise UserError(f"{file}: safetensors holds tensors only; --layout=trainer needs a .pt file")
        write_safetensors(file, content)
    else:
        write_torch_file(file, content)
    logger.info("%s -> %s (%s, %d tensors)", source, file, layout, len(checkpoint["model_state_dict"]))


def _settings(config: Any) -> dict[str, Any]:
    """What `to_torch` writes beside the weights and tensors do not tell, as far as it is there and in order."""
    kinds = {"class_names": list, "max_length": int, "long_texts": str, "window_overlap": int, "padding": str}
    kinds |= {"num_attention_heads": int, "problem_type": str}
    config = config if isinstance(config, dict) else {}
    return {name: config[name] for name, kind in kinds.items() if type(config.get(name)) is kind and config[name]}


def _find(name: str, flag: str) -> Path:
    if user_path(name).exists():
        return user_path(name)
    try:
        return find_encoder(name)
    except UserError:
        raise UserError(f"{flag}: {name} is no file or folder, and no encoder of that name could be found") from None


def _tokenizer(name: str, encoder_path: Path | None) -> Tokenizer | None:
    if name:
        return load_tokenizer(_find(name, "--tokenizer"))
    if encoder_path is not None and has_tokenizer(encoder_path):
        return load_tokenizer(encoder_path)
    return None


def _summary(value: Any) -> str:
    if isinstance(value, dict):
        return f"dict of {', '.join(map(str, list(value)[:6]))}{', …' if len(value) > 6 else ''}"
    if isinstance(value, np.ndarray):
        return f"tensor {list(value.shape)}"
    return reprlib.repr(value)
