"""Windows of long texts: how a text is divided, and what training reads of one that has many."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from amsdff_jax.base.validation import require
from amsdff_jax.data.tokens import TokenizedDataset, Tokens, TokensOnDemand

EXCERPTS = 1  # beside a seed, so that the order of the texts is drawn from other numbers


@dataclasses.dataclass(frozen=True)
class Windows:
    """How a text of more tokens than the encoder reads at a time is divided (`data.long_texts=windows`).

    Window k has the text's special tokens around `capacity` of its other tokens, from number k * `step` on; the last
    window may have fewer.

    Attributes:
      size: tokens of a window, special ones included: `data.max_length`.
      overlap: tokens that two neighbours share: `data.window_overlap`.
      prefix: special tokens at the beginning of every text.
      suffix: and at its end.
    """

    size: int
    overlap: int
    prefix: int
    suffix: int

    def __post_init__(self) -> None:
        require(min(self.prefix, self.suffix) >= 0, "special tokens", (self.prefix, self.suffix), "0 or more")
        special = self.prefix + self.suffix
        require(self.capacity > 0, "data.max_length", self.size, f"more than the {special} special tokens of a text")
        half = self.capacity // 2  # so that no token is in three windows
        expected = f"from 0 to {half}, half of the {self.capacity} tokens of a window that are not special"
        require(0 <= self.overlap <= half, "data.window_overlap", self.overlap, expected)

    @property
    def capacity(self) -> int:
        """Tokens of a window that are not special."""
        return self.size - self.prefix - self.suffix

    @property
    def step(self) -> int:
        """How many tokens further each window begins."""
        return self.capacity - self.overlap

    def number(self, lengths: Any) -> Any:
        """Windows of texts of so many tokens, special ones included: of an int, or of an array of NumPy or JAX."""
        following = -(-(lengths - self.size) // self.step)
        return 1 + following * (following > 0)

    def length(self, number: Any) -> Any:
        """Tokens of the longest text that `number` windows hold."""
        return self.size + (number - 1) * self.step

    def spans(self, length: int) -> tuple[tuple[int, int], ...]:
        """Which tokens of a text of `length` each window has, special ones left out: the first, and behind the last."""
        firsts = (self.prefix + number * self.step for number in range(self.number(length)))
        return tuple((first, min(first + self.capacity, length - self.suffix)) for first in firsts)

    def buckets(self, longest: int) -> tuple[int, ...]:
        """Padded lengths, of 2, 3, 4, 6, 8, 12, 16, ... windows, for texts of more than `size` tokens up to `longest`.

        So few that a text of any length is soon compiled for, and so many that about half of a row at most is padding,
        and of texts of many windows a third.
        """
        numbers = itertools.chain.from_iterable((2 << power, 3 << power) for power in itertools.count())
        lengths = [self.size]
        while lengths[-1] < longest:
            lengths.append(self.length(next(numbers)))
        return tuple(lengths[1:])


def excerpts(tokens: Tokens, windows: Windows, most: int, seed: Sequence[int]) -> Tokens:
    """What one epoch reads of texts: all of most of them, and `most` windows side by side of one that has more.

    Where the excerpt of a text begins depends on `seed` and the text's number alone: it is drawn from the beginnings of
    its windows, and the last place from which there are so many tokens.

    Args:
      tokens: whole texts.
      seed: such as (seed, epoch).
    """
    longest = windows.length(most)
    left_out = np.maximum(tokens.lengths - longest, 0)  # [N] tokens
    if not left_out.any():
        return tokens
    draws = np.random.default_rng([*seed, EXCERPTS]).random(len(tokens))
    beginnings = 1 - (-left_out // windows.step)
    first = np.minimum((draws * beginnings).astype(int) * windows.step, left_out)  # [N] of those left out in front

    def select(rows: np.ndarray) -> TokenizedDataset:
        texts = tokens.select(rows)
        kept = np.ones(len(texts.token_ids), bool)
        for start, end, front, both in zip(texts.offsets, texts.offsets[1:], first[rows], left_out[rows], strict=False):
            begin, end = start + windows.prefix, end - windows.suffix
            kept[begin : begin + front] = kept[end - (both - front) : end] = False
        offsets = np.cumsum([0, *(texts.lengths - left_out[rows])], dtype=np.int64)
        return dataclasses.replace(texts, token_ids=texts.token_ids[kept], offsets=offsets)

    lengths = np.minimum(tokens.lengths, longest)
    fingerprint = ""  # which tells whole texts apart, and takes a while
    return TokensOnDemand(lengths, tokens.labels, tokens.truncated, tokens.pad_token_id, fingerprint, select)
