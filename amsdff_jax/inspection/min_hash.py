"""MinHash: which of many texts may be alike, without comparing every one with every other.

Broder, "On the resemblance and containment of documents", 1997; banding as in Leskovec, Rajaraman
and Ullman, "Mining of Massive Datasets", chapter 3.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

SHINGLE = 5  # characters
HASHES = 128  # at most, in a signature
WINDOW = 32  # texts of one bucket that each is paired with, on either side
_CHUNK = 1 << 18  # characters hashed at a time, which stay in the processor's cache


class Banding(NamedTuple):
    """A signature of `bands * rows` hashes. Texts are candidates where all rows of a band are equal."""

    bands: int
    rows: int

    def recall(self, similarity: float) -> float:
        """The probability that two texts of this Jaccard similarity become candidates."""
        return 1 - (1 - similarity**self.rows) ** self.bands


def choose_banding(similarity: float, recall: float = 0.999) -> Banding:
    """The banding with the fewest false candidates that finds pairs of `similarity` with probability `recall`."""
    choices = (Banding(HASHES // rows, rows) for rows in range(HASHES, 0, -1))
    return next(choice for choice in choices if choice.recall(similarity) >= recall)


def hash_shingles(texts: Sequence[str], salt: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Hashes every run of `SHINGLE` characters; a shorter text is a single, filled-up run.

    Args:
      texts: N texts.
      salt: hashes under different salts have nothing in common.

    Returns:
      [T] uint64, the hashes of all texts one after the other, repetitions included, and [N+1] where
      each text begins.
    """
    padded = [text.ljust(SHINGLE, "\0") for text in texts]
    letters = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    ends = np.cumsum([len(text) for text in padded])
    hashes = np.full(len(letters) - SHINGLE + 1, salt, np.uint64)
    for place in range(SHINGLE):
        hashes *= np.uint64(0x9E3779B97F4A7C15)
        hashes += letters[place : place + len(hashes)]
    # splitmix64's finalizer: all bits of the run decide about all bits of the hash.
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        hashes ^= hashes >> np.uint64(shift)
        hashes *= np.uint64(factor)
    hashes ^= hashes >> np.uint64(31)
    inside = np.ones(len(hashes), bool)
    for place in range(1, SHINGLE):  # runs that begin in one text and end in the next
        inside[ends[:-1] - place] = False
    offsets = np.concatenate([[0], ends - (SHINGLE - 1) * np.arange(1, len(ends) + 1)])
    return hashes[inside], offsets


def signatures(texts: Sequence[str], banding: Banding, salt: int = 0) -> np.ndarray:
    """MinHash signatures: two texts agree at a place with the probability of their Jaccard similarity.

    Returns:
      [N, bands * rows] uint32.
    """
    random = np.random.default_rng(0)
    number = banding.bands * banding.rows
    factors = random.integers(0, 1 << 63, number, np.uint64) * np.uint64(2) + np.uint64(1)
    summands = random.integers(0, 1 << 63, number, np.uint64)
    result = np.empty((len(texts), number), np.uint32)
    for rows in _chunks(texts):
        hashes, offsets = hash_shingles(texts[rows], salt)
        mixed = np.empty_like(hashes)
        for column, (factor, summand) in enumerate(zip(factors, summands, strict=True)):
            np.multiply(hashes, factor, out=mixed)
            mixed += summand
            result[rows, column] = np.minimum.reduceat(mixed, offsets[:-1]) >> np.uint64(32)
    return result


def candidate_pairs(signatures: np.ndarray, banding: Banding) -> Iterator[np.ndarray]:
    """Pairs of texts that share a band, band by band; a pair that shares several comes again.

    Where more than `WINDOW` texts share a band, each is paired with `WINDOW` on either side in an order
    that is another in every band, so that the number of pairs grows with the number of texts only.

    Yields:
      [P,2] int, at most `WINDOW * N` pairs at a time.
    """
    random = np.random.default_rng(0)
    factors = random.integers(0, 1 << 63, banding.rows, np.uint64) * np.uint64(2) + np.uint64(1)
    for band in range(banding.bands):
        rows = signatures[:, band * banding.rows : (band + 1) * banding.rows].astype(np.uint64)
        _, bucket = np.unique(rows @ factors, return_inverse=True)
        order = np.lexsort([random.permutation(len(bucket)), bucket])
        bucket = bucket[order]
        pairs = []
        for distance in range(1, min(WINDOW + 1, len(bucket))):
            together = np.flatnonzero(bucket[:-distance] == bucket[distance:])
            if not len(together):
                break
            pairs.append(np.stack([order[together], order[together + distance]], axis=1))
        if pairs:
            yield np.concatenate(pairs)


def jaccard(one: np.ndarray, other: np.ndarray) -> float:
    """The share of two sets' elements that both have, each a rising array without repetitions."""
    common = len(np.intersect1d(one, other, assume_unique=True))
    return common / (len(one) + len(other) - common)


def _chunks(texts: Sequence[str]) -> Iterator[slice]:
    start = letters = 0
    for index, text in enumerate(texts):
        if letters and letters + len(text) > _CHUNK:
            yield slice(start, index)
            start, letters = index, 0
        letters += len(text)
    if start < len(texts):
        yield slice(start, len(texts))
