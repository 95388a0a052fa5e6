"""Reads labelled texts from CSV, TSV, JSON, JSONL and Parquet files, gzipped or not."""

import gzip
import io
import logging
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.files import user_path
from amsdff_jax.base.validation import shown
from amsdff_jax.config import DataConfig
from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.data.json_rows import json_lines_rows, json_rows
from amsdff_jax.data.labels import find_class_names, find_indices, label_of
from amsdff_jax.data.parquet import parquet_rows
from amsdff_jax.data.rows import Row, no_such_column
from amsdff_jax.data.signatures import SIGNATURE_BYTES, name_format
from amsdff_jax.data.suspect_labels import repeated_headers, suspect_classes
from amsdff_jax.data.tables import table_rows

logger = logging.getLogger(__name__)

FORMATS = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet")
ROWS_AFTER_ERROR = 20_000  # are read after the first bad one, to count others
ERRORS_SHOWN = 3


def read_file(path: str, config: DataConfig, class_names: Sequence[str] = ()) -> TextDataset:
    """Reads a file into a dataset.

    Args:
      path: ends in one of `FORMATS`, or one of these and .gz.
      config: names of the columns, the kind of labels, and how a table is written.
      class_names: the classes that training knows; (): take them from the file, names sorted as
        text and integers as numbers.

    Raises:
      UserError: names the file, the row and the column, and what was expected there; of several bad rows
        how many there are, and the first.
    """
    text_columns = [column for column in (config.text_column, config.text_pair_column) if column]
    texts, labels, places, problems, rows, first_bad = [], [], [], [], 0, 0
    for row in scan_rows(path, [*text_columns, config.label_column], config):
        if problems and rows == first_bad + ROWS_AFTER_ERROR:
            break
        rows += 1
        try:
            if row.error:
                raise UserError(row.error)
            text = [text_of(row, column) for column in text_columns]
            label = label_of(_value(row, config.label_column), f"{row.place}, column {config.label_column!r}")
        except UserError as problem:
            problems.append(str(problem))
            first_bad = first_bad or rows
        else:
            texts.append(text)
            labels.append(label)
            places.append(row.place)
    if problems:
        raise UserError(f"{path}: {_summary(problems, rows, rows == first_bad + ROWS_AFTER_ERROR)}")
    if not texts:
        raise UserError(f"{path}: holds no rows; expected a header and at least one text")
    known = tuple(class_names) or tuple(find_class_names(path, labels, places, config))
    dataset = TextDataset(
        texts=[text[0] for text in texts],
        labels=find_indices(path, labels, places, config, known),
        class_names=known,
        text_pairs=[text[1] for text in texts] if config.text_pair_column else None,
        ids=places,
        name=str(path),
    )
    if not len(class_names):  # which else have been looked at before
        for sentence in (*suspect_classes(dataset), *repeated_headers(dataset, config)):
            logger.warning("%s: %s", path, sentence)
    return dataset


def read_rows(path: str, columns: Sequence[str] | None = None) -> Iterator[Row]:
    """The records of a file, one by one, in order, in memory that does not grow with the file.

    Args:
      path, columns: as for `scan_rows`.

    Raises:
      UserError: no such file, an unknown format, broken UTF-8 or a broken record, with its place.
    """
    for row in scan_rows(path, columns):
        if row.error:
            raise UserError(f"{path}: {row.error}")
        yield row


def scan_rows(path: str, columns: Sequence[str] | None = None, config: DataConfig | None = None) -> Iterator[Row]:
    """The records of a file, of which a broken one is a row that says so, and the others follow.

    Args:
      path: as for `read_file`.
      columns: that a table must have, and the only ones of it that rows hold; None: all. JSON has its own in every row.
      config: how a table is written: delimiter, quoting, names of its columns; None: as is usual.

    Raises:
      UserError: no such file, an unknown format, a table without one of the columns, or a file that cannot be read on.
    """
    file = user_path(path)
    suffixes = [suffix.lower() for suffix in file.suffixes]
    packed = suffixes[-1:] == [".gz"]
    kind = (suffixes[-2:-1] if packed else suffixes[-1:] or [""])[0]
    columns = None if columns is None else list(dict.fromkeys(columns))
    if kind not in FORMATS:
        raise UserError(
            f"{path}: unknown kind of file; expected a name ending in {', '.join(FORMATS)}, or one with .gz"
        )
    try:
        with file.open("rb") as plain, io.BufferedReader(gzip.open(plain)) if packed else plain as stream:
            if packed and plain.peek(1) and not plain.peek(1).startswith(b"\x1f\x8b"):
                raise gzip.BadGzipFile(f"but {name_format(plain.peek()) or 'perhaps plain text; name it without .gz'}")
            head = stream.peek(SIGNATURE_BYTES)[:SIGNATURE_BYTES]
            if (kind != ".parquet" or not head.startswith(b"PAR")) and (other := name_format(head)):
                raise UserError(f"{path}: is {other}")
            if kind == ".parquet":
                yield from parquet_rows(path, stream, packed, columns)
            elif kind == ".json":
                yield from json_rows(path, stream, head)
            elif kind in (".jsonl", ".ndjson"):
                yield from json_lines_rows(path, stream)
            else:
                yield from table_rows(path, stream, columns, "," if kind == ".csv" else "\t", config or DataConfig())
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path}: not a readable gzip file ({error})") from None
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror or error}); check the path and its permissions"
        ) from None


def text_of(row: Row, column: str) -> str:
    """The text in a column of a row.

    Raises:
      UserError: no such column, or no text in it; names row and column.
    """
    value = _value(row, column)
    if not isinstance(value, str):
        raise UserError(f"{row.place}, column {column!r}: expected a text, got {shown(value)}")
    return value


def _value(row: Row, column: str) -> Any:
    if column not in row.values:
        raise UserError(f"{row.place}: {no_such_column(column, list(row.values))}")
    value = row.values[column]
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()  # older programs write texts into Parquet without saying that they are
    except UnicodeDecodeError:
        raise UserError(
            f"{row.place}, column {column!r}: not valid UTF-8 ({shown(value)}); write it as UTF-8"
        ) from None


def _summary(problems: Sequence[str], rows: int, stopped: bool) -> str:
    if len(problems) == 1:
        return problems[0]
    first = " ".join(f"({place}) {problem}" for place, problem in enumerate(problems[:ERRORS_SHOWN], start=1))
    of = f"the first {rows:,}" if stopped else f"{rows:,}"
    return f"{len(problems):,} of {of} rows cannot be read, the first of them: {first}"
