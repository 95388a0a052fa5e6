"""Reads and writes PyTorch's `.pt` files as NumPy arrays, without PyTorch and without running what is in them."""

import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.files import atomic_write, check_regular, is_lfs_pointer, user_errors
from amsdff_jax.interop.torch_pickle import (
    STORAGE_NAMES,
    Name,
    RefusedPickleError,
    Storage,
    StoredTensor,
    read_pickle,
    write_pickle,
)

# A state dict of a thousand tensors takes 0.2 MB; what is larger is no description of weights.
LARGEST_PICKLE = 8 * 2**20

LEGACY_START = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # the magic number of torch.save before 1.6
ZIP_START = b"PK\x03\x04"


def read_torch_file(file: str | Path) -> Any:
    """What `torch.save` put into `file`, with NumPy arrays (bfloat16 included) in place of tensors.

    The arrays are read-only views of what was read: tensors that share their storage share memory.

    Raises:
      UserError: no `.pt` file in the zip format of PyTorch 1.6 and later, a damaged one, or one that
        holds anything but dicts, lists, numbers, strings and tensors. Nothing in it has been run.
    """
    file = Path(file)
    try:
        check_regular(file)
        with zipfile.ZipFile(file) as archive:
            entries, root = _check_entries(file, archive)
            described = read_pickle(archive.read(entries[f"{root}data.pkl"]))
            return _Tensors(archive, entries, root).fill_in(described)
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror or error})") from None
    except RefusedPickleError as error:
        raise UserError(
            f"{file}: refused, nothing in it was run: {error}; save the weights alone, with "
            "torch.save(model.state_dict(), FILE)"
        ) from None
    except UserError:
        raise
    except Exception as error:  # zipfile raises many kinds for damaged places, sizes, flags and names
        raise UserError(f"{file}: {_what_else(file)} ({' '.join(str(error).split())})") from None


def write_torch_file(file: str | Path, value: Any) -> None:
    """Writes `value` so that `torch.load(file, weights_only=True)` gives it back with tensors for arrays.

    Args:
      file: replaced once the new one is complete.
      value: dicts, lists and tuples of strings, numbers, None and NumPy arrays.

    Raises:
      UserError: the file cannot be written.
    """
    file = Path(file)
    root = f"{file.stem}/"
    with (
        user_errors(file, "written"),
        atomic_write(file) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive,
    ):
        number = 0

        def store(array: np.ndarray) -> Storage:
            nonlocal number
            storage = Storage(str(number), array.dtype, array.size)
            archive.writestr(f"{root}data/{storage.key}", np.ascontiguousarray(array).tobytes())
            number += 1
            return storage

        archive.writestr(f"{root}data.pkl", write_pickle(value, store))
        archive.writestr(f"{root}byteorder", "little")
        archive.writestr(f"{root}version", "3\n")


def _check_entries(file: Path, archive: zipfile.ZipFile) -> tuple[dict[str, zipfile.ZipInfo], str]:
    """The zip's entries by name and the folder that all stand in; sizes are claims until they have passed here."""
    entries, room = {}, file.stat().st_size
    for entry in archive.infolist():
        path = PurePosixPath(entry.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts:
            raise UserError(f"{file}: refused: an entry's path climbs out of the archive ({entry.filename!r})")
        if entry.filename in entries:
            raise UserError(f"{file}: refused: two entries are called {entry.filename!r}")
        if entry.compress_type != zipfile.ZIP_STORED:
            raise UserError(f"{file}: {entry.filename!r} is compressed, which PyTorch never does")
        room -= entry.file_size
        if room < 0:
            raise UserError(
                f"{file}: refused: {entry.filename!r} claims {entry.file_size:,} bytes, more than the file holds"
            )
        entries[entry.filename] = entry
    pickles = [name for name in entries if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(pickles) != 1:
        raise UserError(f"{file}: a zip file, but not one of PyTorch's (it has {len(pickles)} entries called data.pkl)")
    root = pickles[0].removesuffix("data.pkl")
    if entries[pickles[0]].file_size > LARGEST_PICKLE:
        raise UserError(f"{file}: refused: its pickle has {entries[pickles[0]].file_size:,} bytes")
    if f"{root}byteorder" in entries and archive.read(f"{root}byteorder") != b"little":
        raise UserError(f"{file}: written on a big-endian machine, which is not supported")
    return entries, root


def _what_else(file: Path) -> str:
    with file.open("rb") as stream:
        start = stream.read(len(LEGACY_START))
    if is_lfs_pointer(file):
        return "only points to the weights; fetch them with `git lfs pull`"
    if start == LEGACY_START:
        return (
            "in the format of PyTorch before 1.6, a bare pickle, which is not read; load it there and save it again "
            "with torch.save"
        )
    if start.startswith(ZIP_START):
        return "truncated or damaged"
    return "not a .pt file of PyTorch"


class _Tensors:
    """Puts arrays in place of the descriptions of tensors."""

    def __init__(self, archive: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo], root: str):
        self._archive, self._entries, self._root = archive, entries, root
        self._storages: dict[Storage, np.ndarray] = {}
        self._filled: dict[int, Any] = {}

    def fill_in(self, value: Any) -> Any:
        # What is referred to twice is filled in once: a few bytes of nested references would else grow without bound.
        if id(value) not in self._filled:
            try:
                self._filled[id(value)] = self._fill_in(value)
            except RecursionError:
                raise RefusedPickleError("it is nested too deeply") from None
        return self._filled[id(value)]

    def _fill_in(self, value: Any) -> Any:
        if isinstance(value, (Storage, Name)):
            raise RefusedPickleError(
                f"it holds a bare {type(value).__name__.lower()} where a tensor or a number is due"
            )
        if isinstance(value, StoredTensor):
            return self._tensor(value)
        if isinstance(value, dict):
            return {key: self.fill_in(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(self.fill_in(item) for item in value)
        return value

    def _tensor(self, tensor: StoredTensor) -> np.ndarray:
        flat = self._storage(tensor.storage)[tensor.offset :]
        strides = [stride * flat.itemsize for stride in tensor.strides]
        return np.lib.stride_tricks.as_strided(flat, tensor.shape, strides, writeable=False)

    def _storage(self, storage: Storage) -> np.ndarray:
        if storage not in self._storages:
            entry = self._entries.get(f"{self._root}data/{storage.key}")
            expected = storage.size * storage.dtype.itemsize
            if entry is None or entry.file_size != expected:
                found = "no such entry" if entry is None else f"{entry.file_size:,} bytes"
                raise RefusedPickleError(
                    f"storage {storage.key!r} claims {storage.size:,} elements of {STORAGE_NAMES[storage.dtype]}, "
                    f"but the file has {found}"
                )
            self._storages[storage] = np.frombuffer(self._archive.read(entry), storage.dtype)
        return self._storages[storage]
