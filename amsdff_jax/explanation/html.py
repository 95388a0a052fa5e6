"""Pieces of HTML: escaped text, numbers, tables with bars, text with marked stretches."""

import html
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from amsdff_jax.base.escaping import shorten

# What would be invisible, change the direction of all that follows, or is no character at all.
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)


class Mark(NamedTuple):
    """A stretch of a text that is shaded.

    Attributes:
      start, end: its characters.
      strength: shade, from -1 (against) to 1.
      title: what it says when pointed at.
      number: shown behind it; "": none.
      special: shown in place of the characters, for a token that stands for none; "": the characters.
    """

    start: int
    end: int
    strength: float
    title: str
    number: str = ""
    special: str = ""


def escape(text: str) -> str:
    """Text as HTML, for elements and attributes, with the invisible made visible."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return html.escape(_CONTROLS.sub(_control_picture, text))


def _control_picture(match: re.Match) -> str:
    code = ord(match[0])
    return chr(0x2400 + code) if code < 0x20 else f"[U+{code:04X}]"


def name(text: str) -> str:
    """A name as HTML, whose direction does not reach what stands around it."""
    return f"<bdi>{escape(text)}</bdi>"


def direction(text: str) -> str:
    """The direction of the first letter that has one, as `dir` takes it: "rtl" or "ltr"."""
    kinds = (unicodedata.bidirectional(letter) for letter in text)
    first = next((kind for kind in kinds if kind in ("L", "R", "AL")), "L")
    return "ltr" if first == "L" else "rtl"


def marked_text(text: str, marks: Iterable[Mark], kind: str, ending: str = "") -> str:
    """A text with shaded stretches.

    Args:
      text: as far as it is to be shown.
      marks: from the beginning to the end.
      kind: "signed" (for and against) or "weight".
      ending: HTML behind it.
    """
    pieces, place = [], 0
    for mark in marks:
        if not mark.special:
            start = max(mark.start, place)
            pieces.append(escape(shorten(text[place:start])))
            place = max(mark.end, place)
        pieces.append(_marked(mark, text[mark.start : mark.end], kind))
    pieces.append(escape(shorten(text[place:])))
    return f'<div class="text" lang="" dir="{direction(text)}">{"".join(pieces)}{ending}</div>'


def _marked(mark: Mark, text: str, kind: str) -> str:
    classes = ["mark"]
    if abs(mark.strength) >= 0.02:
        classes.append("weight" if kind == "weight" else "for" if mark.strength > 0 else "against")
    if mark.special:
        classes.append("special")
    number = f'<small dir="ltr">{escape(mark.number)}</small>' if mark.number else ""
    shown = escape(mark.special or shorten(text))
    return (
        f'<span class="{" ".join(classes)}" style="--strength:{abs(mark.strength):.3f}" title="{escape(mark.title)}">'
        f"{shown}{number}</span>"
    )


def signed(value: float) -> str:
    """A number with three decimals and its sign."""
    return f"{value:+.3f}".replace("-", "−")


def percent(share: float) -> str:
    """A share in percent, never rounded to 0 or 100 unless it is so."""
    if 0 < share < 0.001:
        return "< 0.1 %"
    if 0.999 < share < 1:
        return "> 99.9 %"
    return f"{100 * share:.1f} %"


def bar(value: float, largest: float, kind: str) -> str:
    """A bar of `value` out of `largest`; "signed" ones go both ways from the middle."""
    share = max(-1.0, min(1.0, value / largest)) if largest > 0 else 0.0
    if kind == "weight":
        shapes, box = f'<rect class="weight-bar" x="0" y="1" width="{100 * abs(share):.1f}" height="8"/>', "0 0 100 10"
    else:
        width = 50 * abs(share)
        left, colour = (0, "for-bar") if share >= 0 else (-width, "against-bar")
        shapes = f'<rect class="{colour}" x="{left:.1f}" y="1" width="{width:.1f}" height="8"/>'
        shapes, box = f'{shapes}<line x1="0" y1="0" x2="0" y2="10" stroke-width=".5"/>', "-50 0 100 10"
    return f'<svg viewBox="{box}" preserveAspectRatio="none" aria-hidden="true" focusable="false">{shapes}</svg>'


def table(caption: str, header: Sequence[str], rows: Iterable[Sequence[str]], kinds: str) -> str:
    """A table of cells that are HTML already; the first of a row is its heading.

    Args:
      kinds: a letter for every column: `t`ext, `n`umber or `b`ar.
    """
    classes = {"t": "", "n": ' class="number"', "b": ' class="bar"'}
    head = "".join(f'<th scope="col"{classes[kind]}>{cell}</th>' for cell, kind in zip(header, kinds, strict=True))
    body = "".join(
        f'<tr><th scope="row">{first}</th>'
        + "".join(f"<td{classes[kind]}>{cell}</td>" for cell, kind in zip(rest, kinds[1:], strict=True))
        + "</tr>"
        for first, *rest in rows
    )
    caption = f"<caption>{caption}</caption>" if caption else ""
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
