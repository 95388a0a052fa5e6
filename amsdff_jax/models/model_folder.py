"""The folder of a trained model: everything that is needed to use it, here or in PyTorch."""

import contextlib
import dataclasses
import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.files import atomic_folder, read_json, user_errors, user_path, write_json
from amsdff_jax.base.validation import build, require, require_choice
from amsdff_jax.config import LONG_TEXTS, EncoderConfig, ModelConfig
from amsdff_jax.config.encoder_families import FAMILIES, encoder_values, read_encoder_values, read_saved_encoder
from amsdff_jax.data.saved_tokenizer import Tokenizer
from amsdff_jax.data.tokenization import check_vocabulary, load_saved_tokenizer, save_tokenizer, token_ids
from amsdff_jax.data.windows import Windows
from amsdff_jax.interop.encoder_files import MODEL_TYPE
from amsdff_jax.interop.hub import shared_name
from amsdff_jax.interop.safetensors_file import read_safetensors, write_safetensors
from amsdff_jax.interop.sequence_classification import (
    check_task,
    from_native,
    is_native,
    label_values,
    labels_of,
    native_values,
    read_task,
    to_native,
)
from amsdff_jax.models.adapters import merge_adapters
from amsdff_jax.models.dimensions import check_sizes
from amsdff_jax.models.pretrained import PretrainedClassifier
from amsdff_jax.models.registry import MODELS
from amsdff_jax.models.state_dict import load_state_dict, to_state_dict
from amsdff_jax.models.targets import in_unit
from amsdff_jax.models.variables import abstract_model
from amsdff_jax.parallel.forks import claim_process

FORMAT_VERSION = 2  # of what `config.json` holds; 1 had no part of its own, and nothing for transformers
WEIGHTS = "model.safetensors"
MODELING = "modeling_amsdff"  # the module that a folder carries, for transformers

# What a model folder may hold: ours, and what tokenizers save.
OWN_FILES = (
    r"config\.json|model\.safetensors|modeling_amsdff\.py|README\.md|(card|calibration)\.json|card\.json\.damaged\d*"
    r"|vocab\.(txt|json)|merges\.txt|(added|special)_tokens.*|tokenizer.*"
)


