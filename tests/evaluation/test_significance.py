"""Statistics against scipy, hand-worked cases and what must hold for any data."""

import itertools

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score

from amsdff_jax import UserError
from amsdff_jax.evaluation.significance import (
    holm,
    mcnemar,
    paired_bootstrap,
    paired_bootstrap_micro_f1,
    summarize,
    wilson,
)


def answers(*shape: int, seed: int, accuracy: float = 0.8) -> np.ndarray:
    return np.random.default_rng(seed).random(shape) < accuracy


def with_counts(both: int, only_a: int, only_b: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    kinds = np.repeat([[1, 1], [1, 0], [0, 1], [0, 0]], [both, only_a, only_b, neither], axis=0).astype(bool)
    return kinds[:, 0], kinds[:, 1]


def test_mcnemar_by_hand():
    # Six coins, one of which falls on the rarer side: (1 + 6) / 2^6, on both sides.
    assert mcnemar(*with_counts(20, 1, 5, 3)) == (1, 5, pytest.approx(2 * 7 / 64))


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 1), (3, 3), (121, 59), (0, 41), (700, 601)])
def test_mcnemar_is_the_binomial_test(only_a, only_b):
    expected = stats.binomtest(only_a, only_a + only_b).pvalue
    assert mcnemar(*with_counts(13, only_a, only_b, 7)).p_value == pytest.approx(expected, rel=1e-9)


def test_mcnemar_of_several_seeds_exchanges_whole_texts():
    correct_a, correct_b = answers(3, 11, seed=0), answers(3, 11, seed=1, accuracy=0.4)
    differences = correct_a.sum(0) - correct_b.sum(0).astype(int)
    all_signs = np.array(list(itertools.product((-1, 1), repeat=11)))
    expected = (np.abs(all_signs @ differences) >= abs(differences.sum())).mean()
    result = mcnemar(correct_a, correct_b)
    assert 0.001 < expected < 0.5
    assert result.p_value == pytest.approx(expected)
    assert result.only_a - result.only_b == differences.sum()


def test_seeds_that_all_agree_are_one_seed():
    correct_a, correct_b = answers(90, seed=2), answers(90, seed=3, accuracy=0.7)
    four_a, four_b = np.tile(correct_a, (4, 1)), np.tile(correct_b, (4, 1))
    assert mcnemar(four_a, four_b).p_value == pytest.approx(mcnemar(correct_a, correct_b).p_value)
    assert paired_bootstrap(four_a, four_b, seed=0) == pytest.approx(paired_bootstrap(correct_a, correct_b, seed=0))


@pytest.mark.parametrize("shape", [(83,), (3, 83)])
def test_identical_models_do_not_differ(shape):
    correct = answers(*shape, seed=4)
    assert mcnemar(correct, correct) == (0, 0, 1)
    assert paired_bootstrap(correct, correct, seed=0) == (0, 0, 0, 1)


@pytest.mark.parametrize("shape", [(211,), (3, 211)])
def test_swapping_the_models_turns_everything_round(shape):
    correct_a, correct_b = answers(*shape, seed=5), answers(*shape, seed=6, accuracy=0.75)
    there, back = mcnemar(correct_a, correct_b), mcnemar(correct_b, correct_a)
    assert (there.only_a, there.only_b) == (back.only_b, back.only_a)
    assert there.p_value == pytest.approx(back.p_value)
    there, back = (
        paired_bootstrap(*pair, seed=0, resamples=40_000) for pair in ((correct_a, correct_b), (correct_b, correct_a))
    )
    assert there.difference == -back.difference == pytest.approx(correct_a.mean() - correct_b.mean())
    # The bounds are those of other resamples.
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low), abs=0.004)
    assert there.p_value == pytest.approx(back.p_value, abs=0.02)


