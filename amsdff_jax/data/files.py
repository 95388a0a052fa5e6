"""Reads labelled texts from CSV, TSV, JSONL and Parquet files, gzipped or not."""

import contextlib
import csv
import gzip
import io
import json
import logging
import shutil
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple

from amsdff_jax.config import DataConfig
from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.data.labels import find_class_names, find_indices, label_of
from amsdff_jax.data.suspect_labels import repeated_headers, suspect_classes
from amsdff_jax.errors import UserError
from amsdff_jax.paths import user_path
from amsdff_jax.validation import nearest

logger = logging.getLogger(__name__)

FORMATS = (".csv", ".tsv", ".jsonl", ".parquet")
LONGEST_FIELD = 1 << 27  # characters, so that a quote that is never closed does not swallow the memory
PARQUET_ROWS = 1024  # decoded at once
PARQUET_BUFFER = 1 << 20  # bytes of a column read at once


class Row(NamedTuple):
    """One record: `place` says where it stands in the file, for messages, and `error` what is wrong with it."""

    place: str
    values: dict[str, Any]
    error: str = ""


class Line(NamedTuple):
    """One line: its number from 1, and what is wrong with it, such as bytes that are not UTF-8."""

    number: int
    text: str
    error: str


def read_file(path: str, config: DataConfig, class_names: Sequence[str] = ()) -> TextDataset:
    """Reads a file into a dataset.

    Args:
      path: ends in .csv, .tsv, .jsonl or .parquet, or one of these and .gz.
      config: names of the columns and the kind of labels.
      class_names: the classes that training knows; (): take them from the file, names sorted as
        text and integers as numbers.

    Raises:
      UserError: names the file, the row and the column, and what was expected there.
    """
    texts, pairs, labels, places = [], [], [], []
    for row in read_rows(path):
        texts.append(text_of(path, row, config.text_column))
        if config.text_pair_column:
            pairs.append(text_of(path, row, config.text_pair_column))
        labels.append(
            label_of(_value(path, row, config.label_column), f"{path}: {row.place}, column {config.label_column!r}")
        )
        places.append(row.place)
    if not texts:
        raise UserError(f"{path}: holds no rows; expected a header and at least one text")
    known = list(class_names) or find_class_names(path, labels, places, config)
    dataset = TextDataset(
        texts=texts,
        labels=find_indices(path, labels, places, config, known),
        class_names=known,
        text_pairs=pairs if config.text_pair_column else None,
        ids=places,
        name=str(path),
    )
    if not len(class_names):  # which else have been looked at before
        for sentence in (*suspect_classes(dataset), *repeated_headers(dataset, config)):
            logger.warning("%s: %s", path, sentence)
    return dataset


def read_rows(path: str) -> Iterator[Row]:
    """The records of a file, one by one, in order, in memory that does not grow with the file.

    Raises:
      UserError: no such file, an unknown format, broken UTF-8 or a broken record, with its place.
    """
    for row in scan_rows(path):
        if row.error:
            raise UserError(f"{path}: {row.error}")
        yield row


def scan_rows(path: str) -> Iterator[Row]:
    """The same, but a broken record is a row that says so, and the others follow.

    Raises:
      UserError: no such file, an unknown format, or a file that cannot be read on.
    """
    file = user_path(path)
    suffixes = [suffix.lower() for suffix in file.suffixes]
    compressed = suffixes[-1:] == [".gz"]
    kind = suffixes[-2:-1] if compressed else suffixes[-1:]
    if not kind or kind[0] not in FORMATS:
        raise UserError(
            f"{path}: unknown kind of file; expected a name ending in {', '.join(FORMATS)}, or one with .gz"
        )
    try:
        with gzip.open(file) if compressed else file.open("rb") as stream:
            if kind[0] == ".parquet":
                yield from _parquet_rows(path, stream, compressed)
            elif kind[0] == ".jsonl":
                yield from _json_rows(path, stream)
            else:
                yield from _table_rows(path, stream, "," if kind[0] == ".csv" else "\t")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path}: not a readable gzip file ({error})") from None
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror or error}); check the path and its permissions"
        ) from None


def decode_lines(stream: BinaryIO, newline: str) -> Iterator[Line]:
    """The lines of a UTF-8 file, a byte order mark left out.

    Args:
      newline: what ends a line, as for `open`; the ends are kept as they are.
    """
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline=newline)
    for number, line in enumerate(text, start=1):
        yield Line(number, line, "" if line.isascii() else _invalid_byte(number, line))


def _invalid_byte(number: int, line: str) -> str:
    try:
        line.encode("utf-8")
    except UnicodeEncodeError as error:
        # What could not be decoded has become a surrogate, which valid UTF-8 never gives.
        place = len(line[: error.start].encode("utf-8")) + 1
        return (
            f"line {number}, byte {place}: not valid UTF-8 (0x{ord(line[error.start]) - 0xDC00:02x}); "
            "save the file as UTF-8"
        )
    return ""


