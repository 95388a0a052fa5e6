"""Folds for cross-validation."""

import warnings

import numpy as np
from sklearn.model_selection import StratifiedKFold

from amsdff_jax.base.errors import UserError
from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.data.iterative import iterative_parts


def stratified_folds(dataset: TextDataset, folds: int, seed: int) -> list[tuple[TextDataset, TextDataset]]:
    """Divides the texts into parts in which every class keeps its share, each held out once.

    A class with fewer texts than folds is missing in some held-out parts; one of a single text is
    missing in a training part. Texts with several classes are divided by `iterative_parts`.

    Args:
      folds: how many parts.
      seed: of the shuffle.

    Returns:
      For each fold the texts to train on and those held out, each in the order of `dataset`.

    Raises:
      UserError: fewer than two folds, or more than the largest class has texts.
    """
    largest = int(np.bincount(dataset.strata).max() if dataset.task == "regression" else dataset.class_counts.max())
    if not 2 <= folds <= largest:
        raise UserError(
            f"folds: expected 2 to {largest}, the texts of the largest class in {dataset.name}, got {folds}"
            if largest > 1
            else f"{dataset.name}: no class has the two texts that folds need"
        )
    if dataset.task == "multi_label":
        fold_of = iterative_parts(dataset.labels, [len(dataset) / folds] * folds, seed)
    else:
        fold_of = fold_numbers(dataset.strata, folds, seed)
    return [
        (
            dataset.take(fold_of != fold, f"{dataset.name} (all but fold {fold + 1} of {folds})"),
            dataset.take(fold_of == fold, f"{dataset.name} (fold {fold + 1} of {folds})"),
        )
        for fold in range(folds)
    ]


def fold_numbers(labels: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """[N] int: the fold, from 0 on, of each text, such that every class keeps its share.

    Args:
      labels: [N] int, one of which at least is there `folds` times.
      folds: how many.
      seed: of the shuffle.
    """
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    numbers = np.empty(len(labels), np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of classes with fewer texts than folds
        for fold, (_, held_out) in enumerate(splitter.split(np.zeros(len(labels)), labels)):
            numbers[held_out] = fold
    return numbers
