"""Conversion between PyTorch's files and model folders, in both directions, without PyTorch."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx
from transformers import PreTrainedTokenizerFast

from amsdff_jax.data.tokenization import load_tokenizer
from amsdff_jax.errors import UserError
from amsdff_jax.interop.dimensions import read_dimensions
from amsdff_jax.interop.hub import find_encoder
from amsdff_jax.interop.model_folder import SavedModel, load_model, read_model_config, save_model
from amsdff_jax.interop.safetensors_file import write_safetensors
from amsdff_jax.interop.state_dict import load_state_dict, to_state_dict
from amsdff_jax.interop.torch_checkpoint import write_torch_file
from amsdff_jax.interop.weights_file import read_weights_file
from amsdff_jax.models.catalogue import MODELS
from amsdff_jax.training.torch_state import read_run_state, trainer_checkpoint

PUBLISHED_MAX_LENGTH = 256

logger = logging.getLogger(__name__)


def describe(file: str | Path) -> str:
    """What a file of weights is and holds, a line a tensor.

    Raises:
      UserError: not a file of weights, or one that is refused; nothing in it has been run.
    """
    weights = read_weights_file(file)
    numbers = sum(tensor.size for tensor in weights.tensors.values())
    model = f"the classifier {weights.model_name!r}" if weights.model_name else "no classifier of this project"
    lines = [f"{file}: {weights.kind}; {model}; {len(weights.tensors)} tensors, {numbers:,} numbers"]
    width = max(map(len, weights.tensors), default=0)
    lines += [f"  {name:{width}}  {tensor.dtype!s:8}  {list(tensor.shape)}" for name, tensor in weights.tensors.items()]
    lines += [f"  renamed: {old} -> {new}" for old, new in weights.renamed.items()]
    lines += [f"  ignored: {name} ({reason})" for name, reason in weights.ignored.items()]
    lines += [f"  beside the weights: {name}, {_summary(value)}" for name, value in weights.training.items()]
    return "\n".join(lines)


def from_torch(
    file: str | Path,
    folder: str | Path,
    *,
    encoder_config: str = "",
    tokenizer: str = "",
    class_names: Sequence[str] = (),
    mask_padding: bool = False,
    num_attention_heads: int = 8,
    max_length: int = 0,
) -> SavedModel:
    """Makes a model folder of a PyTorch checkpoint.

    Args:
      file: `.pt` or safetensors, see `read_weights_file`.
      folder: written, or replaced if it is a model folder.
      encoder_config: encoder's folder, config.json, or a name that `find_encoder` knows; it tells the
        number of attention heads, which tensors do not.
      tokenizer: folder or such a name; "": the encoder's, if there is one.
      class_names: C names; (): those in the checkpoint, or numbers.
      mask_padding: False, reference semantics, is how PyTorch weights were trained.
      num_attention_heads: of the layers after the encoder.
      max_length: tokens a text is cut to; 0: the checkpoint's, or 256.

    Raises:
      UserError: anything about the file that does not fit, all of it in one message; nothing is written then.
    """
    weights = read_weights_file(file)
    encoder_path = _find(encoder_config)
    config, encoder = read_dimensions(weights, str(file), str(encoder_path or ""), num_attention_heads, mask_padding)
    model = nnx.eval_shape(lambda: MODELS[config.name](config, encoder, rngs=nnx.Rngs(0)))
    load_state_dict(model, weights.tensors, str(file))
    found = _tokenizer(tokenizer, encoder_path)
    if found is not None and len(found) > encoder.vocab_size:
        raise UserError(f"{tokenizer or encoder_path}: a tokenizer of {len(found)} tokens, but the model has only "
                        f"{encoder.vocab_size}")  # fmt: skip
    settings = weights.training.get("config")
    settings = settings if isinstance(settings, dict) else {}
    saved = SavedModel(
        model,
        found,
        _class_names(class_names or settings.get("class_names", ()), config.num_classes),
        min(max_length or settings.get("max_length") or PUBLISHED_MAX_LENGTH, encoder.max_position_embeddings),
    )
    save_model(folder, saved)
    logger.info(
        "%s: %s, %d tensors, %d renamed, %d ignored -> %s (%s, %d classes, %s)", file, weights.kind,
        len(weights.tensors), len(weights.renamed), len(weights.ignored), folder, config.name, config.num_classes,
        "masked" if mask_padding else "reference",
    )  # fmt: skip
    if found is None:
        logger.warning("%s: no tokenizer, so the model runs on token ids only; --tokenizer=DIR adds one", folder)
    return saved


def to_torch(source: str | Path, file: str | Path, layout: str = "state_dict") -> None:
    """Writes a model for PyTorch.

    Args:
      source: a model folder; or a run's folder, whose newest checkpoint gives optimizer and schedule too.
      file: `.pt` or `.safetensors`.
      layout: `state_dict`, or `trainer`: the dict that the published trainer saves (`.pt` only).

    Raises:
      UserError: no such source, or a file that cannot be written.
    """
    source, file = Path(source).expanduser(), Path(file).expanduser()
    if file.suffix not in (".pt", ".pth", ".bin", ".safetensors"):
        raise UserError(f"{file}: expected a name that ends in .pt or .safetensors")
    if (source / "checkpoints").is_dir():
        checkpoint = trainer_checkpoint(read_run_state(source))
    else:
        config = read_model_config(source)
        checkpoint = {
            "model_state_dict": to_state_dict(load_model(source)),
            "config": {"class_names": list(config.class_names), "max_length": config.max_length},
        }
    content = checkpoint if layout == "trainer" else checkpoint["model_state_dict"]
    if file.suffix == ".safetensors":
        if layout == "trainer":
            raise UserError(f"{file}: safetensors holds tensors only; --layout=trainer needs a .pt file")
        _write_safetensors(file, content)
    else:
        write_torch_file(file, content)
    logger.info("%s -> %s (%s, %d tensors)", source, file, layout, len(checkpoint["model_state_dict"]))


def _write_safetensors(file: Path, tensors: dict[str, np.ndarray]) -> None:
    try:
        write_safetensors(file, tensors)
    except OSError as error:
        raise UserError(f"{file}: cannot be written ({error.strerror})") from None


def _find(name: str) -> Path | None:
    if not name:
        return None
    path = Path(name).expanduser()
    return path if path.exists() else find_encoder(name)


def _tokenizer(name: str, encoder_path: Path | None) -> PreTrainedTokenizerFast | None:
    if name:
        return load_tokenizer(_find(name))
    if encoder_path is not None and any((encoder_path / file).exists() for file in ("tokenizer.json", "vocab.txt")):
        return load_tokenizer(encoder_path)
    return None


def _class_names(names: Sequence[str], number: int) -> tuple[str, ...]:
    if names and len(names) != number:
        raise UserError(f"--class_names: the model has {number} classes, but {len(names)} names were given")
    return tuple(map(str, names)) or tuple(map(str, range(number)))


def _summary(value: Any) -> str:
    if isinstance(value, dict):
        return f"dict of {', '.join(map(str, list(value)[:6]))}{', …' if len(value) > 6 else ''}"
    if isinstance(value, np.ndarray):
        return f"tensor {list(value.shape)}"
    return repr(value)[:80]
