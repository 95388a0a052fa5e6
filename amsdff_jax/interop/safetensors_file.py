"""Reads and writes safetensors files as NumPy arrays, bfloat16 included."""

from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

from amsdff_jax.errors import UserError

# The format's names of types; safetensors.numpy lacks bfloat16.
DTYPES = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16, "I64": np.int64,
    "I32": np.int32, "I16": np.int16, "I8": np.int8, "U8": np.uint8, "BOOL": np.bool_,
}  # fmt: skip


def read_safetensors(file: Path) -> dict[str, np.ndarray]:
    """All tensors of a safetensors file.

    Raises:
      UserError: the file is missing or damaged, or holds a type that weights do not have.
    """
    try:
        return {name: _array(**entry) for name, entry in deserialize(file.read_bytes())}
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror or error}); expected a safetensors file") from None
    except SafetensorError as error:
        raise UserError(f"{file}: not a readable safetensors file ({error})") from None
    except KeyError as error:
        raise UserError(f"{file}: holds a tensor of type {error}; expected one of {', '.join(DTYPES)}") from None


def write_safetensors(file: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes arrays under PyTorch's names, so that `safetensors.torch` reads them as well.

    Raises:
      UserError: the file cannot be written.
    """
    content = save({name: np.array(array, order="C") for name, array in tensors.items()}, metadata={"format": "pt"})
    partial = file.with_name(file.name + ".partial")
    try:
        partial.write_bytes(content)
        partial.replace(file)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise UserError(f"{file}: cannot be written ({error.strerror})") from None


def _array(dtype: str, shape: list[int], data: bytes) -> np.ndarray:
    return np.frombuffer(data, DTYPES[dtype]).reshape(shape)
