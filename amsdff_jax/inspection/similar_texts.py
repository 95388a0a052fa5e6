"""Which different texts are nearly the same."""

import functools
from collections.abc import Sequence

import numpy as np

from amsdff_jax.inspection.corpus import Corpus
from amsdff_jax.inspection.distinct_texts import NONE, DistinctTexts, normalize, words_only
from amsdff_jax.inspection.min_hash import candidate_pairs, choose_banding, hash_shingles, jaccard, signatures

_PAIRS_AT_A_TIME = 1024

# Pairs are compared only if their signatures estimate a similarity at most so many standard deviations
# too low, which is too much to ask of fewer than one pair in a thousand.
_DEVIATIONS, _ESTIMATED_TOO_LOW = 3.3, 0.001


class SimilarTexts:
    """For every different text one that is like it, if there is one, and how much.

    Two are alike if the sets of runs of five characters of `words_only` have at least the Jaccard
    similarity asked for; of text pairs, both parts must. Candidates come from MinHash and are compared
    by their sets, so nothing is in here that is not so.

    Attributes:
      recall: the probability that a pair of just the similarity asked for is found.
      like: [G,S] int, a different text that is in that split, or `NONE`.
      like_similarity: [G,S] float64, 0 where there is none.
      rival: [G] int, one of another label, or `NONE`.
      rival_similarity: [G] float64.
    """

    def __init__(self, corpus: Corpus, distinct: DistinctTexts, similarity: float):
        self._distinct, self._least = distinct, similarity
        self._banding = choose_banding(similarity)
        self.recall = self._banding.recall(similarity) * (1 - _ESTIMATED_TOO_LOW)
        self.like = np.full_like(distinct.first, NONE)
        self.like_similarity = np.zeros(distinct.first.shape)
        self.rival = np.full(len(distinct), NONE)
        self.rival_similarity = np.zeros(len(distinct))
        if len(distinct) > 1:
            both = zip(*(corpus.parts(index) for index in distinct.representative), strict=True)
            self._search([[words_only(normalize(text)) for text in texts] for texts in both])

    def _search(self, forms: Sequence[Sequence[str]]) -> None:
        """Fills the attributes; `forms` are the G texts and, of text pairs, the G second ones."""
        each = (signatures(texts, self._banding, salt) for salt, texts in enumerate(forms))
        signed = functools.reduce(np.minimum, each)  # the signature of the union

        @functools.lru_cache(maxsize=1024)
        def shingles(part: int, number: int) -> np.ndarray:
            return np.unique(hash_shingles([forms[part][number]])[0])

        def similarity(one: int, other: int) -> float:
            return min(jaccard(shingles(part, one), shingles(part, other)) for part in range(len(forms)))

        deviation = np.sqrt(self._least * (1 - self._least) / signed.shape[1])
        for pairs in candidate_pairs(signed, self._banding):
            for start in range(0, len(pairs), _PAIRS_AT_A_TIME):
                chunk = pairs[start : start + _PAIRS_AT_A_TIME]
                chunk = chunk[self._is_news(*chunk.T)]
                estimate = (signed[chunk[:, 0]] == signed[chunk[:, 1]]).mean(axis=1)
                for one, other in chunk[estimate >= self._least - _DEVIATIONS * deviation].tolist():
                    found = similarity(one, other)
                    if found >= self._least:
                        self._note(one, other, found)
                        self._note(other, one, found)

    def _is_news(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """[P] bool: whether a pair, if alike, is the first that says so of one of its texts.

        Without this a template of thousands of texts would take millions of comparisons.
        """
        result = np.zeros(len(one), bool)
        for text, partner in ((one, other), (other, one)):
            result |= ((self._distinct.first[partner] != NONE) & (self.like[text] == NONE)).any(axis=1)
            result |= self._differ(text, partner) & (self.rival[text] == NONE)
        return result

    def _differ(self, one: np.ndarray | int, other: np.ndarray | int) -> np.ndarray:
        labels, others = np.asarray(self._distinct.labels[one]), np.asarray(self._distinct.labels[other])
        return (labels != others) & (labels != NONE) & (others != NONE)

    def _note(self, text: int, partner: int, similarity: float) -> None:
        better = (self._distinct.first[partner] != NONE) & (similarity > self.like_similarity[text])
        self.like[text, better], self.like_similarity[text, better] = partner, similarity
        if self._differ(text, partner) and similarity > self.rival_similarity[text]:
            self.rival[text], self.rival_similarity[text] = partner, similarity
