"""Tables of facts, for the terminal and for Markdown; `macros.html.j2` writes them as HTML."""

import dataclasses
import sys
from collections.abc import Sequence
from typing import NamedTuple

import rich.table
from rich.text import Text

from amsdff_jax.base.escaping import printable
from amsdff_jax.reporting.escape import escape_markdown, markdown_code


class Code(str):
    """A cell or a name that is shown as code."""


class Column(NamedTuple):
    """A column of a table."""

    title: str  # its head
    # "text"; "number", written out already and aligned at its end; or, in HTML only, a bar for a float: "weight" from
    # 0 to 1, "signed" from -1 to 1
    kind: str = "number"


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of cells."""

    columns: Sequence[Column]  # from the start of a row to its end
    # strings, and numbers in the columns of bars. A text may come in pieces, none of which changes the direction in
    # which the others are written
    rows: Sequence[Sequence[str | Sequence[str] | float]]
    title: str = ""  # what the table is of
    chosen: int = -1  # the row that stands out; -1: none

    @property
    def bars(self) -> int:
        """The number of columns of bars."""
        return sum(column.kind in ("weight", "signed") for column in self.columns)


def columns(text: str, *numbers: str) -> list[Column]:
    """The columns of a table of names and their numbers."""
    return [Column(text, "text"), *map(Column, numbers)]


def to_rich(table: Table, most: int = sys.maxsize) -> rich.table.Table:
    """The table for a terminal. What does not print is an escape, and nothing is taken for markup.

    Args:
      most: rows; of a longer table the first and the last half of so many.
    """
    shown = rich.table.Table(title=Text(printable(table.title)) if table.title else None, title_justify="left")
    for title, kind in _without_bars(table, table.columns):
        shown.add_column(Text(printable(title)), justify="left" if kind == "text" else "right", overflow="fold")
    left_out = range(most // 2, len(table.rows) - most // 2) if len(table.rows) > most else ()
    for number, row in enumerate(table.rows):
        if left_out and number == left_out[0]:
            shown.add_row(f"… {len(left_out)} more")
        if number not in left_out:
            cells = (Text(printable(_plain(cell))) for cell in _without_bars(table, row))
            shown.add_row(*cells, style="bold" if number == table.chosen else None)
    return shown


def to_markdown(table: Table) -> str:
    """The table as GitHub shows it, without its title."""
    shown = _without_bars(table, table.columns)
    rows = [
        [_markdown_cell(cell, column) for cell, column in zip(_without_bars(table, row), shown, strict=True)]
        for row in table.rows
    ]
    rules = ["---" if column.kind == "text" else "---:" for column in shown]
    lines = [[escape_markdown(column.title) for column in shown], rules, *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _without_bars(table: Table, cells: Sequence) -> list:
    return [cell for cell, column in zip(cells, table.columns, strict=True) if column.kind in ("text", "number")]


def _plain(cell: str | Sequence[str]) -> str:
    return cell if isinstance(cell, str) else "".join(cell)


def _markdown_cell(cell: str | Sequence[str], column: Column) -> str:
    if isinstance(cell, Code):
        return markdown_code(cell)
    return escape_markdown(_plain(cell)) if column.kind == "text" else _plain(cell)
