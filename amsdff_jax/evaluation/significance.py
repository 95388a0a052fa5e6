"""How far the measured accuracies can be trusted: intervals, tests of two models on the same texts, corrections.

Two sources of chance are kept apart. `mcnemar`, `paired_bootstrap` and `paired_bootstrap_micro_f1` ask what other test
texts would have shown of the models at hand; `summarize` asks what other seeds would have given.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from amsdff_jax.base.errors import UserError


class McNemar(NamedTuple):
    """Result of McNemar's test.

    Attributes:
      only_a: answers that are right with A and wrong with B, summed over the seeds.
      only_b: those that are right with B and wrong with A.
      p_value: two-sided.
    """

    only_a: int
    only_b: int
    p_value: float


class Bootstrap(NamedTuple):
    """Difference of two accuracies or micro F1, A's minus B's, with its confidence interval and two-sided p-value."""

    difference: float
    low: float
    high: float
    p_value: float


class Summary(NamedTuple):
    """Mean of several runs; the other numbers are None where there is but one.

    Attributes:
      mean: of the values.
      standard_deviation: of the sample, divided by n - 1.
      low, high: confidence interval of the mean.
    """

    mean: float
    standard_deviation: float | None
    low: float | None
    high: float | None


class Interval(NamedTuple):
    """A confidence interval."""

    low: float
    high: float


def mcnemar(correct_a: np.ndarray, correct_b: np.ndarray) -> McNemar:
    """McNemar's exact test of whether two models are equally often right (McNemar, 1947).

    The null hypothesis is that, text by text, the two models' answers could as well be exchanged, so that every
    text on which they differ is a fair coin. With several seeds all of a text's answers are exchanged at once,
    for they are not independent: the exact permutation test of the accuracies' difference, which for one seed
    is McNemar's.

    Args:
      correct_a, correct_b: [N] or [seeds,N] bool, whether each answer is right; the same texts in the same order.

    Raises:
      UserError: the two do not fit together.
    """
    correct_a, correct_b = _paired(correct_a, correct_b)
    differences = _difference_of_each_text(correct_a, correct_b)
    sizes = np.abs(differences)
    # The probability that the texts in A's favour add up to 0, 1, ...: one binomial distribution for every size.
    distribution = np.ones(1)
    for size in np.unique(sizes[sizes > 0]):
        number = np.count_nonzero(sizes == size)
        of_this_size = np.zeros(size * number + 1)
        of_this_size[::size] = stats.binom.pmf(np.arange(number + 1), number, 0.5)
        distribution = np.convolve(distribution, of_this_size)
    sums = 2 * np.arange(len(distribution)) - sizes.sum()
    as_extreme = np.abs(sums) >= abs(differences.sum())
    return McNemar(
        only_a=int((correct_a & ~correct_b).sum()),
        only_b=int((correct_b & ~correct_a).sum()),
        p_value=min(float(distribution[as_extreme].sum()), 1.0),
    )


def paired_bootstrap(
    correct_a: np.ndarray, correct_b: np.ndarray, *, seed: int, resamples: int = 10_000, confidence: float = 0.95
) -> Bootstrap:
    """Bootstrap of the difference of two accuracies over texts drawn anew (Efron and Tibshirani, 1993).

    Texts are drawn with replacement, each with the answers of both models and of all seeds, over which the
    accuracy is averaged. Interval and p-value are those of the percentile method and belong together: up to the
    resampling's grain, p is below 1 - `confidence` where the interval leaves out 0. The smallest p-value that can
    come out is 2 / (`resamples` + 1).

    Args:
      correct_a, correct_b: [N] or [seeds,N] bool, whether each answer is right; the same texts in the same order.
      seed: of the resampling.
      resamples: how many test sets are drawn.
      confidence: that the interval holds the true difference, between 0 and 1.

    Raises:
      UserError: the two do not fit together, or a number is out of its range.
    """
    _check_resampling(resamples, confidence)
    correct_a, correct_b = _paired(correct_a, correct_b)
    differences = _difference_of_each_text(correct_a, correct_b)
    # Texts of equal difference are alike, so it is enough to draw how many there are of each kind. Whole numbers
    # until the end: a resampled difference of 0 must be exactly that.
    kinds, counts = np.unique(differences, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(len(differences), counts / len(differences), size=resamples) @ kinds
    return _percentile(float(differences.sum() / correct_a.size), drawn / correct_a.size, confidence)


def paired_bootstrap_micro_f1(
    counts_a: np.ndarray, counts_b: np.ndarray, *, seed: int, resamples: int = 10_000, confidence: float = 0.95
) -> Bootstrap:
    """`paired_bootstrap` of the difference of two micro F1, where a text may have several labels.

    Args:
      counts_a, counts_b: [N,3] or [seeds,N,3] int, the true positives, false positives and false negatives of each
        text; the same texts in the same order.
      seed: of the resampling.
      resamples: how many test sets are drawn.
      confidence: that the interval holds the true difference, between 0 and 1.

    Raises:
      UserError: the two do not fit together, or a number is out of its range.
    """
    _check_resampling(resamples, confidence)
    counts_a, counts_b = np.asarray(counts_a), np.asarray(counts_b)
    shape = counts_a.shape
    if shape != counts_b.shape or len(shape) not in (2, 3) or shape[-1] != 3 or not counts_a.size:
        raise UserError(
            f"counts_a, counts_b: expected the same texts and as many seeds, [N,3] or [seeds,N,3], got shapes "
            f"{list(shape)} and {list(counts_b.shape)}"
        )
    of_each_text = np.stack([counts_a, counts_b]).reshape(2, -1, *shape[-2:])  # [2,seeds,N,3]

    def difference(weights: np.ndarray) -> np.ndarray:
        """Of the texts as often as `weights`, [R,N], says: [R]."""
        ours, theirs = _micro_f1(weights @ of_each_text).mean(axis=1)
        return ours - theirs

    generator, number = np.random.default_rng(seed), shape[-2]
    # So many at a time that the weights, as integers and as floats, take 160 MB.
    parts = np.array_split(np.arange(resamples), -(-resamples * number // 10_000_000))
    drawn = (generator.multinomial(number, np.full(number, 1 / number), size=len(part)) for part in parts)
    differences = np.concatenate([difference(weights.astype(np.float64)) for weights in drawn])
    return _percentile(float(difference(np.ones((1, number)))[0]), differences, confidence)


def _micro_f1(counts: np.ndarray) -> np.ndarray:
    """[...] of [...,3], true positives, false positives and false negatives; 0 where there are none of them."""
    right, wrong = 2 * counts[..., 0], counts[..., 1] + counts[..., 2]
    return right / np.maximum(right + wrong, 1)


def _percentile(difference: float, drawn: np.ndarray, confidence: float) -> Bootstrap:
    """Interval and p-value by the percentile method, of the differences [R] of resampled texts."""
    below, above = np.count_nonzero(drawn <= 0), np.count_nonzero(drawn >= 0)
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    p_value = min(float(2 * (min(below, above) + 1) / (len(drawn) + 1)), 1.0)
    return Bootstrap(difference, float(low), float(high), p_value)


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Adjusts the p-values of a family of tests so that the chance of any false finding stays at the level.

    Uniformly better than Bonferroni's correction, and as general (Holm, 1979).

    Args:
      p_values: [M], of all tests of the family, in any order.

    Returns:
      [M] float64, each to be compared with the level itself.

    Raises:
      UserError: something is no probability.
    """
    given = np.asarray(p_values, np.float64)
    if given.ndim != 1 or not ((given >= 0) & (given <= 1)).all():
        raise UserError(f"p_values: expected a list of numbers from 0 to 1, got {given.tolist()}")
    order = np.argsort(given, kind="stable")
    adjusted = np.empty_like(given)
    adjusted[order] = np.maximum.accumulate(given[order] * np.arange(len(given), 0, -1))
    return np.minimum(adjusted, 1)


