"""The same and nearly the same texts, within a split and across splits, and what their labels say."""

import dataclasses
import functools
import hashlib

import numpy as np

from amsdff_jax.inspection.corpus import Corpus, Sample
from amsdff_jax.inspection.min_hash import (
    Banding,
    candidate_pairs,
    choose_banding,
    hash_shingles,
    jaccard,
    signatures,
)
from amsdff_jax.inspection.normalization import normalize, words_only

EXAMPLES = 10
_PAIRS_AT_A_TIME = 1024
_NONE = -1


@dataclasses.dataclass(frozen=True)
class Match:
    """Texts that are alike.

    Attributes:
      similarity: 1 where they are the same.
      samples: two of them, or more.
    """

    similarity: float
    samples: tuple[Sample, ...]


@dataclasses.dataclass(frozen=True)
class Overlap:
    """How many texts of `split` are in `other` as well; where both are one split, how many are there again.

    Attributes:
      texts: in `split`, all.
      exact: of them, the same as one of `other` (of one split: beyond the first of each).
      near: of them, nearly the same as one of `other`, and not the same as any (of one split: as
        another text, whether or not it is there twice too).
      exact_examples: some of the exact ones.
      near_examples: the most similar of the near ones.
    """

    split: str
    other: str
    texts: int
    exact: int
    near: int
    exact_examples: tuple[Match, ...]
    near_examples: tuple[Match, ...]


@dataclasses.dataclass(frozen=True)
class Conflicts:
    """Texts that stand under several labels.

    Attributes:
      distinct: different texts that do.
      texts: all texts that these are.
      examples: a text of each label.
      near: different texts that are nearly the same as one of another label.
      near_examples: the most similar.
    """

    distinct: int
    texts: int
    examples: tuple[Match, ...]
    near: int
    near_examples: tuple[Match, ...]


@dataclasses.dataclass(frozen=True)
class Duplicates:
    """What is found; two texts are nearly the same from `similarity` on.

    Attributes:
      similarity: Jaccard similarity of the sets of 5-character shingles.
      recall: the probability that a pair of just that similarity is found; of more similar ones it is higher.
      overlaps: every split with itself and with those before it.
    """

    similarity: float
    recall: float
    overlaps: tuple[Overlap, ...]
    conflicts: Conflicts


def find_duplicates(corpus: Corpus, similarity: float = 0.8) -> Duplicates:
    """Looks for the same and for nearly the same texts. Empty ones are left out.

    The same are texts that `normalize` makes equal. Nearly the same are others whose sets of runs of
    five characters, after `words_only`, have a Jaccard similarity of `similarity` or more, which for
    text pairs both parts must have. Candidates come from MinHash with banding and are then compared by
    their sets, so what is reported is so, and `Duplicates.recall` of what is so is reported.

    Memory: about 0.5 kB for every different text, beside the texts. Time: linear in all characters.
    """
    search = _Search(corpus, similarity)
    search.run()
    return Duplicates(similarity, search.banding.recall(similarity), search.overlaps(), search.conflicts())


