"""Texts of which some stretches are shaded; `macros.html.j2` writes them as HTML."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from amsdff_jax.base.escaping import shorten
from amsdff_jax.reporting.escape import direction

FAINTEST = 0.02  # shades weaker than this are none


class Mark(NamedTuple):
    """A stretch of a text that is shaded."""

    start: int  # of its characters in the text
    end: int
    strength: float  # shade, from -1 (against) to 1
    title: str  # what it says when pointed at
    number: str = ""  # shown behind it; "": none
    special: str = ""  # shown in place of the characters, for a token that stands for none; "": the characters


@dataclasses.dataclass(frozen=True)
class ShadedText:
    """A text in pieces."""

    pieces: Sequence[tuple[str, Mark | None]]  # what is shown, with its mark; None: not shaded
    kind: str  # "signed" (for and against) or "weight"
    direction: str  # in which the text is written, "ltr" or "rtl"


def shade(text: str, marks: Iterable[Mark], kind: str, unread: tuple[int, int] = (0, 0)) -> ShadedText:
    """A text with its marks from the beginning to the end; long pieces are shortened.

    Args:
      unread: where the characters begin and end that are not shown but counted; no mark lies among them.
    """

    def unshaded(start: int, end: int) -> Iterator[tuple[str, None]]:
        if start <= unread[0] < unread[1] <= end:
            yield shorten(text[start : unread[0]]), None
            yield f" … {unread[1] - unread[0]:,} more characters{' … ' if unread[1] < len(text) else ''}", None
            start = unread[1]
        yield shorten(text[start:end]), None

    pieces, place = [], 0
    for mark in marks:
        if not mark.special:
            start = max(mark.start, place)
            pieces += unshaded(place, start)
            place = max(mark.end, place)
        pieces.append((mark.special or shorten(text[mark.start : mark.end]), mark))
    pieces += unshaded(place, len(text))
    return ShadedText(pieces, kind, direction(text))


def css_class(mark: Mark, kind: str) -> str:
    """The classes of a marked stretch in the style sheet."""
    shades = "weight" if kind == "weight" else "for" if mark.strength > 0 else "against"
    return f"mark{f' {shades}' if abs(mark.strength) >= FAINTEST else ''}{' special' if mark.special else ''}"