def summarize(values: Sequence[float], confidence: float = 0.95) -> Summary:
    """Mean and spread of the same number over several seeds, with Student's interval of the mean.

    The interval takes the values for a sample of a normal distribution. With three seeds it is wide, and rightly so.

    Raises:
      UserError: no value, one that is not finite, or a confidence out of its range.
    """
    _check_confidence(confidence)
    sample = np.asarray(values, np.float64)
    if sample.ndim != 1 or not len(sample) or not np.isfinite(sample).all():
        raise UserError(f"values: expected a list of at least one finite number, got {sample.tolist()}")
    mean = float(sample.mean())
    if len(sample) == 1:
        return Summary(mean, None, None, None)
    deviation = float(sample.std(ddof=1))
    # Not `t.interval`, which is not a number where all values are the same.
    reach = float(stats.t.ppf((1 + confidence) / 2, len(sample) - 1)) * deviation / len(sample) ** 0.5
    return Summary(mean, deviation, mean - reach, mean + reach)


def wilson(correct: int, total: int, confidence: float = 0.95) -> Interval:
    """Wilson's interval of an accuracy of `correct` in `total` texts; it holds good near 0 and 1 (Wilson, 1927).

    Raises:
      UserError: the numbers are no accuracy, or the confidence is out of its range.
    """
    _check_confidence(confidence)
    if not 0 <= correct <= total or total < 1:
        raise UserError(f"correct, total: expected 0 <= correct <= total and a text at least, got {correct} of {total}")
    interval = stats.binomtest(int(correct), int(total)).proportion_ci(confidence, method="wilson")
    return Interval(float(interval.low), float(interval.high))


def _paired(correct_a: np.ndarray, correct_b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as [seeds,N] bool."""
    correct_a, correct_b = np.asarray(correct_a), np.asarray(correct_b)
    if correct_a.shape != correct_b.shape or correct_a.ndim not in (1, 2) or not correct_a.size:
        raise UserError(
            f"correct_a, correct_b: expected the same texts and as many seeds, [N] or [seeds,N], got shapes "
            f"{list(correct_a.shape)} and {list(correct_b.shape)}"
        )
    for name, correct in (("correct_a", correct_a), ("correct_b", correct_b)):
        if not np.isin(correct, (0, 1)).all():
            raise UserError(f"{name}: expected True where an answer is right and False elsewhere, not the predictions")
    return np.atleast_2d(correct_a).astype(bool), np.atleast_2d(correct_b).astype(bool)


def _difference_of_each_text(correct_a: np.ndarray, correct_b: np.ndarray) -> np.ndarray:
    """[N] int64: with how many more seeds A is right than B."""
    return correct_a.sum(axis=0, dtype=np.int64) - correct_b.sum(axis=0, dtype=np.int64)


def _check_resampling(resamples: int, confidence: float) -> None:
    _check_confidence(confidence)
    if resamples < 1:
        raise UserError(f"resamples: expected at least 1, got {resamples}")


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise UserError(f"confidence: expected a number between 0 and 1, got {confidence!r}")