class _Search:
    """Numbers the G different texts and looks for others like each.

    Attributes:
      number_of: [N] which different text each text is, `_NONE` for empty ones.
      first: [G,S] its first text in each split, or `_NONE`.
      label: [G] its label, or `_NONE` if it has several.
      like: [G,S] a different text that is nearly the same and is in that split, or `_NONE`.
      rival: [G] one of another label, or `_NONE`.
    """

    def __init__(self, corpus: Corpus, similarity: float):
        self.corpus, self.similarity = corpus, similarity
        self.banding: Banding = choose_banding(similarity)
        self.number_of = _number(corpus)
        kept = np.flatnonzero(self.number_of != _NONE)[::-1]  # of several assignments the last holds: the first text
        total = int(self.number_of.max()) + 1
        self.first = np.full((total, len(corpus.names)), _NONE)
        self.first[self.number_of[kept], corpus.split_of[kept]] = kept
        self.any = np.full(total, _NONE)
        self.any[self.number_of[kept]] = kept
        several = self.number_of[kept[corpus.labels[self.any[self.number_of[kept]]] != corpus.labels[kept]]]
        self.label = corpus.labels[self.any].copy()
        self.label[several] = _NONE
        self.like = np.full_like(self.first, _NONE)
        self.like_similarity = np.zeros(self.first.shape)
        self.rival = np.full(total, _NONE)
        self.rival_similarity = np.zeros(total)

    def run(self) -> None:
        if len(self.any) < 2:
            return
        forms = [
            [words_only(normalize(part)) for part in parts]
            for parts in zip(*(self.corpus.parts(index) for index in self.any), strict=True)
        ]
        signed = functools.reduce(np.minimum, (signatures(form, self.banding, salt) for salt, form in enumerate(forms)))

        @functools.lru_cache(maxsize=1024)
        def shingles(number: int, part: int) -> np.ndarray:
            return np.unique(hash_shingles([forms[part][number]])[0])

        # An estimate so far below what is asked for has a probability below 0.001.
        width = signed.shape[1]
        least = self.similarity - 3.3 * np.sqrt(self.similarity * (1 - self.similarity) / width)
        for pairs in candidate_pairs(signed, self.banding):
            for start in range(0, len(pairs), _PAIRS_AT_A_TIME):
                chunk = pairs[start : start + _PAIRS_AT_A_TIME]
                chunk = chunk[self._tells_something(chunk)]
                chunk = chunk[(signed[chunk[:, 0]] == signed[chunk[:, 1]]).mean(axis=1) >= least]
                for one, other in chunk.tolist():
                    similarity = min(jaccard(shingles(one, part), shingles(other, part)) for part in range(len(forms)))
                    if similarity >= self.similarity:
                        self._note(one, other, similarity)
                        self._note(other, one, similarity)

    def _tells_something(self, pairs: np.ndarray) -> np.ndarray:
        """[P] bool: whether the pair, if it is alike, is the first that says so of one of its texts.

        Without this a template of thousands of texts would take millions of comparisons.
        """
        result = np.zeros(len(pairs), bool)
        for one, other in (pairs.T, pairs.T[::-1]):
            result |= ((self.first[other] != _NONE) & (self.like[one] == _NONE)).any(axis=1)
            result |= self._differ(one, other) & (self.rival[one] == _NONE)
        return result

    def _differ(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        labels = self.label[one], self.label[other]
        return (labels[0] != labels[1]) & (labels[0] != _NONE) & (labels[1] != _NONE)

    def _note(self, one: int, other: int, similarity: float) -> None:
        better = (self.first[other] != _NONE) & (similarity > self.like_similarity[one])
        self.like[one, better], self.like_similarity[one, better] = other, similarity
        if self._differ(one, other) and similarity > self.rival_similarity[one]:
            self.rival[one], self.rival_similarity[one] = other, similarity

    def overlaps(self) -> tuple[Overlap, ...]:
        return tuple(
            self._overlap(split, other) for split in range(len(self.corpus.names)) for other in range(split + 1)
        )

    def _overlap(self, split: int, other: int) -> Overlap:
        texts = np.flatnonzero((self.corpus.split_of == split) & (self.number_of != _NONE))
        number = self.number_of[texts]
        first = self.first[number, other]
        repeated = (first != _NONE) & (first != texts)
        near = self.like[number, other] != _NONE
        if split != other:
            near &= ~repeated
        near_pairs = {}
        for index in texts[near][np.argsort(-self.like_similarity[number[near], other], kind="stable")].tolist():
            like = self.first[self.like[self.number_of[index], other], other]
            near_pairs.setdefault(frozenset((index, int(like))), (index, int(like)))
            if len(near_pairs) == EXAMPLES:
                break
        return Overlap(
            split=self.corpus.names[split],
            other=self.corpus.names[other],
            texts=int((self.corpus.split_of == split).sum()),
            exact=int(repeated.sum()),
            near=int(near.sum()),
            exact_examples=tuple(
                self._match(index, original)
                for index, original in zip(texts[repeated][:EXAMPLES], first[repeated][:EXAMPLES], strict=True)
            ),
            near_examples=tuple(
                self._match(*pair, similarity=self.like_similarity[self.number_of[pair[0]], other])
                for pair in near_pairs.values()
            ),
        )

    def conflicts(self) -> Conflicts:
        conflicting = np.flatnonzero(self.label == _NONE)
        examples = []
        for number in conflicting[:EXAMPLES]:
            texts = np.flatnonzero(self.number_of == number)
            _, firsts = np.unique(self.corpus.labels[texts], return_index=True)
            examples.append(self._match(*texts[np.sort(firsts)]))
        rivals = np.flatnonzero(self.rival != _NONE)
        near_pairs = {}
        for number in rivals[np.argsort(-self.rival_similarity[rivals], kind="stable")].tolist():
            near_pairs.setdefault(frozenset((number, int(self.rival[number]))), number)
            if len(near_pairs) == EXAMPLES:
                break
        return Conflicts(
            distinct=len(conflicting),
            texts=int(np.isin(self.number_of, conflicting).sum()),
            examples=tuple(examples),
            near=len(rivals),
            near_examples=tuple(
                self._match(self.any[number], self.any[self.rival[number]], similarity=self.rival_similarity[number])
                for number in near_pairs.values()
            ),
        )

    def _match(self, *texts: int, similarity: float = 1.0) -> Match:
        parts = [self.corpus.parts(index) for index in texts]
        places = [0 if similarity == 1 else _first_difference(*versions[:2]) for versions in zip(*parts, strict=True)]
        return Match(round(float(similarity), 4), tuple(self.corpus.sample(index, places) for index in texts))


def _number(corpus: Corpus) -> np.ndarray:
    """[N] int, the same for texts that are the same after `normalize`, from 0; `_NONE` for empty ones."""
    numbers: dict[bytes, int] = {}
    result = np.full(len(corpus), _NONE)
    for index in range(len(corpus)):
        parts = [normalize(part) for part in corpus.parts(index)]
        if any(parts):
            # A normalized text has no newline.
            content = "\n".join(parts).encode("utf-8", "surrogatepass")
            digest = hashlib.blake2b(content, digest_size=16).digest()
            result[index] = numbers.setdefault(digest, len(numbers))
    return result


def _first_difference(one: str, other: str) -> int:
    shorter = min(len(one), len(other))
    return next((place for place in range(shorter) if one[place] != other[place]), shorter)
