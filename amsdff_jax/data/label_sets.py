"""How the labels of rows are read: one a text, any number as a list, a separated text or columns, or a number."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.validation import first_of, require, shown
from amsdff_jax.config import DataConfig
from amsdff_jax.config.columns import split_columns
from amsdff_jax.data.encoded_labels import EncodedLabels, require_sum, with_certainty
from amsdff_jax.data.labels import find_class_names, find_indices, label_of, ordered_names, require_rising
from amsdff_jax.data.raters import RaterColumns
from amsdff_jax.data.rows import Row, is_list, is_missing, plain, value_of
from amsdff_jax.data.stored_texts import take

SEVERAL_LABELS = ("label_columns", "label_separator", "label_hierarchy")  # settings of `DataConfig`
TRUTH = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}


class LabelReader(Protocol):
    """What is known of the labels of a kind of task."""

    def read(self, row: Row) -> Any:
        """The label of a row; raises `UserError` with its place."""
        ...

    def encode(self, name: str, labels: list[Any], places: Sequence[str], class_names: Sequence[str]) -> EncodedLabels:
        """The labels of all rows as numbers, and the classes, which are taken from the labels if none are given."""
        ...


def label_columns(config: DataConfig) -> tuple[str, ...]:
    """The columns that hold labels."""
    return split_columns(config.label_columns or config.rater_columns) or (config.label_column,)


def choose_reader(config: DataConfig, task: str, first: Row) -> LabelReader:
    """The reader for a kind of task.

    Args:
      task: of `TASKS`, or "" for what the labels themselves tell.
      first: the row that tells by its label, if nothing else does, that there may be several.
    """
    if task == "regression":
        return _Number(config)
    if config.rater_columns:
        if task == "multi_label":
            _require_empty(config, ("rater_columns",), "with several labels a text; raters vote for its one")
        return RaterColumns(config, ordered=task == "ordinal")
    if task == "ordinal":
        _require_empty(config, SEVERAL_LABELS[1:], "with task.kind=ordinal, where a text has one label")
        if config.label_columns:
            _require_empty(config, ("label_order",), "beside data.label_columns, which have the order of the classes")
            return _ColumnALabel(config, task)
        return _OneLabel(config, ordered=True)
    tells = is_list(plain(first.values.get(config.label_column)))
    if task == "multi_label" or tells or any(getattr(config, name) for name in SEVERAL_LABELS):
        _require_empty(config, ("label_order",), "where a text may have several labels, which have no order")
    if config.label_columns:
        return _ColumnALabel(config, task)
    if task == "multi_label" or config.label_separator or config.label_hierarchy or tells:
        return _ListOfLabels(config, single_names=task == "multi_label" or bool(config.label_hierarchy))
    return _OneLabel(config)


def _require_empty(config: DataConfig, names: Sequence[str], where: str) -> None:
    for name in names:
        value = getattr(config, name)
        require(not value, f"data.{name}", value, f"nothing {where}")


class _OneLabel:
    """Labels [N] int32."""

    def __init__(self, config: DataConfig, ordered: bool = False):
        """Takes the settings, and whether the classes must have an order."""
        self._config, self._ordered = config, ordered

    def read(self, row: Row) -> str:
        column = self._config.label_column
        return label_of(value_of(row, column), f"{row.place}, column {column!r}")

    def encode(self, name: str, labels: list[str], places: Sequence[str], class_names: Sequence[str]) -> EncodedLabels:
        known = tuple(class_names) or ordered_names(self._config)
        if not known:
            known = tuple(find_class_names(name, labels, places, self._config))
            if self._ordered:
                require_rising(name, self._config.label_column, known)
        return EncodedLabels(find_indices(name, labels, places, self._config, known), known)


class _Number:
    """Labels [N] float64; the only name is that of the column."""

    def __init__(self, config: DataConfig):
        where = "with task.kind=regression, whose labels are numbers"
        _require_empty(config, (*SEVERAL_LABELS, "rater_columns", "label_order"), where)
        self._column = config.label_column

    def read(self, row: Row) -> float:
        value = plain(value_of(row, self._column))
        number = math.nan if isinstance(value, bool) else _number(value)
        if not math.isfinite(number):
            raise UserError(f"{row.place}, column {self._column!r}: expected a finite number, got {shown(value)}")
        return number

    def encode(
        self, name: str, labels: list[float], places: Sequence[str], class_names: Sequence[str]
    ) -> EncodedLabels:
        if not class_names and min(labels) == max(labels):
            raise UserError(
                f"{name}: column {self._column!r}: all labels are {labels[0]:g}; expected different numbers"
            )
        return EncodedLabels(np.array(labels, np.float64), tuple(class_names) or (self._column,))


class _ListOfLabels:
    """Labels [N,C] bool, from one column."""

    def __init__(self, config: DataConfig, single_names: bool):
        """Takes the settings, and whether a name that is in no list is one label."""
        if config.label_hierarchy and config.label_type == "auto":  # of 1.0, which is below 1, both are names
            config = dataclasses.replace(config, label_type="name")
        self._config, self._single_names = config, single_names

    def read(self, row: Row) -> list[str]:
        column, separator = self._config.label_column, self._config.label_separator
        place = f"{row.place}, column {column!r}"
        value = plain(value_of(row, column))
        if is_list(value):
            values = [plain(each) for each in value]
        elif separator and isinstance(value, str):
            values = value.split(separator) if value.strip() else []
        elif separator and is_missing(value):  # an empty field of CSV, in other formats
            values = []
        elif self._single_names or separator:
            values = [value]
        else:
            raise UserError(f"{place}: expected a list of labels, as in other rows, got {shown(value)}")
        return self._expand([label_of(each, place) for each in values], place)

    def encode(
        self, name: str, labels: list[list[str]], places: Sequence[str], class_names: Sequence[str]
    ) -> EncodedLabels:
        rows = np.repeat(np.arange(len(labels)), np.fromiter(map(len, labels), np.int64, len(labels)))
        flat, flat_places = [each for names in labels for each in names], take(places, rows)
        known = tuple(class_names) or self._class_names(name, flat, flat_places)
        encoded = np.zeros((len(labels), len(known)), bool)
        encoded[rows, find_indices(name, flat, flat_places, self._config, known)] = True
        return EncodedLabels(encoded, known)

    def _class_names(self, name: str, labels: list[str], places: Sequence[str]) -> tuple[str, ...]:
        if not labels:
            raise UserError(f"{name}: column {self._config.label_column!r}: no row has a label; expected at least two")
        return tuple(find_class_names(name, labels, places, self._config))

    def _expand(self, names: list[str], place: str) -> list[str]:
        """With a hierarchy the names that each name lies under, too; separators around a name do not count."""
        separator = self._config.label_hierarchy
        if not separator:
            return names
        found = []
        for name in names:
            parts = [part.strip() for part in name.split(separator)]
            named = [depth for depth, part in enumerate(parts) if part]
            parts = parts[named[0] : named[-1] + 1] if named else [""]
            if not all(parts):
                expected = f"names such as a{separator}b, with something on either side of {separator!r}"
                raise UserError(f"{place}: label_hierarchy: expected {expected}, got {shown(name)}")
            found += [separator.join(parts[:depth]) for depth in range(1, len(parts) + 1)]
        return found


class _ColumnALabel(_ListOfLabels):
    """Labels from a column each, in the order in which the settings name them: zeros and ones, or probabilities.

    They are [N,C] bool, or where one number at least is neither 0 nor 1, [N,C] float32. Where a text has one label, as
    a model or `task.kind=ordinal` says, zeros and ones are probabilities, too, and if there is nothing else [N] int32.
    """

    def __init__(self, config: DataConfig, task: str):
        super().__init__(config, single_names=False)
        self._columns, self._task = split_columns(config.label_columns), task
        self._several = task == "multi_label" or bool(config.label_hierarchy)

    def read(self, row: Row) -> Any:
        """The names of the columns that hold 1, or all numbers, float32, if there are others than 0 and 1."""
        numbers = [self._probability(row, column) for column in self._columns]
        if all(number in (0, 1) for number in numbers):
            return self._expand(
                [column for column, number in zip(self._columns, numbers, strict=True) if number], row.place
            )
        require_sum(math.fsum(numbers), self._place(row.place))
        return np.array(numbers, np.float32).tobytes()

    def encode(self, name: str, labels: list[Any], places: Sequence[str], class_names: Sequence[str]) -> EncodedLabels:
        known: tuple[str, ...] = tuple(dict.fromkeys(self._expand(list(self._columns), name)))
        if class_names and set(class_names) != set(known):
            raise UserError(
                f"{name}: label_columns: expected a column for each of the classes {first_of(class_names)}, got "
                f"{first_of(known)}"
            )
        if len(known) < 2:
            raise UserError(f"{name}: label_columns: names a single class, {first_of(known)}; expected at least two")
        known = tuple(class_names) or known
        one = self._task == "ordinal" or (self._task == "single" and len(class_names) > 0 and not self._several)
        if not one and not any(isinstance(label, bytes) for label in labels):
            return super().encode(name, labels, places, known)
        probabilities = np.zeros((len(labels), len(known)), np.float32)
        order = [self._columns.index(column) for column in known]
        uncertain = [row for row, label in enumerate(labels) if isinstance(label, bytes)]
        given = np.frombuffer(b"".join(labels[row] for row in uncertain), np.float32).reshape(-1, len(known))
        probabilities[uncertain] = given[:, order]
        for row, label in enumerate(labels):
            if not isinstance(label, bytes):
                require_sum(len(label), f"{name}: {self._place(places[row])}")
                probabilities[row, known.index(label[0])] = 1
        return EncodedLabels(with_certainty(probabilities), known)

    def _place(self, row: str) -> str:
        return f"{row}, columns {first_of(self._columns)}"

    def _probability(self, row: Row, column: str) -> float:
        value = plain(value_of(row, column))
        number = TRUTH.get(str(value).strip().lower())
        if number is None:
            number = _number(value)
        if not 0 <= number <= 1 or (self._several and number not in (0, 1)):
            other = "" if self._several else ", or its probability"
            expected = f"1 where the text has the label, else 0{other}"
            raise UserError(f"{row.place}, column {column!r}: expected {expected}, got {shown(value)}")
        return float(number)


def _number(value: Any) -> float:
    """The number that a value is or writes; NaN if it is none."""
    try:
        # Python reads 1_5 as 15, which nobody means in a file.
        return math.nan if isinstance(value, str) and "_" in value else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
