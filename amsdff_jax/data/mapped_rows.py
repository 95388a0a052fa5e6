"""Rows of different lengths, end to end in files that are read through a memory map: texts as bytes, or token ids.

Two files hold a column, as the two buffers of an Arrow array: the values, and [N+1] offsets. Offsets are written after
the values that they belong to, so that what a killed writer has left can be continued.
"""

import contextlib
import mmap
import os
import tempfile
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np


class MappedRows(NamedTuple):
    """N rows, read-only. The system reads of them what is needed, and may forget it again.

    Attributes:
      values: [T], all rows one after the other.
      offsets: [N+1] int64, rising; row i is `values[offsets[i]:offsets[i + 1]]`.
    """

    values: np.ndarray
    offsets: np.ndarray


class RowsWriter:
    """Writes rows piece by piece.

    Attributes:
      rows: how many are written to the end.
    """

    def __init__(self, folder: Path | None, name: str, dtype: Any):
        """Opens the files.

        Args:
          folder: that they are in, or come into; None: temporary files without a name, which end with the process.
          name: of the column.
          dtype: of the values.

        Raises:
          OSError: they cannot be opened.
        """
        self._dtype = np.dtype(dtype)
        self._values, self._offsets = (open_file(folder, file) for file in _files(name))
        self._offsets.write(bytes(8))
        self.rows, self._size, self._pending = 0, 0, []

    def resume(self, most: int) -> None:
        """Goes on behind the rows that the files hold already, of which there can be `most`."""
        stored = self._offsets.seek(0, os.SEEK_END) // 8
        offsets = _map(self._offsets, np.int64, stored)
        values = self._values.seek(0, os.SEEK_END) // self._dtype.itemsize
        if stored - 1 <= most and offsets[0] == 0 and (np.diff(offsets) >= 0).all() and offsets[-1] <= values:
            self.rows, self._size = stored - 1, int(offsets[-1])
        self._values.seek(self._size * self._dtype.itemsize)
        self._offsets.seek(8 * (self.rows + 1))

    def append(self, values: np.ndarray, lengths: Any) -> None:
        """Adds rows of `lengths` [n], whose values stand one after the other; raises `OSError`."""
        self._values.write(np.ascontiguousarray(values, self._dtype).data)
        self._pending.append(np.asarray(lengths, np.int64))

    def commit(self) -> None:
        """Brings what was added to the disk, its offsets last; raises `OSError`."""
        if not self._pending:
            return
        flush(self._values)
        ends: np.ndarray = self._size + np.cumsum(np.concatenate(self._pending))
        self._offsets.write(ends.data)
        flush(self._offsets)
        self.rows, self._size, self._pending = self.rows + len(ends), int(ends[-1]) if len(ends) else self._size, []

    def finish(self) -> MappedRows:
        """All rows; nothing more can be added. Raises `OSError`."""
        self.commit()
        with self._values as values, self._offsets as offsets:
            values.truncate(self._size * self._dtype.itemsize)
            offsets.truncate(8 * (self.rows + 1))
            return MappedRows(_map(values, self._dtype, self._size), _map(offsets, np.int64, self.rows + 1))

    def close(self) -> None:
        """Closes the files as they are."""
        for stream in (self._values, self._offsets):
            with contextlib.suppress(OSError):  # of what could not be written before
                stream.close()


def map_rows(folder: Path, name: str, dtype: Any) -> MappedRows:
    """The rows of a column that lies in `folder`.

    Raises:
      OSError: its files cannot be read.
      ValueError: they do not fit each other.
    """
    value_file, offset_file = (folder / file for file in _files(name))
    with offset_file.open("rb") as stream:
        offsets = _map(stream, np.int64, offset_file.stat().st_size // 8)
    if not len(offsets) or offsets[0] != 0 or (np.diff(offsets) < 0).any():
        raise ValueError(f"{offset_file}: damaged")
    if value_file.stat().st_size != offsets[-1] * np.dtype(dtype).itemsize:
        raise ValueError(f"{value_file}: damaged")
    with value_file.open("rb") as stream:
        return MappedRows(_map(stream, dtype, int(offsets[-1])), offsets)


def open_file(folder: Path | None, name: str) -> IO[bytes]:
    """A file of a folder to read and write, new or as it is; without a folder a temporary one that has no name."""
    if folder is None:
        return tempfile.TemporaryFile()
    return os.fdopen(os.open(folder / name, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666), "r+b")


def flush(stream: IO[bytes]) -> None:
    """Brings what has been written to the disk, beyond a loss of power; raises `OSError`."""
    stream.flush()
    os.fsync(stream.fileno())


def _files(name: str) -> tuple[str, str]:
    return f"{name}.values", f"{name}.offsets"


def _map(stream: IO[bytes], dtype: Any, number: int) -> np.ndarray:
    stream.flush()
    if not number:  # an empty map is refused
        return np.zeros(0, dtype)
    size = number * np.dtype(dtype).itemsize
    return np.frombuffer(mmap.mmap(stream.fileno(), size, access=mmap.ACCESS_READ), dtype)