@pytest.mark.parametrize(("shape", "confidence"), [((401,), 0.95), ((3, 401), 0.9)])
def test_bootstrap_interval_is_scipys(shape, confidence):
    correct_a, correct_b = answers(*shape, seed=7), answers(*shape, seed=8, accuracy=0.74)
    differences = np.atleast_2d(correct_a.astype(float) - correct_b).mean(axis=0)
    expected = stats.bootstrap(
        (differences,), np.mean, n_resamples=20_000, confidence_level=confidence, method="percentile", rng=9
    ).confidence_interval
    result = paired_bootstrap(correct_a, correct_b, seed=0, resamples=20_000, confidence=confidence)
    width = expected.high - expected.low
    assert (result.low, result.high) == pytest.approx(tuple(expected), abs=0.03 * width)


def label_sets(number: int, seed: int) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
    """The truth [N,C], what two models say of it, of whom the second errs more often, and both their counts [N,3]."""
    generator = np.random.default_rng(seed)
    truth = generator.random((number, 4)) < 0.4
    given = [truth ^ (generator.random((number, 4)) < error) for error in (0.15, 0.2)]
    counts = [np.stack([(one & truth).sum(1), (one & ~truth).sum(1), (~one & truth).sum(1)], axis=1) for one in given]
    return truth, given, counts


def test_bootstrap_of_micro_f1_is_scipys():
    truth, given, counts = label_sets(151, seed=1)

    def difference(rows):
        first, second = (f1_score(truth[rows], one[rows], average="micro") for one in given)
        return first - second

    expected = stats.bootstrap(
        (np.arange(len(truth)),), difference, vectorized=False, n_resamples=2000, method="percentile", rng=9
    ).confidence_interval
    result = paired_bootstrap_micro_f1(*counts, seed=0)
    assert result.difference == pytest.approx(difference(slice(None)), abs=1e-12)
    width = expected.high - expected.low
    assert (result.low, result.high) == pytest.approx(tuple(expected), abs=0.08 * width)
    assert (result.p_value < 0.05) == (not result.low <= 0 <= result.high)


def test_micro_f1_of_several_seeds_is_their_mean():
    _, _, first = label_sets(61, seed=1)
    _, _, second = label_sets(61, seed=2)
    alone = [paired_bootstrap_micro_f1(*counts, seed=0).difference for counts in (first, second)]
    both = paired_bootstrap_micro_f1(*map(np.stack, zip(first, second, strict=True)), seed=0)
    assert both.difference == pytest.approx(np.mean(alone))
    assert paired_bootstrap_micro_f1(first[0], first[0], seed=0) == (0, 0, 0, 1)
    # Neither labels nor answers: no F1 to divide by.
    assert paired_bootstrap_micro_f1(np.zeros((5, 3), int), np.zeros((5, 3), int), seed=0) == (0, 0, 0, 1)


def test_bootstrap_p_value_belongs_to_its_interval():
    for seed in range(40):
        correct_a, correct_b = answers(150, seed=seed), answers(150, seed=1000 + seed, accuracy=0.68)
        result = paired_bootstrap(correct_a, correct_b, seed=seed, confidence=0.9)
        if abs(result.p_value - 0.1) > 0.01:
            assert (result.p_value < 0.1) == (not result.low <= 0 <= result.high)


def test_bootstrap_is_seeded():
    correct_a, correct_b = answers(150, seed=13), answers(150, seed=14, accuracy=0.75)
    first, again, other = (paired_bootstrap(correct_a, correct_b, seed=seed) for seed in (3, 3, 4))
    assert first == again != other


def test_bootstrap_is_never_certain():
    assert paired_bootstrap(*with_counts(5, 90, 0, 5), seed=3, resamples=999).p_value == pytest.approx(2 / 1000)


def test_results_can_be_written_as_json():
    correct_a, correct_b = answers(3, 50, seed=15), answers(3, 50, seed=16)
    results = [mcnemar(correct_a, correct_b), paired_bootstrap(correct_a, correct_b, seed=0, resamples=99),
               summarize([0.5, 0.6]), wilson(np.int64(3), np.int64(4))]  # fmt: skip
    assert {type(number) for result in results for number in result} == {int, float}


