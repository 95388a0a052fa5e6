"""A safetensors file gives the arrays that were written, or one line."""

import json
import os
import struct

import ml_dtypes
import numpy as np
import pytest

from amsdff_jax import UserError
from amsdff_jax.interop.safetensors_file import read_safetensors, write_safetensors


def make_file(header, data: bytes = b"") -> bytes:
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(header)) + header + data


def one_tensor(dtype="F32", shape=(1,), end=4) -> bytes:
    return make_file({"w": {"dtype": dtype, "shape": shape, "data_offsets": [0, end]}}, bytes(end))


def test_what_was_written_is_read(tmp_path):
    tensors = {"a": np.arange(6, dtype=np.float32).reshape(2, 3).T, "b": np.array(7), "c": np.zeros((0, 5), np.float16),
               "d": np.ones(3, ml_dtypes.bfloat16)}  # fmt: skip
    write_safetensors(tmp_path / "a.safetensors", tensors)
    read = read_safetensors(tmp_path / "a.safetensors")
    assert {name: array.dtype for name, array in read.items()} == {name: array.dtype for name, array in tensors.items()}
    for name, array in tensors.items():
        np.testing.assert_array_equal(read[name], array)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a readable safetensors file"),
        (bytes(1000), "not a readable safetensors file"),
        (struct.pack("<Q", 2**63) + b"{}", "not a readable safetensors file"),
        (make_file(b'{"a":' * 100_000), "not a readable safetensors file"),
        (one_tensor(shape=[-1]), "not a readable safetensors file"),
        (one_tensor(shape=[2], end=4), "not a readable safetensors file"),
        (one_tensor(shape=[1 << 32, 1 << 32], end=0), "not a readable safetensors file"),
        (one_tensor(shape=[0, 1 << 62], end=0), r"w has shape \[0, 4611686018427387904\]"),
        (one_tensor(shape=[0, 1 << 32, 1 << 32], end=0), r"w has shape \[0, 4294967296, 4294967296\]"),
        (one_tensor(shape=[1] * 64), r"w has shape \[1, 1, 1"),
        (one_tensor("F8_E4M3", [4]), "w is of type F8_E4M3; expected one of F64, F32"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "fetch them with `git lfs pull`"),
    ],
)
def test_anything_else_is_one_line(content, message, tmp_path):
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=rf"a\.safetensors: .*{message}"):
        read_safetensors(tmp_path / "a.safetensors")


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.safetensors")
    for file in (tmp_path / "pipe.safetensors", tmp_path, tmp_path / "none.safetensors"):
        with pytest.raises(UserError, match=r"cannot be read .*; expected a safetensors file"):
            read_safetensors(file)
