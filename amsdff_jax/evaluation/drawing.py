"""Draws pictures in which names are shown as they are, and which nothing else depends on."""

import functools
import logging
import unicodedata
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from matplotlib import font_manager, style
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font

from amsdff_jax.base.escaping import printable, shorten
from amsdff_jax.base.files import atomic_write

logger = logging.getLogger(__name__)

LONGEST_NAME = 32  # letters, so that the names leave room for what they name
SHORT_NAME = 10  # columns that a figure has room for anyhow

FONT = "DejaVu Sans"  # comes with matplotlib


def draw(file: Path, names: Iterable[str], plot: Callable[..., Figure], *arguments: Any) -> None:
    """Draws a picture into a PNG file; one that fails is a line in the log, and no file.

    Args:
      file: what it is written to.
      names: all that come from data or settings; for their letters fonts are looked for.
      plot: makes the figure of `arguments`. What it writes is plain text, and looks the same whatever matplotlib's
        settings on this machine are.
    """
    try:
        fonts = _find_fonts(frozenset("".join(map(picture_name, names))))
        plain = {"text.parse_math": False, "font.family": list(fonts)}
        with style.context(["default", plain]), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)  # told once, by `_find_fonts`
            with atomic_write(file) as temporary:
                plot(*arguments).savefig(temporary, format="png", dpi=120)
    except Exception as error:  # whatever it is, the numbers are worth more than their picture
        logger.warning("%s: this picture cannot be drawn (%s: %s)", file, type(error).__name__, error)
        if file.is_file():
            file.unlink()  # an older picture


def picture_name(name: str) -> str:
    """A name as a picture shows it: printable, and not too long."""
    return shorten(printable(name), LONGEST_NAME)


def room_for(names: Iterable[str], size: float) -> float:
    """The inches that the longest of some names, as `picture_name` has it, takes beyond short ones.

    Args:
      size: of the font, in points.
    """
    longest = max((_columns(picture_name(name)) for name in names), default=0)
    return max(0, longest - SHORT_NAME) * 0.6 * size / 72


def _columns(text: str) -> int:
    return sum(1 + (unicodedata.east_asian_width(letter) in "WF") for letter in text)


@functools.lru_cache(maxsize=16)
def _find_fonts(letters: frozenset[str]) -> tuple[str, ...]:
    """`FONT`, and installed fonts that have the letters which it lacks, as far as there are any."""
    fonts = [FONT]
    missing = set(map(ord, letters)) - FT2Font(font_manager.findfont(FONT)).get_charmap().keys()
    # Not those that matplotlib knows: its list may be older than a font.
    files = font_manager.findSystemFonts() if missing else []
    for file in sorted(files, key=lambda file: ("regular" not in file.lower(), file)):
        if not missing:
            break
        try:
            font = FT2Font(file)
            found = missing & font.get_charmap().keys() if font.scalable else ()
            if found:
                font_manager.fontManager.addfont(file)
                fonts.append(font.family_name)
                missing -= found
        except (OSError, RuntimeError):  # a font of a kind that cannot be drawn
            continue
    if missing:
        some = "".join(map(chr, sorted(missing)[:10]))
        logger.warning("no installed font has the letters %s, which pictures show as boxes", some)
    return tuple(fonts)
