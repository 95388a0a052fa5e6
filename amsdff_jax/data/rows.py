"""What the readers of all formats share: a row, and what they say of columns."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, NamedTuple

import numpy as np

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.validation import first_of, nearest, shown


class Row(NamedTuple):
    """One record: `place` says where it stands in the file, for messages, and `error` what is wrong with it."""

    place: str
    values: dict[str, Any]
    error: str = ""


def value_of(row: Row, column: str) -> Any:
    """The value in a column of a row; bytes are decoded.

    Raises:
      UserError: no such column, or bytes that are not UTF-8; names row and column.
    """
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


def text_of(row: Row, columns: Sequence[str]) -> str:
    """The text in a column of a row, or that of several, joined.

    Of several a value that is missing is an empty text, but not all may be.

    Raises:
      UserError: no such column, or no text in it; names row and column.
    """
    values = [(column, value_of(row, column)) for column in columns]
    if len(values) > 1:
        values = [(column, value) for column, value in values if not is_missing(value)] or values[:1]
    for column, value in values:
        if not isinstance(value, str):
            raise UserError(f"{row.place}, column {column!r}: expected a text, got {shown(value)}")
    return join_texts([text for _, text in values])


def join_texts(parts: Sequence[str]) -> str:
    """Texts with a space between them, without those that are empty; a single one stays as it is."""
    return parts[0] if len(parts) == 1 else " ".join(part for part in parts if part.strip())


def is_missing(value: Any) -> bool:
    """Whether a value is what formats and data frames have in the place of one."""
    return value is None or (isinstance(value, float) and value != value)


def is_list(value: Any) -> bool:
    """Whether a value is several, as the labels of a text may be."""
    return isinstance(value, (list, tuple, set, frozenset))


def listed(values: Iterable[Any], what: str) -> list[Any]:
    """The values by position; a data frame's column would find its own by their labels.

    Raises:
      UserError: no list; `what` names it.
    """
    if hasattr(values, "__array__"):
        values = np.asarray(values).tolist()
    if isinstance(values, (str, bytes, Mapping, Set)) or not isinstance(values, Iterable):
        raise UserError(f"{what}: expected a list, got {shown(values)}")
    return list(values)


def plain(value: Any) -> Any:
    """A value of a list or a column of NumPy, PyArrow or pandas as Python's own; None for pandas' missing value."""
    if hasattr(value, "__array__"):
        return np.asarray(value).tolist()
    if hasattr(value, "as_py"):
        return value.as_py()
    return None if type(value).__name__ == "NAType" else value


def table_columns(table: Any) -> list[Any] | None:
    """The names of the columns of a dict or a data frame; None for what has none."""
    if isinstance(table, Mapping):
        return list(table)
    names = table.column_names if hasattr(type(table), "column_names") else getattr(table, "columns", None)
    return None if names is None else list(names)


def require_columns(where: str, wanted: Iterable[str], found: Sequence[str], way_out: str = "") -> None:
    """Raises `UserError` unless every wanted column is there once; others may be there more often, or have no name.

    Args:
      where: the file, perhaps with a line, that the columns are of.
      way_out: ends the message of a column that is not there.
    """
    counts = Counter(found)
    for column in wanted:
        if not counts[column]:
            raise UserError(f"{where}: {no_such_column(column, found)}{way_out}")
        if counts[column] > 1 and column:
            raise UserError(f"{where}: has more than one column {column!r}; rename or remove the others")


def no_such_column(column: str, found: Sequence[str]) -> str:
    """Says that a column is not there, and which are."""
    return f"no column {column!r}, only {first_of(list(map(repr, found)))}{nearest(column, found)}"


def empty_file(path: str) -> UserError:
    """The error of a file that holds nothing at all."""
    return UserError(f"{path}: is empty; expected a header and at least one text")
