"""Texts as users hand them over: lists, columns of tables, streams."""

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import numpy as np

from amsdff_jax.base.errors import UserError
from amsdff_jax.data.chunks import Pause
from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.data.rows import plain, table_columns

Text = str | tuple[str, str]
Tag = TypeVar("Tag")


def numbered(texts: Iterable[Text]) -> Iterator[tuple[int, Text]]:
    """Each text with its place, from 0.

    Args:
      texts: a list, a column of pandas, Polars, PyArrow or NumPy, or anything else that gives one text after the
        other in an order of its own.

    Raises:
      UserError: a single text, a whole table, or what has no order; a missing text, once it is reached.
    """
    if isinstance(texts, str):
        raise UserError(f"expected a list of texts, got one text, {texts[:40]!r}; put it into a list")
    name = type(texts).__name__
    columns = table_columns(texts)
    if columns is not None:
        listing = ", ".join(map(repr, columns[:5]))
        raise UserError(f"expected a list of texts, got a {name} of {listing}; give its column of texts")
    if isinstance(texts, (set, frozenset)):
        raise UserError(f"expected a list of texts, got a {name}, which has no order; put it into a list")
    if isinstance(texts, (bytes, bytearray, memoryview)):
        raise UserError(f"expected a list of texts, got {name}; decode it, and put the text into a list")
    try:
        items = iter(texts)
    except TypeError:
        raise UserError(f"expected a list of texts, got {repr(texts)[:80]}") from None
    return _numbered(items)


def _numbered(items: Iterator[Any]) -> Iterator[tuple[int, Any]]:
    for place, text in enumerate(items):
        text = plain(text)
        if text is None:  # which in a record stands for a text that could not be read
            raise UserError(f"texts[{place}]: expected a string, got None")
        yield place, text


def checked(
    items: Iterable[tuple[Tag, Text | None] | Pause], reads_pairs: bool | None
) -> Iterator[tuple[Tag, Text | None] | Pause]:
    """The same items.

    Args:
      items: each with a text, or None in the place of one.
      reads_pairs: whether texts must be pairs; None: as the first one is.

    Raises:
      UserError: something that is no text, once it is reached.
    """
    place = 0
    why = "as the texts before it" if reads_pairs is None else "as the model was trained on"
    for item in items:
        if not isinstance(item, Pause):
            text = item[1]
            if text is not None:
                pairs = is_pair(text) if reads_pairs is None else reads_pairs
                if not (is_pair(text) if pairs else isinstance(text, str)):
                    expected = f"a tuple of two strings, {why}" if pairs else "a string"
                    raise UserError(f"texts[{place}]: expected {expected}, got {repr(text)[:80]}")
                reads_pairs = pairs
            place += 1
        yield item


def is_pair(text: Any) -> bool:
    """Whether `text` is a tuple of two strings."""
    return isinstance(text, tuple) and len(text) == 2 and all(isinstance(part, str) for part in text)


def characters(text: Text | None) -> int:
    """Roughly what a text takes in memory."""
    return 1 if text is None else len(text) if isinstance(text, str) else sum(map(len, text))


def unlabelled(texts: list[Text], class_names: tuple[str, ...]) -> TextDataset:
    """A dataset of texts, or of pairs, whose labels mean nothing."""
    labels = np.zeros(len(texts), np.int32)
    pairs = [text for text in texts if not isinstance(text, str)]
    if pairs:
        return TextDataset([first for first, _ in pairs], labels, class_names, [second for _, second in pairs])
    return TextDataset([text for text in texts if isinstance(text, str)], labels, class_names)
