"""Turns formulas into MathML while the pages are built: browsers show it without a script, so without a network too."""

import html
import re

from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError

# What pymdownx.arithmatex leaves in the page: \(…\) in a line, \[…\] by itself.
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.+?)\\[)\]]</\1>', re.DOTALL)


def on_page_content(content, page, **_):
    """Replaces every formula of a page."""
    return FORMULA.sub(lambda found: _mathml(found, page.file.src_uri), content)


def _mathml(found: re.Match, page: str) -> str:
    tag, latex = found[1], html.unescape(found[2]).strip()
    math = convert(latex, display="block" if tag == "div" else "inline")
    if "\\" in math:  # a command that latex2mathml does not know stays as it was written
        raise PluginError(f"{page}: not all of the formula {latex} could be turned into MathML")
    return f'<{tag} class="formula">{math}</{tag}>'
