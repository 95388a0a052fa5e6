"""The lines of a UTF-8 file, one by one, within stated bounds."""

import io
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from amsdff_jax.base.errors import UserError

# A few megabytes of gzip can hold a line of gigabytes, or billions of empty ones.
LONGEST_TEXT = 1 << 24  # characters of a line or a record, bytes of a value in Parquet; longer ones are refused
MOST_EMPTY_LINES = 1 << 18  # one after another; more are refused


class Line(NamedTuple):
    """One line: its number from 1, and what is wrong with it, such as bytes that are not UTF-8."""

    number: int
    text: str
    error: str


def decode_lines(stream: BinaryIO, newline: str, name: str) -> Iterator[Line]:
    """The lines of a UTF-8 file, a byte order mark left out.

    Args:
      newline: what ends a line, as for `open`; the ends are kept as they are.
      name: of the file, for messages.

    Raises:
      UserError: a line is longer than `LONGEST_TEXT`, or too many empty ones follow each other.
    """
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline=newline)
    number, empty = 0, 0
    while line := text.readline(LONGEST_TEXT + 1):
        number += 1
        if len(line) > LONGEST_TEXT:
            problem = f"longer than {LONGEST_TEXT:,} characters; expected a text a line, with an end to every line"
            raise UserError(f"{name}: line {number}: {problem}")
        empty = empty + 1 if line.isspace() else 0
        if empty > MOST_EMPTY_LINES:
            problem = f"the last of more than {MOST_EMPTY_LINES:,} empty lines in a row; remove them"
            raise UserError(f"{name}: line {number}: {problem}")
        yield Line(number, line, invalid_byte(f"line {number}", line))


def invalid_byte(place: str, text: str) -> str:
    """Which byte of a text, decoded with `surrogateescape`, is not valid UTF-8; "": all are."""
    if text.isascii():
        return ""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        # What could not be decoded has become a surrogate, which valid UTF-8 never gives.
        byte = len(text[: error.start].encode("utf-8")) + 1
        value = ord(text[error.start]) - 0xDC00
        return f"{place}, byte {byte}: not valid UTF-8 (0x{value:02x}); save the file as UTF-8"
    return ""
