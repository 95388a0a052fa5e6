"""Exports a model for PyTorch: weights, and the source of the module that holds them."""

from importlib import resources
from pathlib import Path

from amsdff_jax.interop.safetensors_file import write_safetensors
from amsdff_jax.models.model_folder import WEIGHTS, SavedModel
from amsdff_jax.models.state_dict import to_state_dict


def write_torch_safetensors(saved: SavedModel, folder: Path) -> None:
    """Writes the state dict in PyTorch's names and layout, BatchNorm as it is, and `model.py`, which needs no JAX."""
    write_safetensors(folder / WEIGHTS, to_state_dict(saved.model))
    source = resources.files("amsdff_jax.interop") / "torch_architecture.py"
    (folder / "model.py").write_bytes(source.read_bytes())
