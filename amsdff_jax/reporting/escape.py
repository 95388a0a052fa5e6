"""Text that others have written, made safe for HTML and Markdown, and the ways in which numbers are written."""

import re
import unicodedata

from amsdff_jax.base.escaping import printable

# What would be invisible, change the direction of all that follows, or is no character at all.
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)
# What Markdown gives a meaning anywhere in a line; an underscore between letters or digits has none.
_MARKDOWN = re.compile(r"[\\`*\[\]<>|$~&#]|(?<![^\W_])_|_(?![^\W_])")
_MARKDOWN_START = re.compile(r"^(?:[-+=]|\d+(?=[.)](?:\s|$)))")  # a list, an underlined heading


def visible(text: str) -> str:
    """The text with a picture or a code such as [U+202E] for what is invisible; templates of HTML escape the rest."""
    return _CONTROLS.sub(_control_picture, text.replace("\r\n", "\n").replace("\r", "\n"))


def _control_picture(match: re.Match) -> str:
    code = ord(match[0])
    return chr(0x2400 + code) if code < 0x20 else f"[U+{code:04X}]"


def direction(text: str) -> str:
    """The direction of the first letter that has one, as the attribute `dir` of HTML takes it: "rtl" or "ltr"."""
    kinds = (unicodedata.bidirectional(letter) for letter in text)
    first = next((kind for kind in kinds if kind in ("L", "R", "AL")), "L")
    return "ltr" if first == "L" else "rtl"


def escape_markdown(text: str) -> str:
    """The printable text in one line of Markdown, in a table or out of it."""
    text = _MARKDOWN.sub(r"\\\g<0>", printable(" ".join(text.split())))
    return _MARKDOWN_START.sub(lambda match: f"{match[0]}\\" if match[0][0].isdigit() else f"\\{match[0]}", text)


def markdown_code(text: str) -> str:
    """The printable text as code in a cell of a Markdown table, where a | has to be escaped even in code."""
    text = printable(" ".join(text.split())).replace("|", "\\|")
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    space = " " if len(fence) > 1 else ""
    return f"{fence}{space}{text}{space}{fence}"


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


def plural(number: int, noun: str) -> str:
    """A number of things, such as "1 text" and "1,200 texts"."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
