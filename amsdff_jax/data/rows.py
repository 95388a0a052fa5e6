"""What the readers of all formats share: a row, and what they say of columns."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.validation import first_of, nearest


class Row(NamedTuple):
    """One record: `place` says where it stands in the file, for messages, and `error` what is wrong with it."""

    place: str
    values: dict[str, Any]
    error: str = ""


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
