"""The folder of a trained model: everything that is needed to use it, here or in PyTorch."""

import contextlib
import dataclasses
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.files import atomic_folder, read_json, user_errors, user_path, write_json
from amsdff_jax.base.validation import build, require, require_choice
from amsdff_jax.config import LONG_TEXTS, EncoderConfig, ModelConfig
from amsdff_jax.config.encoder_families import encoder_values, read_saved_encoder
from amsdff_jax.data.tokenization import PreTrainedTokenizerFast, check_vocabulary, load_tokenizer
from amsdff_jax.interop.encoder_files import MODEL_TYPE
from amsdff_jax.interop.hub import shared_name
from amsdff_jax.interop.safetensors_file import read_safetensors, write_safetensors
from amsdff_jax.models.adapters import merge_adapters
from amsdff_jax.models.dimensions import check_sizes
from amsdff_jax.models.pretrained import PretrainedClassifier
from amsdff_jax.models.registry import MODELS
from amsdff_jax.models.state_dict import load_state_dict, to_state_dict
from amsdff_jax.models.variables import abstract_model
from amsdff_jax.parallel.forks import claim_process

FORMAT_VERSION = 1
WEIGHTS = "model.safetensors"

# What transformers calls each kind of task; a folder that does not say is of the first.
PROBLEM_TYPES = {"single": "single_label_classification", "multi_label": "multi_label_classification"}

# What a model folder may hold: ours, and what tokenizers save.
OWN_FILES = (
    r"config\.json|model\.safetensors|README\.md|(card|calibration)\.json|card\.json\.damaged\d*|vocab\.(txt|json)|merges\.txt"
    r"|(added|special)_tokens.*|tokenizer.*"
)


class SavedModel(NamedTuple):
    """A model with what it takes to feed it and to read its answers."""

    model: PretrainedClassifier  # in eval mode
    # the one it was trained with; None leaves a folder that runs on token ids only
    tokenizer: PreTrainedTokenizerFast | None
    class_names: tuple[str, ...]  # C names, in the order of the logits
    max_length: int  # tokens that are read of a text; in reference mode also what it is padded to
    reads_pairs: bool | None = None  # whether it was trained on pairs of texts; None: not known, as after a conversion
    long_texts: str = "truncate"  # which tokens of longer texts these are, as in `DataConfig`
    task: str = "single"  # the kind of task, one of `TASKS`

    def require_tokenizer(self, name: str | Path = "the model") -> PreTrainedTokenizerFast:
        """The tokenizer.

        Args:
          name: what an error calls the model, such as its folder.

        Raises:
          UserError: there is none.
        """
        if self.tokenizer is None:
            raise UserError(f"{name}: saved without a tokenizer, which texts cannot be read without; save it with one")
        return self.tokenizer


class FolderConfig(NamedTuple):
    """What a model folder's `config.json` says; the names are those of `SavedModel`."""

    model: ModelConfig
    encoder: EncoderConfig
    class_names: tuple[str, ...]
    max_length: int
    reads_pairs: bool | None
    long_texts: str
    task: str


def save_model(folder: str | Path, saved: SavedModel) -> None:
    """Writes a model folder; one that is there already is replaced once the new one is complete.

    Raises:
      UserError: the folder cannot be written, or holds something else.
    """
    with replace_model_folder(folder) as partial:
        write_model(partial, saved)


@contextlib.contextmanager
def replace_model_folder(folder: str | Path) -> Iterator[Path]:
    """An empty folder to fill, which takes the place of a model folder at the end.

    Raises:
      UserError: the folder cannot be written, or holds something else.
    """
    folder = user_path(folder).resolve()
    _check_replaceable(folder)
    with user_errors(folder, "written", "make room or choose another folder"), atomic_folder(folder) as partial:
        yield partial


def write_model(folder: Path, saved: SavedModel) -> None:
    """Writes `config.json`, `model.safetensors` (PyTorch's names and layout) and the tokenizer's files into a folder.

    Adapters are merged into the weights: whoever reads the folder sees an ordinary model.

    Raises:
      OSError: they cannot be written.
    """
    model = merge_adapters(saved.model)
    config = {
        "model_type": MODEL_TYPE,
        "architectures": [type(model).__name__],
        "format_version": FORMAT_VERSION,
        "class_names": list(saved.class_names),
        "max_length": saved.max_length,
        "long_texts": saved.long_texts,
        "reads_pairs": saved.reads_pairs,
        "model": dataclasses.asdict(model.config) | {"encoder": shared_name(model.config.encoder)},
        "encoder": encoder_values(model.encoder_config),
        **written_task(saved.task),
    }
    if saved.tokenizer is not None:
        # What the last call has left there is no part of it.
        saved.tokenizer.backend_tokenizer.no_truncation()
        saved.tokenizer.backend_tokenizer.no_padding()
        saved.tokenizer.save_pretrained(folder)
    write_safetensors(folder / WEIGHTS, to_state_dict(model))
    write_json(folder / "config.json", config)


