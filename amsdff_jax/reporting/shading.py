"""Texts of which some stretches are shaded; `macros.html.j2` writes them as HTML."""

import dataclasses
from collections.abc import Iterable, Sequence
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
    ending: str = ""  # what follows that is not of the text


def shade(text: str, marks: Iterable[Mark], kind: str, ending: str = "") -> ShadedText:
    """A text as far as it is to be shown, with its marks from the beginning to the end; long pieces are shortened."""
    pieces, place = [], 0
    for mark in marks:
        if not mark.special:
            start = max(mark.start, place)
            pieces.append((shorten(text[place:start]), None))
            place = max(mark.end, place)
        pieces.append((mark.special or shorten(text[mark.start : mark.end]), mark))
    pieces.append((shorten(text[place:]), None))
    return ShadedText(pieces, kind, direction(text), ending)


def css_class(mark: Mark, kind: str) -> str:
    """The classes of a marked stretch in the style sheet."""
    shades = "weight" if kind == "weight" else "for" if mark.strength > 0 else "against"
    return f"mark{f' {shades}' if abs(mark.strength) >= FAINTEST else ''}{' special' if mark.special else ''}"
