"""How far the raters of a split agree: Krippendorff's alpha, and the texts that all of them give one class."""

import dataclasses

import numpy as np

from amsdff_jax.data.raters import count_votes
from amsdff_jax.inspection.corpus import Corpus

LOWEST_ALPHA = 0.667  # below it no conclusion is acceptable, and above it a tentative one (Krippendorff, 2004)


@dataclasses.dataclass(frozen=True)
class Agreement:
    """What the raters of a split say of the same texts."""

    split: str
    raters: int
    texts: int
    ratings: int  # of all raters together
    shared: int  # texts that two raters or more have rated
    unanimous: int  # of these, texts that all of their raters gave one class
    metric: str  # how far two classes are apart: nominal, as far as any others; ordinal, by what lies between them
    alpha: float | None  # Krippendorff's; None: it is not defined, as all ratings of these texts are one class


def measure_agreement(corpus: Corpus, ordered: bool) -> tuple[Agreement, ...]:
    """The agreement in every split that has ratings.

    Args:
      ordered: the classes stand in an order.
    """
    metric = "ordinal" if ordered else "nominal"
    found = []
    for split, dataset in zip(corpus.names, corpus.datasets, strict=True):
        if dataset.ratings is not None:
            votes = count_votes(dataset.ratings, len(dataset.class_names))
            numbers = votes.sum(axis=1)
            unanimous = (numbers >= 2) & (votes.max(axis=1) == numbers)
            found.append(
                Agreement(
                    split=split,
                    raters=dataset.ratings.shape[1],
                    texts=len(dataset),
                    ratings=int(numbers.sum()),
                    shared=int((numbers >= 2).sum()),
                    unanimous=int(unanimous.sum()),
                    metric=metric,
                    alpha=krippendorff_alpha(votes, metric),
                )
            )
    return tuple(found)


def krippendorff_alpha(votes: np.ndarray, metric: str = "nominal") -> float | None:
    """Agreement beyond chance of any number of raters, not all of whom need have rated every text.

    1 where they agree, 0 where they agree as by chance. See Krippendorff, "Computing Krippendorff's Alpha-Reliability",
    2011.

    Args:
      votes: [N,C], how many raters gave each text each class. Texts with fewer than two do not count.
      metric: "nominal", or "ordinal" for classes in an order.

    Returns:
      None where it is not defined: all of the ratings that count are one class, or there are none.
    """
    votes = votes[votes.sum(axis=1) >= 2].astype(np.float64)
    weighted = votes / (votes.sum(axis=1, keepdims=True) - 1)
    coincidences = weighted.T @ votes - np.diag(weighted.sum(axis=0))  # [C,C], pairs of ratings of the same text
    totals = coincidences.sum(axis=0)
    if metric == "ordinal":
        ranks = np.cumsum(totals) - totals / 2
        distances = np.square(ranks[:, None] - ranks)
    else:
        distances = 1 - np.eye(len(totals))
    if np.count_nonzero(totals) < 2:
        return None
    observed, expected = (coincidences * distances).sum(), totals @ distances @ totals / (totals.sum() - 1)
    return float(1 - observed / expected)
