"""Names of others are text in Markdown, in a table and out of it."""

import pytest

from amsdff_jax.reporting.escape import escape_markdown, markdown_code
from amsdff_jax.reporting.table import Code, Column, Table, columns, to_markdown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a b_c d2", "a b_c d2"),
        ("a|b\nc", r"a\|b c"),
        ("<b>*x*</b> `y` $z$ [t](u)", r"\<b\>\*x\*\</b\> \`y\` \$z\$ \[t\](u)"),
        ("_x_ &lt; ~~y~~ # z", r"\_x\_ \&lt; \~\~y\~\~ \# z"),
        ("- item", r"\- item"),
        ("1. item", r"1\. item"),
        ("1)", r"1\)"),
        ("1.5 a", "1.5 a"),
        ("a\\|b", r"a\\\|b"),
        ("a\x1b\u202e", r"a\\x1b\\u202e"),
    ],
)
def test_markdown(text, shown):
    assert escape_markdown(text) == shown


def test_code_in_a_markdown_table():
    assert markdown_code("runs/x") == "`runs/x`"
    assert markdown_code("a`b``c|d\ne") == r"``` a`b``c\|d e ```"


def test_tables():
    titles = [*columns("a|b", "n"), Column("", "signed"), Column("more", "text")]
    rows = [("x|y", "-1.0", 0.5, Code("c|d")), (["p", " <q>"], "2", -1, "")]
    assert to_markdown(Table(titles, rows)).splitlines() == [
        r"| a\|b | n | more |",
        "| --- | ---: | --- |",
        r"| x\|y | -1.0 | `c\|d` |",
        r"| p \<q\> | 2 |  |",
    ]
