"""Reads labelled texts from CSV, TSV, JSON, JSONL and Parquet files, packed or not, one or several."""

import zlib
from collections.abc import Iterator, Mapping, Sequence

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.files import is_url, user_path
from amsdff_jax.config import DataConfig
from amsdff_jax.config.columns import split_columns
from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.data.file_sets import find_files, format_of
from amsdff_jax.data.json_rows import json_lines_rows, json_rows
from amsdff_jax.data.label_sets import label_columns
from amsdff_jax.data.labelled_rows import label_rows_once
from amsdff_jax.data.packed import PACKINGS, unpack
from amsdff_jax.data.parquet import parquet_rows
from amsdff_jax.data.remote import open_url
from amsdff_jax.data.rows import Row
from amsdff_jax.data.signatures import SIGNATURE_BYTES, name_format
from amsdff_jax.data.stored_datasets import dataset_folder
from amsdff_jax.data.tables import table_rows


def read_file(path: str, config: DataConfig, class_names: Sequence[str] = (), task: str = "") -> TextDataset:
    """Reads a file into a dataset, or several into one.

    Texts that are too many for memory are stored in the cache, where they are found again as long as the files are the
    same; without a cache in temporary files.

    Args:
      path: a name, or a URL, that ends in one of `FORMATS`, or one of these and .gz or .zst; or several files, as
        `find_files` reads it.
      config: names of the columns, the kind of labels, and how a table is written.
      class_names: the classes that training knows; (): take them from the file, names sorted as
        text and integers as numbers.
      task: the kind of task that the labels are for: "multi_label" where a text may have several. Lists of labels, and
        the settings for several labels, say so by themselves. With `class_names` "single" says that a text has one
        label, whose probabilities the columns of `config.label_columns` then hold, be they zeros and ones alone; "":
        these are several labels.

    Raises:
      UserError: names the file, the row and the column, and what was expected there; of several bad rows
        how many there are, and the first.
    """
    columns, files, name = wanted_columns(config), find_files(path), str(path)
    return label_rows_once(
        lambda: _scan_files(files, columns, config),
        lambda: dataset_folder(files, config, class_names, task),
        config,
        class_names,
        name,
        task,
    )


def wanted_columns(config: DataConfig) -> list[str]:
    """The columns of texts and labels, each once."""
    texts = (*split_columns(config.text_column), *split_columns(config.text_pair_column))
    return _distinct([*texts, *label_columns(config)])


def read_rows(path: str, columns: Sequence[str] | None = None, config: DataConfig | None = None) -> Iterator[Row]:
    """The records of a file or of several, one by one, in order, in memory that does not grow with the file.

    Args:
      path, columns, config: as for `scan_rows`.

    Raises:
      UserError: no such file, an unknown format, broken UTF-8 or a broken record, with its place.
    """
    for row in scan_rows(path, columns, config):
        if row.error:
            raise UserError(f"{path}: {row.error}")
        yield row


def scan_rows(
    path: str, columns: Sequence[str] | None = None, config: DataConfig | None = None, *, whole: bool = False
) -> Iterator[Row]:
    """The records of a file or of several, of which a broken one is a row that says so, and the others follow.

    Args:
      path: as for `read_file`; of several files the place of a row begins with the name of its file.
      columns: that a table must have, and the only ones of it that rows hold; None: all. JSON has its own in every row.
      config: how a table is written: delimiter, quoting, names of its columns; None: as is usual.
      whole: rows hold all columns, beside those that a table must have.

    Raises:
      UserError: no such file, an unknown format, a table without one of the columns, or a file that cannot be read on.
    """
    columns = None if columns is None else _distinct(columns)
    yield from _scan_files(find_files(path), columns, config or DataConfig(), whole)


def _scan_files(
    files: Mapping[str, str], columns: Sequence[str] | None, config: DataConfig, whole: bool = False
) -> Iterator[Row]:
    for file, name in files.items():
        for row in _scan_file(file, columns, config, whole):
            yield Row(f"{name}: {row.place}", row.values, row.error and f"{name}: {row.error}") if name else row


def _distinct(columns: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(columns))


def _scan_file(path: str, columns: Sequence[str] | None, config: DataConfig, whole: bool) -> Iterator[Row]:
    kind, packed = format_of(path)
    try:
        opened = open_url(path) if is_url(path) else user_path(path).open("rb")
        with opened as plain, unpack(plain, packed) if packed else plain as stream:
            head = stream.peek(SIGNATURE_BYTES)[:SIGNATURE_BYTES]
            if (kind != ".parquet" or not head.startswith(b"PAR")) and (other := name_format(head)):
                raise UserError(f"{path}: is {other}")
            if kind == ".parquet":
                yield from parquet_rows(path, stream, bool(packed), None if whole else columns)
            elif kind == ".json":
                yield from json_rows(path, stream, head)
            elif kind in (".jsonl", ".ndjson"):
                yield from json_lines_rows(path, stream)
            else:
                yield from table_rows(path, stream, columns, "," if kind == ".csv" else "\t", config, whole)
    except (OSError, EOFError, zlib.error) as error:
        if packed and getattr(error, "errno", None) is None:  # errors of the file system have a number
            raise UserError(f"{path}: not a readable {PACKINGS[packed].name} file ({error})") from None
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot be read ({reason}); check the path and its permissions") from None
