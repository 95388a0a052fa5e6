"""The same and nearly the same texts, within a split and across splits, and what their labels say."""

import dataclasses
from collections.abc import Iterable

import numpy as np

from amsdff_jax.inspection.corpus import Corpus, Sample
from amsdff_jax.inspection.distinct_texts import NONE, DistinctTexts
from amsdff_jax.inspection.similar_texts import SimilarTexts

EXAMPLES = 10


@dataclasses.dataclass(frozen=True)
class Match:
    """Texts that are alike."""

    similarity: float  # 1 where they are the same
    samples: tuple[Sample, ...]  # two of them, or more


@dataclasses.dataclass(frozen=True)
class Overlap:
    """How many texts of `split` are in `other` as well; where both are one split, how many are there again."""

    split: str
    other: str
    texts: int  # in `split`, all
    exact: int  # of them, the same as one of `other` (of one split: beyond the first of each)
    # of them, nearly the same as one of `other`, and not the same as any (of one split: as another text, whether or
    # not it is there twice too)
    near: int
    exact_examples: tuple[Match, ...]  # some of the exact ones
    near_examples: tuple[Match, ...]  # the most similar of the near ones


@dataclasses.dataclass(frozen=True)
class Conflicts:
    """Texts that stand under several labels."""

    distinct: int  # different texts that do
    texts: int  # all texts that these are
    examples: tuple[Match, ...]  # a text of each label
    near: int  # different texts that are nearly the same as one of another label
    near_examples: tuple[Match, ...]  # the most similar


@dataclasses.dataclass(frozen=True)
class Duplicates:
    """What is found; two texts are nearly the same from `similarity` on."""

    similarity: float  # Jaccard similarity of the sets of 5-character shingles
    recall: float  # the probability that a pair of just that similarity is found; of more similar ones it is higher
    # every split with those before it, the worst to have something in common first (test and training), then every
    # split with itself
    overlaps: tuple[Overlap, ...]
    conflicts: Conflicts


def find_duplicates(corpus: Corpus, similarity: float = 0.8) -> Duplicates:
    """Looks for the same (`DistinctTexts`) and for nearly the same texts (`SimilarTexts`).

    Memory: about 0.6 kB for every different text and twice the texts. Time: linear in all characters.

    Args:
      similarity: Jaccard similarity, 0.6 to 1, from which texts are nearly the same.
    """
    distinct = DistinctTexts(corpus)
    similar = SimilarTexts(corpus, distinct, similarity)
    number = len(corpus.names)
    across = [(split, other) for split in reversed(range(number)) for other in range(split)]
    within = [(split, split) for split in range(number)]
    return Duplicates(
        similarity,
        similar.recall,
        tuple(_overlap(corpus, distinct, similar, *pair) for pair in across + within),
        _conflicts(corpus, distinct, similar),
    )


def _overlap(corpus: Corpus, distinct: DistinctTexts, similar: SimilarTexts, split: int, other: int) -> Overlap:
    texts = np.flatnonzero((corpus.split_of == split) & (distinct.number_of != NONE))
    number = distinct.number_of[texts]
    same = distinct.first[number, other]
    exact = (same != NONE) & (same != texts)
    near = similar.like[number, other] != NONE
    if split != other:
        near &= ~exact
    partner = distinct.first[similar.like[number[near], other], other]
    order = np.argsort(-similar.like_similarity[number[near], other], kind="stable")
    return Overlap(
        split=corpus.names[split],
        other=corpus.names[other],
        texts=int((corpus.split_of == split).sum()),
        exact=int(exact.sum()),
        near=int(near.sum()),
        exact_examples=tuple(
            _match(corpus, pair) for pair in zip(texts[exact][:EXAMPLES], same[exact][:EXAMPLES], strict=True)
        ),
        near_examples=tuple(
            _match(corpus, pair, similar.like_similarity[distinct.number_of[pair[0]], other])
            for pair in _first_pairs(zip(texts[near][order], partner[order], strict=True), distinct)
        ),
    )


def _conflicts(corpus: Corpus, distinct: DistinctTexts, similar: SimilarTexts) -> Conflicts:
    several = np.flatnonzero(distinct.labels == NONE)
    examples = []
    for number in several[:EXAMPLES]:
        texts = np.flatnonzero(distinct.number_of == number)
        _, firsts = np.unique(corpus.labels[texts], return_index=True)
        examples.append(_match(corpus, texts[np.sort(firsts)]))
    rivals = np.flatnonzero(similar.rival != NONE)
    order = np.argsort(-similar.rival_similarity[rivals], kind="stable")
    texts = distinct.representative[rivals], distinct.representative[similar.rival[rivals]]
    pairs = _first_pairs(zip(texts[0][order], texts[1][order], strict=True), distinct)
    return Conflicts(
        distinct=len(several),
        texts=int(np.isin(distinct.number_of, several).sum()),
        examples=tuple(examples),
        near=len(rivals),
        near_examples=tuple(
            _match(corpus, pair, float(similar.rival_similarity[distinct.number_of[pair[0]]])) for pair in pairs
        ),
    )


def _first_pairs(pairs: Iterable[tuple[int, int]], distinct: DistinctTexts) -> list[tuple[int, int]]:
    """The first `EXAMPLES` pairs of texts, none the same as an earlier one, either way round."""
    found: dict[frozenset[int], tuple[int, int]] = {}
    for pair in pairs:
        found.setdefault(frozenset(distinct.number_of[list(pair)].tolist()), pair)
        if len(found) == EXAMPLES:
            break
    return list(found.values())


def _match(corpus: Corpus, texts: Iterable[int], similarity: float = 1.0) -> Match:
    texts = list(texts)
    versions = zip(*map(corpus.parts, texts), strict=True)
    places = [_first_difference(*version[:2]) for version in versions]
    return Match(round(float(similarity), 4), tuple(corpus.sample(text, places) for text in texts))


def _first_difference(one: str, other: str) -> int:
    """The first place where two texts differ; 0 where they do not."""
    if one == other:
        return 0
    shorter = min(len(one), len(other))
    return next((place for place in range(shorter) if one[place] != other[place]), shorter)
