"""Texts that are too many for memory: in files of the cache, or temporary ones, and read when they are needed."""

import contextlib
import hashlib
import itertools
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self, overload

import numpy as np

from amsdff_jax.base.cache import VARIABLE
from amsdff_jax.base.errors import UserError
from amsdff_jax.base.files import user_errors
from amsdff_jax.data.mapped_rows import MappedRows, RowsWriter

ROWS_AT_ONCE = 1024  # whose places are looked up together
ROWS_WRITTEN = 1 << 14  # together


class StoredTexts(Sequence[str]):
    """N texts over a memory map. A part of them, in any order, is another one over the same map.

    Attributes:
      folder: of the cache, in which they lie; None: in temporary files.
      digest: which texts they are, in their order.
    """

    def __init__(self, stored: MappedRows, digest: str, folder: Path | None = None, rows: np.ndarray | None = None):
        """Takes the map.

        Args:
          stored: UTF-8, in which half of a character has the three bytes that Python's `surrogatepass` gives it.
          digest: of all that is stored.
          rows: [N] int64, which of it; None: all.
        """
        self._stored, self._stored_digest, self._rows, self.folder = stored, digest, rows, folder
        part = b"" if rows is None else hashlib.blake2b(rows.data, digest_size=16).digest()
        self.digest = digest if rows is None else hashlib.blake2b(digest.encode() + part, digest_size=16).hexdigest()

    def __len__(self) -> int:
        return len(self._stored.offsets) - 1 if self._rows is None else len(self._rows)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> Self: ...

    def __getitem__(self, index: int | slice) -> str | Self:
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        row = range(len(self))[index]
        row = row if self._rows is None else self._rows[row]
        first, last = self._stored.offsets[row : row + 2]
        return self._decoded(self._stored.values[first:last].tobytes())

    def __iter__(self) -> Iterator[str]:
        return map(self._decoded, self.encoded())

    def __repr__(self) -> str:
        return f"<{len(self):,} texts in {self.folder or 'temporary files'}>"

    def encoded(self) -> Iterator[bytes]:
        """The texts as UTF-8, with `surrogatepass`."""
        values, offsets = self._stored
        for start in range(0, len(self), ROWS_AT_ONCE):
            rows = np.arange(start, min(start + ROWS_AT_ONCE, len(self)))
            rows = rows if self._rows is None else self._rows[rows]
            for first, last in zip(offsets[rows].tolist(), offsets[rows + 1].tolist(), strict=True):
                yield values[first:last].tobytes()

    def take(self, rows: np.ndarray) -> Self:
        """The texts in `rows` [n], in that order."""
        chosen = np.asarray(rows, np.int64) if self._rows is None else self._rows[rows]
        return type(self)(self._stored, self._stored_digest, self.folder, np.ascontiguousarray(chosen))

    def _decoded(self, text: bytes) -> str:
        try:
            return text.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            raise UserError(f"{self.folder}: a stored text is damaged; delete this folder, it is made again") from None


class TextsWriter:
    """Writes columns of texts side by side, piece by piece."""

    def __init__(self, folder: Path | None, names: Iterable[str]):
        """Opens the files.

        Args:
          folder: that they come into; None: temporary files.
          names: of the columns.

        Raises:
          UserError: they cannot be written.
        """
        self._folder = folder
        with storage_errors(folder):
            self._columns = {name: RowsWriter(folder, name, np.uint8) for name in names}
        self._digests = {name: [hashlib.blake2b(digest_size=16) for _ in range(2)] for name in self._columns}

    def append(self, columns: Mapping[str, Sequence[str]]) -> None:
        """Adds as many texts to every column; raises `UserError` if they cannot be written."""
        with storage_errors(self._folder):
            for name, texts in columns.items():
                for start in range(0, len(texts), ROWS_WRITTEN):  # of which this holds copies
                    encoded = [text.encode("utf-8", "surrogatepass") for text in texts[start : start + ROWS_WRITTEN]]
                    values, lengths = b"".join(encoded), np.fromiter(map(len, encoded), np.int64, len(encoded))
                    for digest, part in zip(self._digests[name], (values, lengths.data), strict=True):
                        digest.update(part)
                    self._columns[name].append(np.frombuffer(values, np.uint8), lengths)

    def finish(self, folder: Path | None) -> dict[str, StoredTexts]:
        """The columns by name.

        Args:
          folder: in which they lie at last; None: nowhere.

        Raises:
          UserError: they cannot be written.
        """
        digests = {
            name: hashlib.blake2b(b"".join(each.digest() for each in parts), digest_size=16).hexdigest()
            for name, parts in self._digests.items()
        }
        with storage_errors(self._folder):
            return {name: StoredTexts(column.finish(), digests[name], folder) for name, column in self._columns.items()}

    def close(self) -> None:
        """Closes the files as they are."""
        for column in self._columns.values():
            column.close()


def take(texts: Sequence[str], rows: np.ndarray) -> Sequence[str]:
    """The texts in `rows` [n], in that order: a list of those of a list, and of stored ones stored ones."""
    if isinstance(texts, StoredTexts):
        return texts.take(rows)
    chosen: list[int] = rows.tolist()
    return [texts[row] for row in chosen]


def joined(first: Sequence[str], second: Sequence[str]) -> Sequence[str]:
    """The texts of both: a list, or a temporary file if any of them are stored; raises `UserError` if it is full."""
    if not isinstance(first, StoredTexts) and not isinstance(second, StoredTexts):
        return [*first, *second]
    writer, texts = TextsWriter(None, ["texts"]), itertools.chain(first, second)
    with contextlib.closing(writer):
        while piece := list(itertools.islice(texts, ROWS_WRITTEN)):
            writer.append({"texts": piece})
        return writer.finish(None)["texts"]


def storage_errors(folder: Path | None) -> contextlib.AbstractContextManager[None]:
    """Turns texts or tokens that cannot be written into one line."""
    place, other = (folder.parent, VARIABLE) if folder else (tempfile.gettempdir(), "TMPDIR")
    return user_errors(place, "written", f"make room, or name another folder in the environment variable {other}")
