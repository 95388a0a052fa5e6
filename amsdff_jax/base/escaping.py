"""Text that others have written, made safe for where it is shown: terminals, HTML, Markdown, spreadsheets."""

import html
import re

# What Markdown gives a meaning anywhere in a line; an underscore between letters or digits has none.
_MARKDOWN = re.compile(r"[\\`*\[\]<>|$~&#]|(?<![^\W_])_|_(?![^\W_])")
_MARKDOWN_START = re.compile(r"^(?:[-+=]|\d+(?=[.)]))")  # a list, an underlined heading

# What a spreadsheet takes for the beginning of a formula, and wide forms of the same (after OWASP, "CSV Injection").
_FORMULA_STARTS = tuple("=+-@\t\r\n＝＋－＠")
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?")


def printable(text: str) -> str:
    r"""The text with what cannot be seen, or harms a terminal, as an escape such as \x1b or \u202e."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def shorten(text: str, longest: int = 60) -> str:
    """The text, or its beginning and end around a … if it has more than `longest` characters."""
    return text if len(text) <= longest else f"{text[: longest // 2]}…{text[-(longest // 3) :]}"


def escape_html(text: str) -> str:
    """The printable text for elements and attributes of HTML."""
    return html.escape(printable(text))


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


def spreadsheet_cell(text: str) -> str:
    """The text, behind an apostrophe if a spreadsheet would compute it; a plain number is left as it is."""
    return f"'{text}" if text.startswith(_FORMULA_STARTS) and not _NUMBER.fullmatch(text) else text