def test_equally_good_models_are_rarely_told_apart():
    """Both tests keep their level: of 800 pairs of equal models 5 % are found different, or fewer."""
    random = np.random.default_rng(10)
    found = np.zeros(2)
    for trial in range(800):
        hard = random.random(200) < 0.5  # texts of which the models often have the same opinion
        correct_a, correct_b = (np.where(hard, random.random((3, 200)) < 0.6, True) for _ in range(2))
        found += (
            mcnemar(correct_a, correct_b).p_value < 0.05,
            paired_bootstrap(correct_a, correct_b, seed=trial, resamples=800).p_value < 0.05,
        )
    assert (found / 800 > 0.02).all() and (found / 800 < 0.075).all()


def test_holm_by_hand():
    # Sorted .01, .02, .03, .2 times 4, 3, 2, 1: .04, .06, .06, .2; the third may not fall below the second.
    assert holm([0.03, 0.2, 0.01, 0.02]) == pytest.approx([0.06, 0.2, 0.04, 0.06])
    assert holm([0.6, 0.7]) == pytest.approx([1, 1])
    assert holm([0.03]) == pytest.approx([0.03])
    assert holm([]).shape == (0,)


def test_holm_keeps_the_order_and_lies_between_none_and_bonferroni():
    p_values = np.random.default_rng(11).random(23) ** 3
    adjusted = holm(p_values)
    assert (np.diff(adjusted[np.argsort(p_values)]) >= 0).all()
    assert (adjusted >= p_values).all() and (adjusted <= np.minimum(23 * p_values, 1)).all()
    order = np.random.default_rng(12).permutation(23)
    assert (holm(p_values[order]) == adjusted[order]).all()


def test_summary_is_students():
    values = [0.871, 0.868, 0.882]
    mean, deviation, low, high = summarize(values, confidence=0.9)
    assert (mean, deviation) == pytest.approx((0.873667, 0.007371), abs=1e-6)
    assert (low, high) == pytest.approx(stats.ttest_1samp(values, 0).confidence_interval(0.9))
    # t with two degrees of freedom at 97.5 %, from any table: 4.303.
    assert summarize(values).high - mean == pytest.approx(4.3027 * deviation / 3**0.5, rel=1e-4)


def test_summary_without_spread():
    assert summarize([0.9]) == (0.9, None, None, None)
    assert summarize([0.5, 0.5, 0.5]) == (0.5, 0, 0.5, 0.5)


def test_wilson_by_hand():
    # z = 1.96: (p + z^2/2n ± z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)
    assert wilson(8, 10) == pytest.approx((0.490162, 0.943318), abs=1e-6)
    assert wilson(0, 7).low == pytest.approx(0, abs=1e-12)
    assert wilson(7, 7).high == pytest.approx(1) and wilson(7, 7).low < 0.7
    assert wilson(np.int64(8), 10, confidence=0.5).low > wilson(8, 10).low


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mcnemar(np.ones(4, bool), np.ones(5, bool)), r"the same texts.* \[4\] and \[5\]"),
        (lambda: mcnemar([], []), "got shapes"),
        (lambda: mcnemar([3, 1], [0, 1]), "correct_a: expected True .* not the predictions"),
        (lambda: paired_bootstrap([True], [[True]], seed=0), r"\[1\] and \[1, 1\]"),
        (lambda: paired_bootstrap([True], [True], seed=0, resamples=0), "resamples: expected at least 1"),
        (lambda: paired_bootstrap([True], [True], seed=0, confidence=95), "confidence: expected .* got 95"),
        (lambda: paired_bootstrap_micro_f1(np.ones((4, 3)), np.ones((5, 3)), seed=0), r"\[4, 3\] and \[5, 3\]"),
        (lambda: paired_bootstrap_micro_f1(np.ones((4, 2)), np.ones((4, 2)), seed=0), "as many seeds"),
        (lambda: paired_bootstrap_micro_f1(np.ones((4, 3)), np.ones((4, 3)), seed=0, resamples=0), "at least 1"),
        (lambda: holm([0.1, float("nan")]), "numbers from 0 to 1"),
        (lambda: summarize([]), "at least one finite number"),
        (lambda: summarize([0.1, float("inf")]), "at least one finite number"),
        (lambda: wilson(5, 4), "got 5 of 4"),
        (lambda: wilson(0, 0), "got 0 of 0"),
    ],
)
def test_what_cannot_be_computed_is_refused(call, message):
    with pytest.raises(UserError, match=message):
        call()
