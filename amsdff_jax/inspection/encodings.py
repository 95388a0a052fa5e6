"""Texts that are empty or that something has gone wrong with on their way through files and programs."""

import dataclasses
import html.entities
import re
import unicodedata
from collections.abc import Callable
from typing import NamedTuple

from ftfy.badness import BADNESS_RE

from amsdff_jax.inspection.corpus import Corpus, Sample

EXAMPLES = 5

_ENTITY = re.compile(
    r"&#\d{1,7};|&#x[0-9a-f]{1,6};|&(?P<name>[a-z]\w{1,30};)"
    r"|(?<![&\w])(?:#\d{2,5}|quot|amp|lt|gt|nbsp|apos);",  # the rest of one whose & was lost
    re.IGNORECASE,
)
_TAG_NAMES = (
    "a|abbr|b|blockquote|body|br|center|code|div|em|font|h[1-6]|head|hr|html|i|iframe|img|li|ol|p|pre|script|small|"
    "span|strong|style|sub|sup|table|tbody|td|th|tr|u|ul"
)
_TAG = re.compile(rf"</?(?:{_TAG_NAMES})(?:\s+[\w:-]+\s*=[^<>]{{0,1000}}|\s*/?)>", re.IGNORECASE)


class Check(NamedTuple):
    """Something odd: `find` gives the place of the first in a text, or None."""

    name: str
    meaning: str
    find: Callable[[str], int | None]


def _first(pattern: str | re.Pattern[str]) -> Callable[[str], int | None]:
    pattern = re.compile(pattern)

    def find(text: str) -> int | None:
        match = pattern.search(text)
        return match.start() if match else None

    return find


def _find_entity(text: str) -> int | None:
    named = (match for match in _ENTITY.finditer(text) if not match["name"] or match["name"] in html.entities.html5)
    return next((match.start() for match in named), None)


def _find_decomposed(text: str) -> int | None:
    if unicodedata.is_normalized("NFC", text):
        return None
    composed = unicodedata.normalize("NFC", text)
    return next((place for place, (one, other) in enumerate(zip(text, composed, strict=False)) if one != other), 0)


CHECKS = (
    Check("empty", "nothing, or nothing but whitespace", lambda text: None if text.strip() else 0),
    Check("replacement characters", "U+FFFD: text was read in the wrong encoding and lost", _first("\ufffd")),
    Check("mojibake", "UTF-8 that was read in another encoding, such as Ã© for é", _first(BADNESS_RE)),
    Check("lone surrogates", "half of a character of UTF-16; no tokenizer takes it", _first("[\ud800-\udfff]")),
    Check("NULs", "U+0000, often from UTF-16 read as bytes", _first("\0")),
    Check("control characters", "other than tab, newline and NUL", _first("[\x01-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")),
    Check(
        "invisible characters",
        "zero-width space, word joiner, byte order mark or soft hyphen",
        _first("[\u200b\u2060\ufeff\u00ad]"),
    ),
    Check("HTML entities", "such as &amp;, or what is left of one, such as #39;", _find_entity),
    Check("HTML tags", "such as <br />", _first(_TAG)),
    Check("decomposed letters", "letters and accents apart, where Unicode NFC has them in one", _find_decomposed),
)
_POSSIBLE_IN_ASCII = {"empty", "NULs", "control characters", "HTML entities", "HTML tags"}


@dataclasses.dataclass(frozen=True)
class TextIssue:
    """What one check finds in one split: `texts` of them, with examples that show the place."""

    name: str
    split: str
    texts: int
    examples: tuple[Sample, ...]


def find_text_issues(corpus: Corpus) -> tuple[TextIssue, ...]:
    """All checks that find something, in the order of `CHECKS` and then of the splits."""
    found: dict[tuple[str, str], list[tuple[int, list[int]]]] = {}
    index = 0
    for split, dataset in zip(corpus.names, corpus.datasets, strict=True):
        for _ in range(len(dataset)):
            for name, places in check(corpus.parts(index)).items():
                found.setdefault((name, split), []).append((index, places))
            index += 1
    return tuple(
        TextIssue(one.name, split, len(hits), tuple(corpus.sample(*hit) for hit in hits[:EXAMPLES]))
        for one in CHECKS
        for split in corpus.names
        if (hits := found.get((one.name, split)))
    )


def check(parts: tuple[str, ...]) -> dict[str, list[int]]:
    """The names of the checks that find something in a text or in its pair, and its place in each (0: none)."""
    result = {}
    for one in CHECKS:
        places = [None if part.isascii() and one.name not in _POSSIBLE_IN_ASCII else one.find(part) for part in parts]
        if any(place is not None for place in places):
            result[one.name] = [place or 0 for place in places]
    return result
