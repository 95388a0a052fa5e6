"""Reads and writes safetensors files as NumPy arrays, bfloat16 included."""

import math
from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, deserialize, safe_open
from safetensors.numpy import save

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.files import atomic_write, check_regular, is_lfs_pointer, user_errors

# The format's names of types; safetensors.numpy lacks bfloat16.
DTYPES = {
    **{"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16},
    **{"I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8, "U8": np.uint8, "BOOL": np.bool_},
}

MOST_DIMENSIONS = 32


def read_safetensors(file: Path) -> dict[str, np.ndarray]:
    """All tensors of a safetensors file.

    Raises:
      UserError: the file is missing or damaged, or holds a type or a shape that weights do not have.
    """
    try:
        with user_errors(file, "read", "expected a safetensors file"):
            check_regular(file)
            with safe_open(file, framework="numpy"):  # compares the header with the file's size before all is read
                pass
            entries = deserialize(file.read_bytes())
    except SafetensorError as error:
        if is_lfs_pointer(file):
            raise UserError(f"{file}: only points to the weights; fetch them with `git lfs pull`") from None
        raise UserError(f"{file}: not a readable safetensors file ({error})") from None
    return {name: _array(file, name, **entry) for name, entry in entries}


def write_safetensors(file: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes arrays under PyTorch's names, so that `safetensors.torch` reads them as well.

    Raises:
      UserError: the file cannot be written.
    """
    content = save({name: np.array(array, order="C") for name, array in tensors.items()}, metadata={"format": "pt"})
    with user_errors(file, "written"), atomic_write(file) as temporary:
        temporary.write_bytes(content)


def _array(file: Path, name: str, dtype: str, shape: list[int], data: bytearray) -> np.ndarray:
    if dtype not in DTYPES:
        raise UserError(f"{file}: {name} is of type {dtype}; expected one of {', '.join(DTYPES)}")
    itemsize = np.dtype(DTYPES[dtype]).itemsize
    # NumPy counts the bytes of an array without its empty axes too.
    largest = math.prod(max(size, 1) for size in shape) * itemsize
    if len(shape) > MOST_DIMENSIONS or largest >= 1 << 63 or math.prod(shape) * itemsize != len(data):
        raise UserError(
            f"{file}: {name} has shape {str(shape)[:100]}, which is none of an array of {len(data):,} bytes"
        )
    return np.frombuffer(data, DTYPES[dtype]).reshape(shape)
