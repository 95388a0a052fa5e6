"""Stratification of label sets: parts keep the shares of every class."""

import numpy as np
import pytest

from amsdff_jax import TextDataset, UserError
from amsdff_jax.data.dataset import stratified_split
from amsdff_jax.data.folds import stratified_folds
from amsdff_jax.data.iterative import iterative_parts

RANDOM = np.random.default_rng(3)
LABELS = RANDOM.random((211, 7)) < np.array([0.5, 0.2, 0.1, 0.06, 0.04, 0.3, 0.01])
LABELS[5], LABELS[:, 6] = False, np.arange(211) == 17  # a text without labels, a label of one text


def make_dataset(labels=LABELS) -> TextDataset:
    return TextDataset([f"t{row}" for row in range(len(labels))], labels, tuple("abcdefg"), name="mine")


@pytest.mark.parametrize("sizes", [[150, 61], [70.3, 70.3, 70.4]])
def test_every_class_keeps_its_share_and_sizes_are_kept(sizes):
    part = iterative_parts(LABELS, sizes, seed=1)
    for number, size in enumerate(sizes):
        assert abs((part == number).sum() - size) <= 2
        expected = LABELS.sum(axis=0) * size / 211
        assert np.abs(LABELS[part == number].sum(axis=0) - expected).max() <= 2
    assert (part == iterative_parts(LABELS, sizes, seed=1)).all()
    assert (part != iterative_parts(LABELS, sizes, seed=2)).any()


def test_chance_alone_does_worse():
    def distance(part):
        counts = np.array([LABELS[part == number, :6].sum(axis=0) for number in range(3)])
        return np.abs(counts / LABELS[:, :6].sum(axis=0) - 1 / 3).sum()

    own = distance(iterative_parts(LABELS, [211 / 3] * 3, seed=1))
    assert own < min(distance(np.random.default_rng(seed).permutation(211) % 3) for seed in range(20)) / 1.5


def test_a_split_takes_its_share_and_no_label_of_one_text():
    rest, part = stratified_split(make_dataset(), 0.1, seed=1)
    assert sorted([*rest.texts, *part.texts]) == sorted(make_dataset().texts)
    assert abs(len(part) - 21) <= 2 and part.class_counts[6] == 0
    assert (part.class_counts[:6] > 0).all()
    assert stratified_split(make_dataset(), 0.1, seed=1)[1].texts == part.texts
    with pytest.raises(UserError, match="too few texts"):
        stratified_split(make_dataset(LABELS[:1]), 0.5, seed=0)


def test_folds_hold_out_every_text_once():
    folds = stratified_folds(make_dataset(), 4, seed=1)
    assert sorted(text for _, held_out in folds for text in held_out.texts) == sorted(make_dataset().texts)
    for train, held_out in folds:
        assert len(train) + len(held_out) == 211
        assert np.abs(held_out.class_counts - LABELS.sum(axis=0) / 4).max() <= 2
