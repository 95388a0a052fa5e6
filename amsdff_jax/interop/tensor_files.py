"""Finds and reads the files that hold the tensors of a folder: safetensors or PyTorch's, whole or in shards."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.files import read_json
from amsdff_jax.base.validation import first_of
from amsdff_jax.interop.safetensors_file import read_safetensors
from amsdff_jax.interop.torch_checkpoint import read_torch_file

INDEX = ".index.json"  # ends the name of a file that says which shard holds which tensor

# What transformers calls the weights of a folder, and their shards.
SAFETENSORS_FILES = ("model.safetensors", f"model.safetensors{INDEX}", "model-*-of-*.safetensors")
TORCH_FILES = ("pytorch_model.bin", f"pytorch_model.bin{INDEX}", "pytorch_model-*-of-*.bin")
NAMES = (*SAFETENSORS_FILES[:2], *TORCH_FILES[:2])  # of what is read, the best first

SHARD = re.compile(r"\w[\w.-]*\.(safetensors|bin)", re.ASCII)  # the name of a file beside the index

# Where a dict that holds more than weights keeps them.
STATE_DICT_KEYS = ("model_state_dict", "state_dict")


def find_tensor_file(folder: Path) -> Path:
    """The file of a folder's weights, or the index of their shards.

    Raises:
      UserError: there is none; the message says what the folder holds instead.
    """
    for name in NAMES:
        if (folder / name).exists():
            return folder / name
    found = sorted(file.name for file in folder.iterdir()) if folder.is_dir() else []
    raise UserError(
        f"{folder}: holds no weights under a name that is known ({', '.join(NAMES)}), but "
        f"{first_of(found) or 'nothing'}; rename the weights if they are there, or make model.safetensors of them with "
        "transformers' save_pretrained"
    )


def has_tensor_file(folder: Path) -> bool:
    """Whether `find_tensor_file` finds one."""
    return any((folder / name).exists() for name in NAMES)


def read_tensor_file(file: Path) -> dict[str, np.ndarray]:
    """All tensors of a file that `find_tensor_file` found.

    Raises:
      UserError: the file, or a shard, is missing or damaged, or holds something else.
    """
    if file.name.endswith(INDEX):
        return _read_shards(file)
    if file.suffix == ".safetensors":
        return read_safetensors(file)
    return find_state_dict(file, read_torch_file(file))[0]


def find_state_dict(file: Path, content: Any) -> tuple[dict[str, np.ndarray], dict[str, Any], str]:
    """The tensors in what `read_torch_file` gave, what stands beside them, and what the file is, in words.

    Raises:
      UserError: there is no dict of tensors.
    """
    if not isinstance(content, Mapping):
        raise UserError(f"{file}: holds a {type(content).__name__}, expected a state dict or a checkpoint with one")
    key = next((key for key in STATE_DICT_KEYS if isinstance(content.get(key), Mapping)), None)
    if key is None:
        stored, training, kind = content, {}, "bare state dict"
    else:
        stored = content[key]
        training = {name: value for name, value in content.items() if name != key}
        kind = f"checkpoint with {key}" + (f", {first_of(list(map(str, training)))}" if training else "")
    tensors = {name: value for name, value in stored.items() if isinstance(name, str) and isinstance(value, np.ndarray)}
    entry = next(((name, value) for name, value in stored.items() if name not in tensors), None)
    if entry or not stored:
        found = f"its entry {entry[0]!r:.200} is a {type(entry[1]).__name__}" if entry else "it is empty"
        raise UserError(f"{file}: no state dict of tensors ({found}), and none under {' or '.join(STATE_DICT_KEYS)}")
    return tensors, training, kind


def _read_shards(index: Path) -> dict[str, np.ndarray]:
    expected = "an index with a weight_map, from the names of tensors to files beside it"
    places = read_json(index, expected).get("weight_map")
    places = places if isinstance(places, dict) else {}
    if not places or not all(isinstance(place, str) and SHARD.fullmatch(place) for place in places.values()):
        raise UserError(f"{index}: expected {expected}")
    tensors = {}
    for shard in sorted(set(places.values())):
        for name, tensor in read_tensor_file(index.with_name(shard)).items():
            if places.get(name) == shard:
                tensors[name] = tensor
    missing = sorted(places.keys() - tensors.keys())
    if missing:
        raise UserError(f"{index}: its shards do not hold {first_of(missing)}; fetch the files anew")
    return tensors
