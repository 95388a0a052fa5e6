"""Folds for cross-validation."""

import warnings

import numpy as np
import pytest

from amsdff_jax import UserError
from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.data.folds import stratified_folds

LABELS = np.random.default_rng(0).permutation([0] * 53 + [1] * 27 + [2] * 3 + [3])


def make_dataset(labels=LABELS) -> TextDataset:
    return TextDataset([f"t{i}" for i in range(len(labels))], labels, ("a", "b", "c", "d"), name="mine")


def test_every_text_is_held_out_once_and_classes_keep_their_share():
    dataset = make_dataset()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        folds = stratified_folds(dataset, 5, seed=1)
    assert len(folds) == 5
    assert sorted(text for _, held_out in folds for text in held_out.texts) == sorted(dataset.texts)
    for train, held_out in folds:
        assert sorted([*train.texts, *held_out.texts]) == sorted(dataset.texts)
        assert train.class_names == held_out.class_names == dataset.class_names
        assert train.ids == [dataset.ids[dataset.texts.index(text)] for text in train.texts]
        counts = np.bincount(held_out.labels, minlength=4)
        assert counts[0] in (10, 11) and counts[1] in (5, 6) and counts[2] in (0, 1) and counts[3] in (0, 1)
    assert folds[1][1].name == "mine (fold 2 of 5)"


def test_folds_are_seeded():
    first, again, other = (stratified_folds(make_dataset(), 3, seed)[0][1].texts for seed in (4, 4, 5))
    assert first == again != other


@pytest.mark.parametrize("folds", [-1, 0, 1, 54])
def test_impossible_numbers_of_folds(folds):
    with pytest.raises(UserError, match=f"folds: expected 2 to 53, .* class in mine, got {folds}"):
        stratified_folds(make_dataset(), folds, seed=0)


def test_folds_of_single_texts():
    with pytest.raises(UserError, match="mine: no class has the two texts"):
        stratified_folds(make_dataset([0, 1, 2]), 2, seed=0)
