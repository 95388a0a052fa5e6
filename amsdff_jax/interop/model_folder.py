"""The folder of a trained model: everything that is needed to use it, here or in PyTorch."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import NamedTuple

from flax import nnx
from transformers import PreTrainedTokenizerFast

from amsdff_jax.config import EncoderConfig, ModelConfig
from amsdff_jax.data.tokenization import load_tokenizer
from amsdff_jax.errors import UserError
from amsdff_jax.interop.safetensors_file import read_safetensors, write_safetensors
from amsdff_jax.interop.state_dict import load_state_dict, to_state_dict
from amsdff_jax.models.catalogue import MODELS
from amsdff_jax.models.pretrained import PretrainedClassifier
from amsdff_jax.validation import build

FORMAT_VERSION = 1
WEIGHTS = "model.safetensors"


class SavedModel(NamedTuple):
    """A model with what it takes to feed it and to read its answers.

    Attributes:
      model: in eval mode.
      tokenizer: the one it was trained with; None leaves a folder that runs on token ids only.
      class_names: C names, in the order of the logits.
      max_length: tokens a text is cut to; in reference mode also what it is padded to.
    """

    model: PretrainedClassifier
    tokenizer: PreTrainedTokenizerFast | None
    class_names: tuple[str, ...]
    max_length: int


class FolderConfig(NamedTuple):
    """What a model folder's `config.json` says; the names are those of `SavedModel`."""

    model: ModelConfig
    encoder: EncoderConfig
    class_names: tuple[str, ...]
    max_length: int


def save_model(folder: str | Path, saved: SavedModel) -> None:
    """Writes `config.json`, `model.safetensors` (PyTorch's names and layout) and the tokenizer's files.

    A model folder that is there already is replaced once the new one is complete.

    Raises:
      UserError: the folder cannot be written, or holds something else.
    """
    folder = Path(folder)
    partial = folder.with_name(folder.name + ".partial")
    config = {
        "model_type": "amsdff",
        "architectures": [type(saved.model).__name__],
        "format_version": FORMAT_VERSION,
        "class_names": list(saved.class_names),
        "max_length": saved.max_length,
        "model": dataclasses.asdict(saved.model.config),
        "encoder": dataclasses.asdict(saved.model.encoder_config),
    }
    if folder.is_dir() and any(folder.iterdir()) and not (folder / WEIGHTS).exists():
        raise UserError(f"{folder}: holds something else than a model and is left alone; choose another folder")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        if saved.tokenizer is not None:
            saved.tokenizer.save_pretrained(partial)
        write_safetensors(partial / WEIGHTS, to_state_dict(saved.model))
        content = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
        (partial / "config.json").write_text(content, encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); choose another folder") from None


def load_model(folder: str | Path) -> PretrainedClassifier:
    """The trained classifier in a model folder, in eval mode.

    Raises:
      UserError: the folder is missing, incomplete or damaged.
    """
    folder = Path(folder).expanduser()
    config = read_model_config(folder)
    model = nnx.eval_shape(lambda: MODELS[config.model.name](config.model, config.encoder, rngs=nnx.Rngs(0)))
    weights = folder / WEIGHTS
    load_state_dict(model, read_safetensors(weights), str(weights))
    return model


def read_model_folder(folder: str | Path) -> SavedModel:
    """Everything in a model folder.

    Raises:
      UserError: the folder is missing, incomplete (without a tokenizer, say) or damaged.
    """
    config, model = read_model_config(folder), load_model(folder)
    return SavedModel(model, load_tokenizer(Path(folder).expanduser()), config.class_names, config.max_length)


def read_model_config(folder: str | Path) -> FolderConfig:
    """What `config.json` in a model folder says.

    Raises:
      UserError: the file is missing or damaged.
    """
    folder = Path(folder).expanduser()
    file = folder / "config.json"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        kind, version = content["model_type"], content["format_version"]
        if kind != "amsdff" or version != FORMAT_VERSION:
            raise UserError(
                f"{file}: holds model_type {kind!r} in format {version!r}, expected 'amsdff' in format {FORMAT_VERSION}"
            )
        model = build(ModelConfig, content["model"], "model.")
        encoder = build(EncoderConfig, content["encoder"], "encoder.")
        # The folder holds the tokenizer, which is what `encoder` is needed for from here on.
        model = dataclasses.replace(model, encoder=str(folder))
        return FolderConfig(model, encoder, tuple(content["class_names"]), content["max_length"])
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}); expected a model folder") from None
    except UserError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file}: not the config.json of a model folder ({error!r})") from None
