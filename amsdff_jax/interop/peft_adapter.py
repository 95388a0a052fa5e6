"""LoRA adapters in the format of Hugging Face's `peft`: a folder of `adapter_config.json` and the tensors.

Its keys are the PyTorch names of a model's parameters behind `base_model.model.`. A head that was trained beside the
adapters is there whole, as peft keeps what `modules_to_save` names.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.files import atomic_folder, read_json, user_errors, write_json
from amsdff_jax.base.validation import first_of, shown
from amsdff_jax.interop.encoder_files import read_encoder_weights
from amsdff_jax.interop.safetensors_file import read_safetensors, write_safetensors
from amsdff_jax.interop.weights_file import ENCODER, WeightsFile, classifier_name

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
LARGEST_ALPHA = 1e30  # beyond any that means something; JSON may hold integers that no float does
A, B = ".lora_A.weight", ".lora_B.weight"  # what the names of an adapter's two matrices end in

# What must stand in the configuration, where it says anything: all else computes something else, or on other weights.
EXPECTED = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "fan_in_fan_out": (False,),
    "init_lora_weights": (True, False, "gaussian", "orthogonal", "eva"),
}
# What changes nothing about given tensors, or is read.
KNOWN = {
    *("r", "lora_alpha", "lora_dropout", "use_rslora", "rank_pattern", "target_modules", "exclude_modules"),
    *("modules_to_save", "layers_to_transform", "layers_pattern", "task_type", "inference_mode"),
    *("base_model_name_or_path", "revision", "auto_mapping", "peft_version", "runtime_config", "ensure_weight_tying"),
    *("megatron_core", "qalora_group_size", "eva_config"),
}


def write_adapter(
    folder: Path,
    tensors: Mapping[str, np.ndarray],
    *,
    rank: int,
    alpha: float,
    dropout: float,
    targets: Sequence[str],
    base: str,
) -> None:
    """Writes adapters and head; a folder that is there already is replaced.

    Args:
      tensors: by PyTorch name, those of adapters as peft calls them.
      targets: ends of the names of the layers that have adapters.
      base: name of the pretrained encoder.

    Raises:
      UserError: the folder cannot be written.
    """
    config = {
        "peft_type": "LORA",
        "task_type": None,  # with one peft would call the model as it calls those of transformers
        "base_model_name_or_path": base,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": dropout,
        "target_modules": list(targets),
        "modules_to_save": head_modules(tensors),
        "bias": "none",
    }
    with user_errors(folder, "written", "make room or choose another folder"), atomic_folder(folder) as partial:
        write_json(partial / CONFIG, config)
        write_safetensors(partial / WEIGHTS, {PREFIX + name: tensor for name, tensor in tensors.items()})


def head_modules(tensors: Iterable[str]) -> list[str]:
    """The modules after the encoder that hold tensors of these names, as `modules_to_save` lists them.

    Of lists their members, for peft wraps what is called, and a list is not.
    """
    parts = [name.split(".") for name in tensors if not name.startswith(ENCODER)]
    return list(dict.fromkeys(".".join(part[: 2 if part[1].isdigit() else 1]) for part in parts))


def is_adapter_folder(path: Path) -> bool:
    """Whether there are adapters of peft."""
    return (path / CONFIG).is_file()


def read_adapter(folder: Path, encoder_folder: Path | None, model_type: str) -> WeightsFile:
    """A classifier whose encoder has been trained by adapters: the encoder with these merged into it, and the head.

    Args:
      folder: of `PeftModel.save_pretrained`, or written by `write_adapter`.
      encoder_folder: of the encoder that the adapters stand on, as it was.
      model_type: of its `EncoderConfig`.

    Raises:
      UserError: files that are missing or damaged, adapters of another kind, or for layers that the encoder has not.
    """
    if encoder_folder is None:
        raise UserError(f"{folder}: adapters alone; name the encoder that they stand on with --encoder_config=FOLDER")
    file, scale = folder / WEIGHTS, _read_config(folder / CONFIG)
    stored = {name.removeprefix(PREFIX): tensor for name, tensor in read_safetensors(file).items()}
    encoder = read_encoder_weights(encoder_folder, model_type).tensors
    tensors = {ENCODER + name: tensor for name, tensor in encoder.items()}
    for name in [name for name in stored if name.endswith(A)]:
        layer = name.removesuffix(A)
        down, up, weight = stored.pop(name), stored.pop(layer + B, np.empty(0)), tensors.get(f"{layer}.weight")
        if weight is None or not layer.startswith(ENCODER):
            raise UserError(
                f"{file}: {layer:.200} is no layer of a classifier of this project on the encoder {encoder_folder}; "
                "adapters of another class are used by peft's merge_and_unload() and save_pretrained(FOLDER), and "
                "--config.model.encoder=FOLDER here"
            )
        rank = down.shape[0] if down.ndim else 0
        if not rank or weight.ndim != 2 or (down.shape, up.shape) != ((rank, weight.shape[1]), (len(weight), rank)):
            shapes = f"lora_A {down.shape} and lora_B {up.shape}"
            raise UserError(f"{file}: {layer} has {shapes}; expected adapters of a weight {weight.shape}")
        product = up.astype(np.float32) @ down.astype(np.float32)
        tensors[f"{layer}.weight"] = weight.astype(np.float32) + np.float32(scale(rank)) * product
    strange = [name for name in stored if name.startswith(ENCODER) or ".lora_" in name]
    if strange:
        raise UserError(f"{file}: {first_of(strange)}: expected lora_A and lora_B of the encoder, and the head")
    return WeightsFile("adapters of peft", classifier_name(stored), tensors | stored, {}, {}, {})


def _read_config(file: Path) -> Callable[[int], float]:
    """The function from a rank to what the product of an adapter is scaled by."""
    config = read_json(file, "the adapter_config.json of peft")
    for name, value in config.items():
        wrong = value not in EXPECTED[name] if name in EXPECTED else bool(value) and name not in KNOWN
        if wrong and value is not None:
            expected = first_of([repr(one) for one in EXPECTED.get(name, (None,))])
            raise UserError(f"{file}: {name:.100} is {shown(value)}, expected {expected}; merge these adapters in peft")
    alpha: Any = config.get("lora_alpha")
    if config.get("peft_type") != "LORA" or type(alpha) not in (int, float) or not 0 < alpha < LARGEST_ALPHA:
        raise UserError(f"{file}: expected peft_type 'LORA' and a lora_alpha above 0, got lora_alpha {shown(alpha)}")
    return lambda rank: alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
