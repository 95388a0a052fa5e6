"""Texts to label, from wherever they come, each as a record that knows its row."""

import itertools
import logging
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.validation import nearest
from amsdff_jax.config import DataConfig
from amsdff_jax.config.columns import split_columns
from amsdff_jax.data.chunks import Pause, with_pauses
from amsdff_jax.data.files import scan_rows
from amsdff_jax.data.lines import decode_lines
from amsdff_jax.data.rows import no_such_column, text_of

logger = logging.getLogger(__name__)

PATIENCE = 0.2  # seconds without a line after which those that came are labelled
LINES_AHEAD = 1024
ROWS_OF_JSON = 100  # in which a column that is to be kept is looked for


class Record(NamedTuple):
    """One text to label.

    Attributes:
      row: counts the records from 1, broken ones included.
      text: a text or a pair; None if the record is broken.
      kept: columns that go to the output as they are.
      error: what is wrong with a broken record, and where it stands.
    """

    row: int
    text: str | tuple[str, str] | None
    kept: dict[str, Any]
    error: str = ""


def check_pairs(reads_pairs: bool | None, text_pair_column: str) -> None:
    """Raises `UserError` if texts would come alone to a model of pairs, or in pairs to one of single texts.

    Args:
      reads_pairs: what the model was trained on; None: not known.
      text_pair_column: where the second texts of a file are; "": there are none.
    """
    if reads_pairs and not text_pair_column:
        raise UserError(
            "--text_pair_column: not given, but the model was trained on pairs of texts; name the column "
            "of a --file that holds the second ones"
        )
    if reads_pairs is False and text_pair_column:
        raise UserError(f"--text_pair_column={text_pair_column}: the model was trained on single texts; leave it out")


def argument_records(texts: Sequence[str], keep_columns: Sequence[str] = ()) -> Iterator[Record]:
    """Records of texts given one by one; their only column is `text`."""
    _check_kept(keep_columns, ["text"], "a text of its own")
    return (Record(row, text, dict.fromkeys(keep_columns, text)) for row, text in enumerate(texts, start=1))


def standard_input_records(keep_columns: Sequence[str] = ()) -> Iterator[Record | Pause]:
    """A record for every line of the standard input, as they come; their only column is `text`."""
    _check_kept(keep_columns, ["text"], "the standard input")

    def records() -> Iterator[Record]:
        # A stream of its own: at its end Python would wait for the lock of `sys.stdin`, which a read may hold.
        with open(sys.stdin.fileno(), "rb", closefd=False) as stream:
            for number, line, error in decode_lines(stream, "\n", "standard input"):
                text = line.removesuffix("\n").removesuffix("\r")
                if error:
                    yield Record(number, None, {}, error)
                else:
                    yield Record(number, text, dict.fromkeys(keep_columns, text))

    return with_pauses(records(), PATIENCE, LINES_AHEAD)


def file_records(path: str, data: DataConfig, keep_columns: Sequence[str] = ()) -> Iterator[Record]:
    """A record for every row of a file.

    Args:
      path: as for `scan_rows`.
      data: which columns hold the texts, and how a table is written.
      keep_columns: go to the output as they are.

    Raises:
      UserError: the file cannot be read, or is a table without one of the columns.
    """
    columns, pair_columns = split_columns(data.text_column), split_columns(data.text_pair_column)
    rows = scan_rows(path, [*columns, *pair_columns, *keep_columns], data)
    if keep_columns:  # which a table has, or there is an error; every row of JSON has its own
        first = list(itertools.islice(rows, ROWS_OF_JSON))
        found = list(dict.fromkeys(name for row in first for name in row.values))
        for column in keep_columns if found else ():
            if column not in found:  # later ones may have it
                told = no_such_column(column, found)
                logger.warning("--keep_columns: %s: in the first %d rows there is %s", path, len(first), told)
        rows = itertools.chain(first, rows)
    for number, row in enumerate(rows, start=1):
        text, error = None, row.error
        if not error:
            try:
                text = text_of(row, columns)
                if pair_columns:
                    text = text, text_of(row, pair_columns)
            except UserError as problem:
                error = str(problem)
        yield Record(number, text, {column: row.values.get(column) for column in keep_columns}, error)


def _check_kept(keep_columns: Sequence[str], columns: Sequence[str], source: str) -> None:
    for column in keep_columns:
        if column not in columns:
            found = ", ".join(map(repr, columns))
            raise UserError(
                f"--keep_columns: {source} has no column {column!r}, only {found}{nearest(column, columns)}"
            )
