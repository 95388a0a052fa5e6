"""Labels of several raters, of whom each may have said nothing of a text: the share of the votes for each class."""

import dataclasses
import sys
from collections.abc import Sequence

import numpy as np

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.validation import first_of
from amsdff_jax.config import DataConfig
from amsdff_jax.config.columns import split_columns
from amsdff_jax.data.encoded_labels import EncodedLabels, with_certainty
from amsdff_jax.data.labels import find_class_names, find_indices, label_of, ordered_names, require_rising
from amsdff_jax.data.rows import Row, is_missing, plain, value_of
from amsdff_jax.data.stored_texts import take

NONE = -1  # in the place of a class that a rater did not give


class RaterColumns:
    """Labels [N,C] float32, from a column a rater; [N] int32 where the raters agree on every text."""

    def __init__(self, config: DataConfig, ordered: bool):
        """Takes the settings, and whether the classes must have an order."""
        self._config, self._ordered = config, ordered
        self._columns = split_columns(config.rater_columns)

    def read(self, row: Row) -> tuple[str, ...]:
        """A class for every rater, or "" where one gave none; raises `UserError` if none of them gave one."""
        given = tuple(self._rating(row, column) for column in self._columns)
        if not any(given):
            raise UserError(
                f"{row.place}, columns {first_of(self._columns)}: expected a class in one of them, got none"
            )
        return given

    def encode(
        self, name: str, labels: list[tuple[str, ...]], places: Sequence[str], class_names: Sequence[str]
    ) -> EncodedLabels:
        """The shares of the votes, the classes, and who gave which."""
        given = np.array([[bool(rating) for rating in row] for row in labels])  # [N,R]
        rows = np.nonzero(given)[0]
        known = tuple(class_names) or ordered_names(self._config)
        if not known:
            config = dataclasses.replace(self._config, label_column=self._config.rater_columns)
            every = [rating for row in labels for rating in row if rating]
            known = tuple(find_class_names(name, every, take(places, rows), config))
            if self._ordered:
                require_rising(name, config.label_column, known)
        ratings = np.full(given.shape, NONE, np.int32)
        for rater, column in enumerate(self._columns):
            own = np.flatnonzero(given[:, rater])
            config = dataclasses.replace(self._config, label_column=column)
            values = [labels[row][rater] for row in own.tolist()]
            ratings[own, rater] = find_indices(name, values, take(places, own), config, known)
        votes = count_votes(ratings, len(known))
        return EncodedLabels(with_certainty(votes / votes.sum(axis=1, keepdims=True)), known, ratings)

    def _rating(self, row: Row, column: str) -> str:
        value = plain(value_of(row, column))
        if is_missing(value) or (isinstance(value, str) and not value.strip()):
            return ""
        return sys.intern(label_of(value, f"{row.place}, column {column!r}"))


def count_votes(ratings: np.ndarray, classes: int) -> np.ndarray:
    """[N,C] float32, how many raters gave each text each class, of `TextDataset.ratings` [N,R]."""
    rows, raters = np.nonzero(ratings != NONE)
    votes = np.zeros((len(ratings), classes), np.float32)
    np.add.at(votes, (rows, ratings[rows, raters]), 1)
    return votes
