"""Texts as token ids: all in memory, or made when a batch needs them."""

import dataclasses
import hashlib
import itertools
from collections.abc import Callable, Iterable
from typing import TypeAlias

import numpy as np


@dataclasses.dataclass(frozen=True)
class TokenizedDataset:
    """Token ids of N texts, end to end.

    Attributes:
      token_ids: [T] int32, all texts one after the other.
      offsets: [N+1] int64; text i is `token_ids[offsets[i]:offsets[i + 1]]`, at least one token.
      labels: as of `TextDataset`.
      truncated: [N] bool, whether the text was truncated to the maximal length.
      pad_token_id: what fills a row up.
    """

    token_ids: np.ndarray
    offsets: np.ndarray
    labels: np.ndarray
    truncated: np.ndarray
    pad_token_id: int

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def lengths(self) -> np.ndarray:
        """[N] int64, tokens of each text, special ones included."""
        return np.diff(self.offsets)

    @property
    def fingerprint(self) -> str:
        """A digest of tokens and labels: the same texts through the same tokenizer have the same."""
        return fingerprint([self.token_ids], self.offsets, self.labels)

    def select(self, rows: np.ndarray) -> "TokenizedDataset":
        """The texts in `rows` [n], in that order; none is fine."""
        ranges = zip(self.offsets[rows], self.offsets[rows + 1], strict=True)
        pieces = [self.token_ids[first:last] for first, last in ranges]
        return TokenizedDataset(
            token_ids=np.concatenate(pieces) if pieces else self.token_ids[:0],
            offsets=np.cumsum([0, *map(len, pieces)], dtype=np.int64),
            labels=self.labels[rows],
            truncated=self.truncated[rows],
            pad_token_id=self.pad_token_id,
        )


@dataclasses.dataclass(frozen=True)
class TokensOnDemand:
    """N texts whose lengths are known, and whose tokens are made anew for every batch.

    Attributes:
      lengths: [N] int64, tokens of each text, special ones included.
      labels: as of `TokenizedDataset`.
      truncated: [N] bool, whether the text is truncated to the maximal length.
      pad_token_id: what fills a row up.
      fingerprint: as `TokenizedDataset` has it for the same texts.
      select: makes the texts in some rows [n], in that order; none is fine.
    """

    lengths: np.ndarray
    labels: np.ndarray
    truncated: np.ndarray
    pad_token_id: int
    fingerprint: str
    select: Callable[[np.ndarray], TokenizedDataset]

    def __len__(self) -> int:
        return len(self.labels)


Tokens: TypeAlias = TokenizedDataset | TokensOnDemand


def fingerprint(token_ids: Iterable[np.ndarray], offsets: np.ndarray, labels: np.ndarray) -> str:
    """`TokenizedDataset.fingerprint` of tokens that come in pieces."""
    digest = hashlib.blake2b(digest_size=16)
    for numbers in itertools.chain(token_ids, (offsets, labels)):
        digest.update(np.ascontiguousarray(numbers).data)
    return digest.hexdigest()
