"""The kinds of export there are, and what each needs."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from amsdff_jax.base.errors import UserError
from amsdff_jax.export.stablehlo import write_stablehlo
from amsdff_jax.export.torch_safetensors import write_torch_safetensors
from amsdff_jax.models.model_folder import SavedModel

Writer = Callable[[SavedModel, Path], None]


def _write_onnx(saved: SavedModel, folder: Path) -> None:
    from amsdff_jax.export.onnx_graph import write_onnx  # needs PyTorch and ONNX

    write_onnx(saved, folder)


class Format(NamedTuple):
    """A kind of export."""

    write: Writer
    needs: tuple[str, ...] = ()  # modules that it or its loader imports and this package does not depend on
    for_transformers: bool = False  # whether others load it by a configuration and a tokenizer of transformers
    length_multiple: int = 1  # what the loader rounds lengths up to; above 1 where every length costs a compilation


FORMATS = {
    "stablehlo": Format(write_stablehlo, length_multiple=32),
    "safetensors": Format(write_torch_safetensors, ("torch",)),
    "onnx": Format(_write_onnx, ("torch", "onnx", "onnxscript", "onnxruntime"), for_transformers=True),
}


def find_writer(name: str) -> Writer:
    """The function that writes the format of that name.

    Raises:
      UserError: a package is missing.
    """
    chosen = FORMATS[name]
    for needed in chosen.needs:
        try:
            import_module(needed)
        except ImportError:
            raise UserError(
                f"--format={name}: needs {needed}, which is not installed; pip install {' '.join(chosen.needs)}"
            ) from None
    return chosen.write