class SavedModel(NamedTuple):
    """A model with what it takes to feed it and to read its answers."""

    model: PretrainedClassifier  # in eval mode
    # the one it was trained with; None leaves a folder that runs on token ids only
    tokenizer: Tokenizer | None
    class_names: tuple[str, ...]  # C names, in the order of the logits
    max_length: int  # tokens that are read of a text, or of a window; in reference mode also what it is padded to
    reads_pairs: bool | None = None  # whether it was trained on pairs of texts; None: not known, as after a conversion
    # which tokens of longer texts these are, as in `DataConfig`; "windows", and only then, `model.windows` says how
    long_texts: str = "truncate"
    task: str = "single"  # the kind of task, one of `TASKS`

    def require_tokenizer(self, name: str | Path = "the model") -> Tokenizer:
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
    """What a model folder's `config.json` says; the names are those of `SavedModel` and of its model."""

    model: ModelConfig
    encoder: EncoderConfig
    class_names: tuple[str, ...]
    max_length: int
    reads_pairs: bool | None
    long_texts: str
    windows: Windows | None
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

    transformers loads it, too: a classifier `bert` as its own class for the encoder's family, any other, and one of
    ordered classes, by the module that the folder carries. Adapters are merged into the weights: whoever reads the
    folder sees an ordinary model.

    Raises:
      OSError: they cannot be written.
    """
    model, tokenizer = merge_adapters(saved.model), saved.tokenizer
    size = None if model.windows is None else model.windows.size
    fits = size == (saved.max_length if saved.long_texts == "windows" else None)
    check_task(saved.task, len(saved.class_names), model.config.ordinal)
    require(fits, "long_texts", saved.long_texts, f"windows if, and only if, the model has some ({model.windows})")
    tensors, encoder = to_state_dict(model), model.encoder_config
    own = {
        "max_length": saved.max_length,
        "long_texts": saved.long_texts,
        **windows_values(model.windows),
        "reads_pairs": saved.reads_pairs,
        "model": dataclasses.asdict(model.config) | {"encoder": shared_name(model.config.encoder)},
    }
    if is_native(model.config):
        tensors = to_native(tensors, encoder)
        values = interface_values(saved)
    else:
        own["encoder"] = encoder_values(encoder)
        classes = {"AutoConfig": "AmsdffConfig", "AutoModelForSequenceClassification": "TorchClassifier"}
        modules = {name: f"{MODELING}.{kind}" for name, kind in classes.items()}
        values = {"model_type": MODEL_TYPE, "architectures": [type(model).__name__], "auto_map": modules}
        values |= label_values(saved.class_names, saved.task)
        source = resources.files("amsdff_jax.interop") / "torch_architecture.py"
        (folder / f"{MODELING}.py").write_bytes(source.read_bytes())
    if tokenizer is not None:
        save_tokenizer(tokenizer, folder, saved.max_length)
    write_safetensors(folder / WEIGHTS, tensors)
    write_json(folder / "config.json", values | {"format_version": FORMAT_VERSION, MODEL_TYPE: own})


def interface_values(saved: SavedModel) -> dict[str, Any]:
    """What `config.json` of transformers says of a classifier that takes and gives what its class for the encoder does.

    Such as optimum's for ONNX graphs, which looks no further into it: the family of the encoder, and the labels.
    """
    tokenizer, model = saved.tokenizer, saved.model
    ids = {} if tokenizer is None else token_ids(tokenizer)
    return native_values(model.encoder_config, model.config.dropout_rate, ids) | label_values(
        saved.class_names, saved.task
    )


def windows_values(windows: Windows | None) -> dict[str, dict[str, int]]:
    """What `read_windows` needs beside the maximal length, under the name `windows`, if there are any."""
    if windows is None:
        return {}
    return {"windows": {name: getattr(windows, name) for name in ("overlap", "prefix", "suffix")}}


def read_windows(values: Any, long_texts: str, max_length: int) -> Windows | None:
    """The windows that `windows_values` describes.

    Raises:
      UserError: `values` describe none where `long_texts` asks for them, or do not make sense.
    """
    if long_texts != "windows":
        return None
    return build(Windows, {**values, "size": max_length} if isinstance(values, dict) else values, "windows.")


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
    if is_native(model_config):
        tensors = from_native(tensors, config.encoder, str(weights))
    check_sizes(model_config, config.encoder, tensors, str(weights), str(folder / "config.json"))
    model = abstract_model(lambda rngs: MODELS[model_config.name](model_config, config.encoder, rngs=rngs))
    load_state_dict(model, tensors, str(weights))
    model.read_in_windows(config.windows)
    if config.task == "regression":
        in_unit.add(model)
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
    tokenizer = load_saved_tokenizer(folder)
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
        version, own = content.get("format_version"), content
        if version is None and content.get("model_type") in FAMILIES:
            raise UserError("a model of transformers; `amsdff convert from-transformers` makes a model folder of it")
        if type(version) is not int or not 1 <= version <= FORMAT_VERSION:
            newer = type(version) is int and version > FORMAT_VERSION
            raise UserError(
                f"a model folder in format {version!r:.100}, expected at most {FORMAT_VERSION}"
                f"{'; it needs a newer version of amsdff-jax' if newer else ''}"
            )
        if version > 1:
            own = content[MODEL_TYPE]
        model = build(ModelConfig, own["model"], "model.")
        native = is_native(model)
        kind = content["model_type"]
        require((kind == MODEL_TYPE) != native, "model_type", kind, f"{MODEL_TYPE!r} or the family of a model 'bert'")
        encoder = read_encoder_values(content) if native else read_saved_encoder(own["encoder"])
        # The folder holds the tokenizer, which is what `encoder` is needed for from here on.
        model = dataclasses.replace(model, encoder=str(folder))
        model.check_hidden_size(encoder.dim)
        class_names, max_length = labels_of(content) if version > 1 else own["class_names"], own["max_length"]
        check_class_names(class_names, model.num_classes)
        positions = encoder.max_tokens
        fits = type(max_length) is int and 3 <= max_length <= positions
        expected = f"at least 3 tokens, at most {positions}, the encoder's positions"
        require(fits, "max_length", max_length, expected)
        reads_pairs = own.get("reads_pairs")  # folders of earlier versions do not say
        require(reads_pairs is None or type(reads_pairs) is bool, "reads_pairs", reads_pairs, "true, false or null")
        long_texts = own.get("long_texts", "truncate")
        require_choice("long_texts", long_texts, LONG_TEXTS)
        windows = read_windows(own.get("windows"), long_texts, max_length)
        reading = (max_length, reads_pairs, long_texts, windows)
        return FolderConfig(
            model, encoder, tuple(class_names), *reading, read_task(content, len(class_names), model.ordinal)
        )
    except UserError as error:
        raise UserError(f"{file}: {error}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file}: not the config.json of a model folder ({error!r})") from None
