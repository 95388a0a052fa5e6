"""Which texts are the same, and the forms in which they are compared."""

import hashlib
import re
import unicodedata

import numpy as np

from amsdff_jax.inspection.corpus import Corpus

NONE = -1
_NOT_WORDS = re.compile(r"[\W_]+")


def normalize(text: str) -> str:
    """The form in which texts count as the same: Unicode NFKC, case folded, whitespace as single spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def words_only(normalized: str) -> str:
    """A normalized text without punctuation and symbols; one that is nothing else stays as it is."""
    return _NOT_WORDS.sub(" ", normalized).strip() or normalized


class DistinctTexts:
    """The G different texts among the N of a corpus, the same being those that `normalize` makes equal.

    Empty texts are left out.

    Attributes:
      number_of: [N] int, from 0 to G - 1, which different text each is; `NONE` for empty ones.
      first: [G,S] int, its first text in each split, or `NONE`.
      representative: [G] int, its first text in all.
      labels: [G] int, its label; `NONE` if it has several.
    """

    def __init__(self, corpus: Corpus):
        numbers: dict[bytes, int] = {}
        self.number_of = np.full(len(corpus), NONE)
        for index in range(len(corpus)):
            parts = [normalize(part) for part in corpus.parts(index)]
            if any(parts):
                content = "\n".join(parts).encode("utf-8", "surrogatepass")  # a normalized text has no newline
                digest = hashlib.blake2b(content, digest_size=16).digest()
                self.number_of[index] = numbers.setdefault(digest, len(numbers))
        kept = np.flatnonzero(self.number_of != NONE)[::-1]  # backwards: of several assignments the last one holds
        number = self.number_of[kept]
        self.first = np.full((len(numbers), len(corpus.names)), NONE)
        self.first[number, corpus.split_of[kept]] = kept
        self.representative = np.full(len(numbers), NONE)
        self.representative[number] = kept
        self.labels = corpus.labels[self.representative].copy()
        self.labels[number[self.labels[number] != corpus.labels[kept]]] = NONE

    def __len__(self) -> int:
        return len(self.representative)
