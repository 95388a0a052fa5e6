"""Rows of JSON files: an object a line, or one list of objects."""

import io
import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO, NoReturn

from amsdff_jax.base.errors import UserError
from amsdff_jax.data.lines import LONGEST_TEXT, decode_lines, invalid_byte
from amsdff_jax.data.rows import Row, empty_file

CHUNK = 1 << 16  # characters of a list that are read at once, at least
_SPACE = re.compile(r"[ \t\r\n]*")
EXPECTED = 'expected an object such as {"text": "...", "label": "..."}'


def json_lines_rows(path: str, stream: BinaryIO) -> Iterator[Row]:
    """The rows of a file with an object a line.

    Raises:
      UserError: the file holds nothing, or nothing that can be read on.
    """
    empty = True
    # No other end of a line: JSON strings may hold the other line separators of Unicode.
    for number, line, error in decode_lines(stream, "\n", path):
        if line.isspace():
            continue
        place, values = f"line {number}", {}
        try:
            values = json.loads(line)
            if not isinstance(values, dict):
                error = error or f"{place}: {EXPECTED}"
        except (ValueError, RecursionError) as problem:
            if empty and line.lstrip().startswith("["):
                raise UserError(
                    f"{path}: {place}: expected an object a line; the name of a file that holds a list of "
                    "objects ends in .json"
                ) from None
            error = error or f"{place}: not valid JSON ({problem})"
        empty = False
        yield Row(place, {}, error) if error else Row(place, values)
    if empty:
        raise empty_file(path)


def json_rows(path: str, stream: BinaryIO, head: bytes) -> Iterator[Row]:
    """The rows of a file with a list of objects, or with an object a line, as it begins.

    Args:
      head: the first bytes of the stream, which are still to be read.

    Raises:
      UserError: the file holds nothing, or nothing that can be read on.
    """
    first = next(iter(head.removeprefix(b"\xef\xbb\xbf").lstrip().splitlines()), b"")
    if first.strip() == b"{":
        raise UserError(f"{path}: holds one object of many lines; expected a list of objects, or an object a line")
    yield from (json_lines_rows if first.startswith(b"{") else _list_rows)(path, stream)


def _list_rows(path: str, stream: BinaryIO) -> Iterator[Row]:
    text = _Text(path, stream)
    if not text.next_character():
        raise empty_file(path)
    text.expect("[")
    number = 0
    while text.next_character() != "]":
        if number:
            text.expect(",")
        number += 1
        item, source = text.next_item()
        place = f"row {number}"
        error = invalid_byte(place, source) or ("" if isinstance(item, dict) else f"{place}: {EXPECTED}")
        yield Row(place, {}, error) if error else Row(place, item)
    text.expect("]")
    if text.next_character():
        text.fail("more after the end of the list")


class _Text:
    """A JSON file of which only the part in hand is held."""

    def __init__(self, path: str, stream: BinaryIO):
        self._path = path
        self._stream = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="\n")
        self._decoder = json.JSONDecoder()
        self._part, self._place, self._line = "", 0, 1

    def next_character(self) -> str:
        """The next one that is no space, which stays there; "" at the end."""
        while True:
            space = _SPACE.match(self._part, self._place)
            self._place = space.end() if space else self._place
            if self._place < len(self._part):
                return self._part[self._place]
            if not self._read_more():
                return ""

    def expect(self, character: str) -> None:
        if self.next_character() != character:
            self.fail(f"expected {character!r}")
        self._place += 1

    def next_item(self) -> tuple[Any, str]:
        """The next value and its source."""
        self.next_character()
        while True:
            problem, place = "", self._place
            try:
                item, end = self._decoder.raw_decode(self._part, self._place)
                # A number that ends where the part ends may continue.
                if end < len(self._part) or self._part[end - 1] in '}]"':
                    source = self._part[self._place : end]
                    self._place = end
                    return item, source
            except json.JSONDecodeError as error:
                problem, place = error.msg, error.pos
            except (ValueError, RecursionError) as error:
                problem = str(error)
            if len(self._part) - self._place > LONGEST_TEXT:
                self.fail(f"{problem or 'no end'} within {LONGEST_TEXT:,} characters")
            if not self._read_more():
                self._place = place
                self.fail(problem or "the list has no end")

    def fail(self, problem: str) -> NoReturn:
        line = self._line + self._part.count("\n", 0, self._place)
        raise UserError(f"{self._path}: line {line}: not valid JSON ({problem}); expected a list of objects")

    def _read_more(self) -> bool:
        # As much again as there is, so that an item of many parts is not read from its beginning too often.
        more = self._stream.read(max(CHUNK, len(self._part) - self._place))
        self._line += self._part.count("\n", 0, self._place)
        self._part, self._place = self._part[self._place :] + more, 0
        return bool(more)
