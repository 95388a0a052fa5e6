"""Terminals of any encoding, on which a name in brackets is not taken for markup."""

import io
import sys

from rich.console import Console


def make_console(stderr: bool = False, width: int | None = None) -> Console:
    """A console that prints strings as they are; what they may hold of control characters is the caller's to escape.

    Args:
      stderr: whether it writes to the standard error instead of the standard output.
      width: in columns; None: the terminal's.
    """
    return Console(stderr=stderr, width=width, markup=False, emoji=False, highlight=False)


def accept_every_character() -> None:
    r"""Makes the standard streams write what their encoding lacks as an escape such as \u4e2d, not raise an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