def _table_rows(path: str, stream: BinaryIO, delimiter: str) -> Iterator[Row]:
    csv.field_size_limit(LONGEST_FIELD)
    undecodable: list[str] = []

    def lines() -> Iterator[str]:
        for line in decode_lines(stream, newline=""):
            if line.error:
                undecodable.append(line.error)
            yield line.text

    reader = csv.reader(lines(), delimiter=delimiter, strict=True)
    header: list[str] = []
    while True:
        place, fields, error = f"line {reader.line_num + 1}", [], ""
        undecodable.clear()
        try:
            fields = next(reader)
        except StopIteration:
            break
        except csv.Error as problem:
            error = f"line {reader.line_num}: {problem}"
        error = undecodable[0] if undecodable else error
        if header and fields and not error and len(fields) != len(header):
            error = (
                f"{place}: {len(fields)} fields, but the header has {len(header)} ({', '.join(header)}); "
                f"put texts that hold a {delimiter!r} in double quotes"
            )
        if error and not header:
            raise UserError(f"{path}: {error}")
        if error:
            yield Row(place, {}, error)
        elif fields and header:
            yield Row(place, dict(zip(header, fields, strict=True)))
        elif fields:
            header = fields
            _require_distinct(path, header)
    if not header:
        raise _empty(path)


def _json_rows(path: str, stream: BinaryIO) -> Iterator[Row]:
    empty = True
    # No other end of a line: JSON strings may hold the other line separators of Unicode.
    for number, line, error in decode_lines(stream, newline="\n"):
        if not line.strip():
            continue
        empty = False
        place, values = f"line {number}", {}
        try:
            values = json.loads(line)
            if not isinstance(values, dict):
                error = error or f'{place}: expected an object such as {{"text": "...", "label": "..."}}'
        except (ValueError, RecursionError) as problem:
            error = error or f"{place}: not valid JSON ({problem})"
        yield Row(place, {}, error) if error else Row(place, values)
    if empty:
        raise _empty(path)


def _parquet_rows(path: str, stream: BinaryIO, compressed: bool) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    with contextlib.ExitStack() as files:
        if compressed:  # Parquet is read from its end
            packed, stream = stream, files.enter_context(tempfile.TemporaryFile())
            shutil.copyfileobj(packed, stream)
        if not stream.seek(0, io.SEEK_END):
            raise _empty(path)
        try:
            parquet = pyarrow.parquet.ParquetFile(stream, buffer_size=PARQUET_BUFFER, pre_buffer=False)
            _require_distinct(path, parquet.schema_arrow.names)
            number = 1
            for batch in parquet.iter_batches(batch_size=PARQUET_ROWS):
                yield from _parquet_batch(batch, number)
                number += len(batch)
        except (pyarrow.ArrowException, OSError) as error:
            raise UserError(f"{path}: not a readable Parquet file ({str(error).splitlines()[0]})") from None


def _parquet_batch(batch: Any, number: int) -> Iterator[Row]:
    """The rows of a `pyarrow.RecordBatch` of which the first is row `number` of the file."""
    try:
        for place, values in enumerate(batch.to_pylist(), start=number):
            yield Row(f"row {place}", values)
    except (ValueError, OverflowError) as error:  # of a value that Python has no type for, too
        if len(batch) == 1:
            unicode = isinstance(error, UnicodeDecodeError)
            what = f"not valid UTF-8 ({error.reason})" if unicode else f"cannot be read ({str(error).splitlines()[0]})"
            yield Row(f"row {number}", {}, f"row {number}: {what}")
            return
        for place in range(len(batch)):
            yield from _parquet_batch(batch.slice(place, 1), number + place)


def _require_distinct(path: str, columns: Sequence[str]) -> None:
    """Raises `UserError` if two columns have the same name, unless it is empty, as after a comma at the end."""
    twice = [name for name, count in Counter(columns).items() if name and count > 1]
    if twice:
        raise UserError(f"{path}: has more than one column {twice[0]!r}; rename or remove the others")


def _empty(path: str) -> UserError:
    return UserError(f"{path}: is empty; expected a header and at least one text")


def _value(path: str, row: Row, column: str) -> Any:
    if column not in row.values:
        found = ", ".join(map(repr, row.values))
        raise UserError(f"{path}: {row.place}: no column {column!r}, only {found}{nearest(column, row.values)}")
    return row.values[column]


def text_of(path: str, row: Row, column: str) -> str:
    """The text in a column of a row.

    Raises:
      UserError: no such column, or no text in it.
    """
    value = _value(path, row, column)
    if not isinstance(value, str):
        raise UserError(f"{path}: {row.place}, column {column!r}: expected a text, got {value!r}")
    return value
