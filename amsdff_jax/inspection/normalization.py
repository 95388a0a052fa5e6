"""The forms in which texts are compared."""

import re
import unicodedata

_NOT_WORDS = re.compile(r"[\W_]+")


def normalize(text: str) -> str:
    """The form in which texts count as the same: Unicode NFKC, case folded, whitespace as single spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def words_only(normalized: str) -> str:
    """A normalized text without punctuation and symbols; one that is nothing else stays as it is."""
    return _NOT_WORDS.sub(" ", normalized).strip() or normalized
