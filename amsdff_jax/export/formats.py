"""The kinds of export there are, and what each needs."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from amsdff_jax.base.errors import UserError
from amsdff_jax.models.model_folder import SavedModel


class Format(NamedTuple):
    """A kind of export.

    Attributes:
      writer: module and function that write it, `(SavedModel, folder)`; imported when it is needed.
      needs: modules that it or its loader imports and this package does not depend on.
      extra: of this package, that brings them.
      length_multiple: what the loader rounds lengths up to; above 1 where every length costs a compilation.
    """

    writer: str
    needs: tuple[str, ...] = ()
    extra: str = ""
    length_multiple: int = 1


FORMATS = {
    "stablehlo": Format("amsdff_jax.export.stablehlo:write_stablehlo", length_multiple=32),
    "safetensors": Format("amsdff_jax.export.torch_safetensors:write_torch_safetensors", ("torch",), "torch"),
    "onnx": Format("amsdff_jax.export.onnx_graph:write_onnx", ("torch", "onnx", "onnxscript", "onnxruntime"), "onnx"),
}


def find_writer(name: str) -> Callable[[SavedModel, Path], None]:
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
                f"--format={name}: needs {needed}, which is not installed; pip install 'amsdff-jax[{chosen.extra}]'"
            ) from None
    module, _, function = chosen.writer.partition(":")
    return getattr(import_module(module), function)
