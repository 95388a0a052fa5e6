"""Text that others have written, made safe for terminals and spreadsheets; for HTML and Markdown see `reporting`."""

import csv
import io
import re
from collections.abc import Iterable
from typing import Any

# What a spreadsheet takes for the beginning of a formula, and wide forms of the same (after OWASP, "CSV Injection").
_FORMULA_STARTS = tuple("=+-@\t\r\n＝＋－＠")
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?")


def printable(text: str) -> str:
    r"""The text with what cannot be seen, or harms a terminal, as an escape such as \x1b or \u202e."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def shorten(text: str, longest: int = 60) -> str:
    """The text, or its beginning and end around a … if it has more than `longest` characters."""
    return text if len(text) <= longest else f"{text[: longest // 2]}…{text[-(longest // 3) :]}"


def csv_line(fields: Iterable[Any]) -> str:
    """A row of CSV, with a newline behind it.

    Python's writer quotes the characters of its own line end, which has to have a carriage return for that: readers
    take one that stands alone for the end of a row, too.
    """
    line = io.StringIO(newline="")
    csv.writer(line, lineterminator="\r\n").writerow(fields)
    return line.getvalue().removesuffix("\r\n") + "\n"


def spreadsheet_cell(text: str) -> str:
    """The text, behind an apostrophe if a spreadsheet would compute it; a plain number is left as it is."""
    return f"'{text}" if text.startswith(_FORMULA_STARTS) and not _NUMBER.fullmatch(text) else text
