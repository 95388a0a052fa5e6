"""Tables on a terminal: texts as they are, nothing of them taken for markup, no more rows than a person reads."""

import io

from amsdff_jax.reporting.console import make_console
from amsdff_jax.reporting.table import Column, Table, columns, to_rich


def shown(table: Table, *most: int) -> str:
    console = make_console(width=100)
    console.file = io.StringIO()
    console.print(to_rich(table, *most))
    return console.file.getvalue()


def test_texts_are_shown_as_they_are_and_bars_are_left_out():
    table = Table([*columns("[b]", "n"), Column("bar", "weight")], [(["[red]x", " y"], "\x1b1", 0.5)], "[i]\x1b")
    output = shown(table)
    assert all(text in output for text in ("[b]", "[red]x y", r"\x1b1", r"[i]\x1b"))
    assert "\x1b" not in output and "bar" not in output


def test_of_a_long_table_both_ends_are_shown():
    rows = [(f"row{number}.", str(number)) for number in range(47)]
    output = shown(Table(columns("name", "n"), rows), 40)
    assert "… 7 more" in output and "row19." in output and "row27." in output and "row46." in output
    assert "row20." not in output and "row26." not in output
    assert "more" not in shown(Table(columns("name", "n"), rows[:40]), 40)
    assert "more" not in shown(Table(columns("name", "n"), rows))