def written_task(task: str) -> dict[str, str]:
    """What a file says of the kind of a model's task, in transformers' words; nothing of the first."""
    return {} if task == "single" else {"problem_type": PROBLEM_TYPES[task]}


def read_task(content: Mapping[str, Any]) -> str:
    """The kind of the task that a file says.

    Raises:
      UserError: it says one that is not known.
    """
    kinds = {kind: task for task, kind in PROBLEM_TYPES.items()}
    problem_type = content.get("problem_type", PROBLEM_TYPES["single"])
    require_choice("problem_type", problem_type, tuple(kinds))
    return kinds[problem_type]


def _check_replaceable(folder: Path) -> None:
    """Raises `UserError` if `folder` holds anything that `save_model` would not have written."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(f"{folder}: is a file; choose a folder")
    unexpected = sorted(file.name for file in folder.iterdir() if not re.fullmatch(OWN_FILES, file.name))
    if unexpected:
        raise UserError(
            f"{folder}: holds {unexpected[0]}, which is no part of a model, and is left alone; choose another folder"
        )
    if any(folder.iterdir()):
        read_model_config(folder)


def check_class_names(names: Any, number: int) -> None:
    """Raises `UserError` unless `names` is a list of `number` different strings."""
    fits = isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names)
    require(fits and len(set(names)) == len(names) == number, "class_names", names, f"{number} different names")


def load_model(folder: str | Path, **fields: Any) -> PretrainedClassifier:
    """The trained classifier in a model folder, in eval mode.

    Args:
      folder: written by `save_model`.
      **fields: of `ModelConfig`, to be other than saved, such as `compute_dtype="bfloat16"`.

    Raises:
      UserError: the folder is missing, incomplete or damaged, or this process a fork of one that has
        loaded a model.
    """
    claim_process()
    folder = user_path(folder)
    config = read_model_config(folder)
    model_config = dataclasses.replace(config.model, **fields)
    weights = folder / WEIGHTS
    tensors = read_safetensors(weights)
    check_sizes(model_config, config.encoder, tensors, str(weights), str(folder / "config.json"))
    model = abstract_model(lambda rngs: MODELS[model_config.name](model_config, config.encoder, rngs=rngs))
    load_state_dict(model, tensors, str(weights))
    return model


def read_model_folder(folder: str | Path, **fields: Any) -> SavedModel:
    """Everything that makes the model in a model folder.

    Args:
      folder: written by `save_model`.
      **fields: of `ModelConfig`, to be other than saved.

    Raises:
      UserError: the folder is missing, incomplete (without a tokenizer, say) or damaged.
    """
    folder = user_path(folder)
    config, model = read_model_config(folder), load_model(folder, **fields)
    tokenizer = load_tokenizer(folder)
    check_vocabulary(tokenizer, config.encoder.vocab_size, str(folder))
    reading = (config.max_length, config.reads_pairs, config.long_texts)
    return SavedModel(model, tokenizer, config.class_names, *reading, config.task)


def read_model_config(folder: str | Path) -> FolderConfig:
    """What `config.json` in a model folder says.

    Raises:
      UserError: the file is missing or damaged.
    """
    folder = user_path(folder)
    file = folder / "config.json"
    if not (folder / "model.safetensors").exists() and (folder / "model" / "config.json").exists():
        raise UserError(f"{folder}: the folder of a run; expected that of its model, {folder / 'model'}")
    content = read_json(file, "the config.json of a model folder")
    try:
        kind, version = content["model_type"], content["format_version"]
        if kind != MODEL_TYPE or version != FORMAT_VERSION:
            newer = type(version) is int and version > FORMAT_VERSION
            raise UserError(
                f"holds model_type {kind!r:.100} in format {version!r:.100}, expected {MODEL_TYPE!r} in format "
                f"{FORMAT_VERSION}{'; it needs a newer version of amsdff-jax' if newer else ''}"
            )
        model = build(ModelConfig, content["model"], "model.")
        encoder = read_saved_encoder(content["encoder"])
        # The folder holds the tokenizer, which is what `encoder` is needed for from here on.
        model = dataclasses.replace(model, encoder=str(folder))
        model.check_hidden_size(encoder.dim)
        class_names, max_length = content["class_names"], content["max_length"]
        check_class_names(class_names, model.num_classes)
        positions = encoder.max_tokens
        fits = type(max_length) is int and 3 <= max_length <= positions
        expected = f"at least 3 tokens, at most {positions}, the encoder's positions"
        require(fits, "max_length", max_length, expected)
        reads_pairs = content.get("reads_pairs")  # folders of earlier versions do not say
        require(reads_pairs is None or type(reads_pairs) is bool, "reads_pairs", reads_pairs, "true, false or null")
        long_texts = content.get("long_texts", "truncate")
        require_choice("long_texts", long_texts, LONG_TEXTS)
        task = read_task(content)
        return FolderConfig(model, encoder, tuple(class_names), max_length, reads_pairs, long_texts, task)
    except UserError as error:
        raise UserError(f"{file}: {error}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file}: not the config.json of a model folder ({error!r})") from None
