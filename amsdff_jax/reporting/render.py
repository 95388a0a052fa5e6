"""Facts in, HTML or Markdown out: the templates lie in `templates/`."""

import functools
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_eval_context
from jinja2.nodes import EvalContext

from amsdff_jax.base.escaping import shorten
from amsdff_jax.reporting import escape
from amsdff_jax.reporting.shading import css_class
from amsdff_jax.reporting.table import Code, to_markdown


def render(template: str, **facts: Any) -> str:
    """Fills a template.

    In HTML every string is escaped, and what is invisible in it shown. In Markdown a text is escaped by the filter
    `md`, or written as code by the filter `code`.

    Args:
      template: name of a file in `templates/`, ending in `.html.j2` or `.md.j2`.
      **facts: what it uses, under the names that it uses.
    """
    return environment().get_template(template).render(facts)


@functools.cache
def environment() -> Environment:
    """What templates have at hand: filters, tests, escaping by the name of the template."""
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=lambda name: name is not None and name.endswith(".html.j2"),
        finalize=_show_invisible,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= {
        "md": escape.escape_markdown,
        "url": quote,
        "code": escape.markdown_code,
        "markdown": to_markdown,
        "direction": escape.direction,
        "percent": escape.percent,
        "signed": escape.signed,
        "plural": escape.plural,
        "shorten": shorten,
        "css_class": css_class,
    }
    made.tests["code"] = lambda cell: isinstance(cell, Code)
    return made


@pass_eval_context
def _show_invisible(context: EvalContext, value: Any) -> Any:
    is_text = isinstance(value, str) and not hasattr(value, "__html__")  # which HTML that is made already has
    return escape.visible(value) if context.autoescape and is_text else value
