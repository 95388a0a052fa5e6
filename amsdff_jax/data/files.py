"""Reads labelled texts from CSV, TSV, JSONL and Parquet files, gzipped or not."""

import codecs
import csv
import gzip
import io
import json
import sys
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from amsdff_jax.config import DataConfig
from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.errors import UserError
from amsdff_jax.validation import nearest

FORMATS = (".csv", ".tsv", ".jsonl", ".parquet")


class Row(NamedTuple):
    """One record: `place` says where it stands in the file, for messages."""

    place: str
    values: dict[str, Any]


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
        texts.append(_text(path, row, config.text_column))
        if config.text_pair_column:
            pairs.append(_text(path, row, config.text_pair_column))
        labels.append(_label(path, row, config.label_column))
        places.append(row.place)
    if not texts:
        raise UserError(f"{path}: holds no rows; expected a header and at least one text")
    known = list(class_names) or _class_names(path, labels, places, config)
    return TextDataset(
        texts=texts,
        labels=_indices(path, labels, places, config, known),
        class_names=known,
        text_pairs=pairs if config.text_pair_column else None,
        ids=places,
        name=str(path),
    )


def read_rows(path: str) -> Iterator[Row]:
    """The records of a file, one by one, in order.

    Raises:
      UserError: no such file, an unknown format, broken UTF-8 or a broken record, with its place.
    """
    file = Path(path).expanduser()
    suffixes = [suffix.lower() for suffix in file.suffixes]
    compressed = suffixes[-1:] == [".gz"]
    kind = suffixes[-2:-1] if compressed else suffixes[-1:]
    if not kind or kind[0] not in FORMATS:
        raise UserError(
            f"{path}: unknown kind of file; expected a name ending in {', '.join(FORMATS)}, or one with .gz"
        )
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from None
    if compressed:
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise UserError(f"{path}: not a readable gzip file ({error})") from None
    if not content.strip():
        raise UserError(f"{path}: is empty; expected a header and at least one text")
    if kind[0] == ".parquet":
        return _parquet_rows(path, content)
    text = _decode(path, content)
    if kind[0] == ".jsonl":
        return _json_rows(path, text)
    return _table_rows(path, text, "," if kind[0] == ".csv" else "\t")


def _decode(path: str, content: bytes) -> str:
    content = content.removeprefix(codecs.BOM_UTF8)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line_start = content.rfind(b"\n", 0, error.start) + 1
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path}: line {line}, byte {error.start - line_start + 1}: not valid UTF-8 "
            f"(0x{content[error.start]:02x}); save the file as UTF-8"
        ) from None


def _table_rows(path: str, text: str, delimiter: str) -> Iterator[Row]:
    csv.field_size_limit(sys.maxsize)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    try:
        header = next(reader)
        first_line = reader.line_num + 1
        for fields in reader:
            place = f"line {first_line}"
            first_line = reader.line_num + 1
            if not fields:
                continue
            if len(fields) != len(header):
                raise UserError(
                    f"{path}: {place}: {len(fields)} fields, but the header has {len(header)} "
                    f"({', '.join(header)}); put texts that hold a {delimiter!r} in double quotes"
                )
            yield Row(place, dict(zip(header, fields, strict=True)))
    except csv.Error as error:
        raise UserError(f"{path}: line {reader.line_num}: {error}") from None


def _json_rows(path: str, text: str) -> Iterator[Row]:
    # Not splitlines(): JSON strings may hold the other line separators of Unicode.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except ValueError as error:
            raise UserError(f"{path}: line {number}: not valid JSON ({error})") from None
        if not isinstance(values, dict):
            raise UserError(f'{path}: line {number}: expected an object such as {{"text": "...", "label": "..."}}')
        yield Row(f"line {number}", values)


def _parquet_rows(path: str, content: bytes) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(pyarrow.BufferReader(content))
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{path}: not a readable Parquet file ({str(error).splitlines()[0]})") from None
    for number, values in enumerate(table.to_pylist(), start=1):
        yield Row(f"row {number}", values)


def _value(path: str, row: Row, column: str) -> Any:
    if column not in row.values:
        found = ", ".join(map(repr, row.values))
        raise UserError(f"{path}: {row.place}: no column {column!r}, only {found}{nearest(column, row.values)}")
    return row.values[column]


def _text(path: str, row: Row, column: str) -> str:
    value = _value(path, row, column)
    if not isinstance(value, str):
        raise UserError(f"{path}: {row.place}, column {column!r}: expected a text, got {value!r}")
    return value


def _label(path: str, row: Row, column: str) -> str:
    value = _value(path, row, column)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, (str, int)) or not str(value).strip():
        raise UserError(f"{path}: {row.place}, column {column!r}: expected a class name or an integer, got {value!r}")
    return str(value).strip()


def _is_integer(label: str) -> bool:
    try:
        int(label)
    except ValueError:
        return False
    return True


def _class_names(path: str, labels: list[str], places: list[str], config: DataConfig) -> list[str]:
    distinct = set(labels)
    integers = sum(map(_is_integer, labels))
    # A stray word among integers is a slip, not a class.
    if config.label_type == "integer" or (config.label_type == "auto" and 2 * integers > len(labels)):
        for label, place in zip(labels, places, strict=True):
            if not _is_integer(label):
                raise UserError(
                    f"{path}: {place}, column {config.label_column!r}: {label!r} is not a number, as other labels are; "
                    "mend it, or set --config.data.label_type=name"
                )
        names = [str(value) for value in sorted({int(label) for label in distinct})]
    else:
        names = sorted(distinct)
    if len(names) < 2:
        raise UserError(
            f"{path}: column {config.label_column!r} holds a single class, {names[0]!r}; expected at least two"
        )
    return names


def _indices(
    path: str, labels: list[str], places: list[str], config: DataConfig, class_names: Sequence[str]
) -> np.ndarray:
    positions = {name: index for index, name in enumerate(class_names)}
    indices = np.zeros(len(labels), np.int32)
    for row, (label, place) in enumerate(zip(labels, places, strict=True)):
        if label not in positions and _is_integer(label):
            label = str(int(label))
        if label not in positions:
            known = ", ".join(list(class_names)[:10]) + (", ..." if len(class_names) > 10 else "")
            raise UserError(
                f"{path}: {place}, column {config.label_column!r}: training never saw the label {label!r}, only "
                f"{known}{nearest(label, class_names)}"
            )
        indices[row] = positions[label]
    return indices
