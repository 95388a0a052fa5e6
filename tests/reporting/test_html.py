"""Pieces of pages: what is invisible is shown, what has a direction keeps it to itself, and nothing is markup."""

from html.parser import HTMLParser

import pytest

from amsdff_jax.reporting.escape import direction, percent, plural, signed, visible
from amsdff_jax.reporting.render import environment
from amsdff_jax.reporting.shading import Mark, css_class, shade
from amsdff_jax.reporting.table import Column, Table, columns


class Reader(HTMLParser):
    """Attributes:
    elements: (name, attributes) of all, which must nest.
    content: all text.
    """

    def __init__(self, page: str):
        super().__init__()
        self.elements, self.content, self._open = [], "", []
        self.feed(page)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.content += data


def fill(source: str, **facts) -> Reader:
    """A template of HTML that may use the macros."""
    html = environment().overlay(autoescape=True)
    macros = '{% from "macros.html.j2" import table, shaded_text, histogram %}'
    return Reader(html.from_string(macros + source).render(facts))


def test_every_string_is_escaped_and_the_invisible_shown():
    page = fill('<p title="{{ text }}">{{ text }}</p>', text="</p><script>\u202e\"'&\x00\r\n\ud800")
    assert page.content == "</p><script>[U+202E]\"'&␀\n[U+D800]" == page.elements[0][1]["title"]
    assert [name for name, _ in page.elements] == ["p"]


def test_invisible_letters_and_directions():
    assert visible("a\r\nb\x00\u202e<") == "a\nb␀[U+202E]<"
    assert [direction(text) for text in ("1 abc שלום", "1 שלום abc", "123", "سلام")] == ["ltr", "rtl", "ltr", "rtl"]


def test_numbers():
    assert [percent(share) for share in (0, 1e-5, 0.123, 0.99999, 1)] == [
        "0.0 %",
        "< 0.1 %",
        "12.3 %",
        "> 99.9 %",
        "100.0 %",
    ]
    assert signed(-0.1234) == "−0.123"
    assert [plural(number, "text") for number in (0, 1, 1200)] == ["0 texts", "1 text", "1,200 texts"]


def test_shaded_texts():
    marks = [Mark(0, 2, -1.0, "first"), Mark(3, 5, 0.5, "<second>", "+1")]
    page = fill("{{ shaded_text(facts) }}", facts=shade("ab cd", marks, "signed"))
    assert page.content == "ab cd+1"
    spans = [attributes for name, attributes in page.elements if name == "span" and "title" in attributes]
    assert [span["class"] for span in spans] == ["mark against", "mark for"]
    assert [span["title"] for span in spans] == ["first", "<second>"]
    assert css_class(Mark(0, 0, 0.5, "", special="[CLS]"), "weight") == "mark weight special"
    assert css_class(Mark(0, 0, 0.01, ""), "signed") == "mark"


@pytest.mark.parametrize(
    ("unread", "expected"),
    [
        ((0, 0), "abc def g"),
        ((3, 7), "abc … 4 more characters …  g"),
        ((8, 9), "abc def  … 1 more characters"),
        ((0, 1), " … 1 more characters … bc def g"),
    ],
)
def test_characters_that_are_not_shown_are_counted(unread, expected):
    marks = [Mark(1, 3, 0.1, "bc")] if unread[1] == 9 else [Mark(1, 3, 0.1, "bc"), Mark(8, 9, 0.1, "g")]
    assert "".join(text for text, _ in shade("abc def g", marks, "weight", unread).pieces) == expected


def test_tables_have_headings_bars_and_pieces_with_directions_of_their_own():
    titles = [*columns("<b>name", "number"), Column("", "signed"), Column("", "weight")]
    facts = Table(titles, [("<i>", "1", -0.5, 0.25), (("a", " & b"), "2", 7.0, 0.0)], chosen=1)
    page = fill("{{ table(facts, 'caption') }}", facts=facts)
    assert "caption" in page.content and "<b>name" in page.content and "<i>" in page.content
    rows = [attributes for name, attributes in page.elements if name == "tr"]
    assert rows == [{}, {}, {"class": "chosen"}]
    assert len([name for name, _ in page.elements if name == "bdi"]) == 3
    bars = [attributes for name, attributes in page.elements if name == "rect"]
    assert [(bar["class"], bar["x"], bar["width"]) for bar in bars] == [
        ("against-bar", "-25.0", "25.0"),
        ("weight-bar", "0", "25.0"),
        ("for-bar", "0.0", "50.0"),
        ("weight-bar", "0", "0.0"),
    ]


@pytest.mark.parametrize("place", [0.2, 0.9])
def test_the_name_of_a_limit_stays_in_the_histogram(place):
    facts = {
        "bars": [(0.5, "one"), (0.0, "none"), (1.0, "<two>")],
        "ticks": [(0.0, "0")],
        "highest": "9 %",
        "limit": (place, "limit"),
    }
    page = fill("{{ histogram(facts, 'label') }}", facts=facts)
    assert len([name for name, _ in page.elements if name == "rect"]) == 2 and "<two>" in page.content
    (text,) = [attributes for name, attributes in page.elements if attributes.get("class") == "limit-name"]
    assert text["text-anchor"] == ("start" if place < 0.5 else "end")
