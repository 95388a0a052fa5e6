"""From the values of a label column to classes and their numbers."""

import itertools
import logging
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.validation import first_of, nearest, shown
from amsdff_jax.config import DataConfig
from amsdff_jax.config.columns import split_columns

logger = logging.getLogger(__name__)

LONGEST_NAME = 1000  # characters
LONGEST_NUMBER = 50  # digits
MOST_FRACTIONS = 50  # different numbers, some of them not whole, that may still be classes, such as versions
HEADER = "if the row is the header again, remove it"

# A number as programs write it. What is written otherwise (01, 1_1, +1, 1.10) is a code: every character counts.
_NUMBER = re.compile(r"(-?(?:0|[1-9][0-9]*))(?:\.(0+)|\.[0-9]*[1-9])?")
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?")


def label_of(value: Any, where: str) -> str:
    """A label as text, the same from every format: numbers as Python and pandas write them, truth values as `True`.

    Args:
      where: file, row and column that hold the value, for messages.

    Raises:
      UserError: the value is neither a class name nor a number.
    """
    label = label_text(value)
    if not label:
        raise UserError(f"{where}: expected a class name or a number, got {shown(value)}")
    longest = LONGEST_NUMBER if _DECIMAL.fullmatch(label) else LONGEST_NAME
    if len(label) > longest:
        raise UserError(
            f"{where}: expected a class name of at most {LONGEST_NAME:,} characters or a number of at most "
            f"{LONGEST_NUMBER} digits, got {shown(value)}; is this the column of the labels?"
        )
    if any("\ud800" <= character <= "\udfff" for character in label):
        raise UserError(f"{where}: {label!r} holds half of a character; fix it")
    return label


def find_class_names(path: str, labels: list[str], places: Sequence[str], config: DataConfig) -> list[str]:
    """The classes of a file's labels.

    Numbers are ordered as numbers, and 1.0 is 1, with a warning where a file holds both. Names are ordered as text.

    Args:
      labels: as `label_of` gives them.
      places: where in the file they stand.

    Raises:
      UserError: a label that is no number among numbers, or a single class.
    """
    numbers = {label: _number(label) for label in set(labels)}
    if config.label_type == "name" or (config.label_type == "auto" and not _are_numbers(labels, numbers)):
        ordered = config.label_type == "auto" and all(map(_DECIMAL.fullmatch, numbers))
        names = sorted(numbers, key=(lambda label: (Decimal(label), label)) if ordered else None)
    else:
        for label, place in zip(labels, places, strict=True):
            number, whole = numbers[label], config.label_type == "integer"
            if number is None or (whole and "." in number):
                expected = "a whole number such as 1, -2 or 1.0" if whole else "a number, as other labels are"
                raise UserError(
                    f"{path}: {place}, column {config.label_column!r}: {label!r} is not {expected}; "
                    f"{HEADER if label == config.label_column else 'fix it, or set label_type=name'}"
                )
        known = {label: number for label, number in numbers.items() if number is not None}
        names = sorted(set(known.values()), key=Decimal)
        if len(names) > MOST_FRACTIONS and any("." in name for name in names):
            raise UserError(
                f"{path}: column {config.label_column!r} holds {len(names):,} different numbers, not all whole; to "
                "predict a number set task.kind=regression, or data.label_type=name if each is a class"
            )
        _warn_of_joined(path, known)
    if len(names) < 2:
        raise UserError(
            f"{path}: column {config.label_column!r} holds a single class, {names[0]!r}; expected at least two"
        )
    return names


def ordered_names(config: DataConfig) -> tuple[str, ...]:
    """The classes of `data.label_order`, without the space around them that labels do not have either."""
    return tuple(name.strip() for name in split_columns(config.label_order, "data.label_order"))


def is_rising(names: Sequence[str]) -> bool:
    """Whether names of classes are numbers, each greater than the one before."""
    if not all(map(_DECIMAL.fullmatch, names)):
        return False
    numbers = list(map(Decimal, names))
    return all(lower < higher for lower, higher in itertools.pairwise(numbers))


def require_rising(path: str, column: str, names: Sequence[str]) -> None:
    """Raises `UserError` unless the names of a column's classes tell their order, as `is_rising` says."""
    if not is_rising(names):
        raise UserError(
            f"{path}: column {column!r} holds {first_of(names)}, whose order names do not "
            "tell; give it from the lowest to the highest, as in data.label_order=bad,fair,good"
        )


def find_indices(
    path: str, labels: list[str], places: Sequence[str], config: DataConfig, class_names: Sequence[str]
) -> np.ndarray:
    """Where the labels stand in `class_names`, [N] int32.

    A label is the class of its name. Where all classes are numbers 1.0 is 1, too, and where they are True and False
    case does not count, but for `label_type="name"`: files of other formats write them otherwise.

    Raises:
      UserError: a label that is not among them.
    """
    names = list(map(str, class_names))
    positions = {name: index for index, name in enumerate(names)}
    by_value = {} if config.label_type == "name" else {_value(name): index for index, name in enumerate(names)}
    if None in by_value or len(by_value) < len(names):
        by_value = {}
    indices = np.zeros(len(labels), np.int32)
    for row, (label, place) in enumerate(zip(labels, places, strict=True)):
        index = positions[label] if label in positions else by_value.get(_value(label))
        if index is None:
            unknown = f"training never saw the label {label!r}, only {first_of(names)}"
            if config.label_order:
                unknown = f"data.label_order does not name the label {label!r}, only {first_of(names)}"
            hint = f"; {HEADER}" if label == config.label_column else nearest(label, names)
            raise UserError(f"{path}: {place}, column {config.label_column!r}: {unknown}{hint}")
        indices[row] = index
    return indices


def label_text(value: Any) -> str:
    """The value as a label, the same from every format, or "" if it is none."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, (float, Decimal)):
        number = Decimal(_shortest(value)) if isinstance(value, float) else value
        return format(number, "f") if number.is_finite() else ""
    return ""


def _shortest(value: float) -> str:
    """The number with as many digits as it takes, which of 0.1 in single precision are not those of the double."""
    double = repr(value)
    if len(double) > 16 and not value.is_integer() and np.float32(value) == value:
        return str(np.float32(value))
    return double


def _number(label: str) -> str | None:
    """The label without its point if it is a whole number (1 for 1.0), as it is if another; None: it is no number."""
    match = _NUMBER.fullmatch(label)
    if not match or label == "-0":
        return None
    if "." in label and not match[2]:
        return label
    return "0" if match[1] == "-0" else match[1]


def _value(label: str) -> str | None:
    """What a number or a truth value has in common with itself in another format; None: it is neither."""
    return label.casefold() if label.casefold() in ("true", "false") else _number(label)


def _are_numbers(labels: list[str], numbers: dict[str, str | None]) -> bool:
    others = [label for label, number in numbers.items() if number is None]
    if any(map(_is_code, others)):
        return False
    # A stray word among numbers is a slip, not a class.
    return 2 * sum(numbers[label] is not None for label in labels) > len(labels)


def _is_code(label: str) -> bool:
    return any(map(str.isdigit, label)) and not any(map(str.isalpha, label))


def _warn_of_joined(path: str, numbers: dict[str, str]) -> None:
    spellings: dict[str, list[str]] = {}
    for label, number in sorted(numbers.items()):
        spellings.setdefault(number, []).append(label)
    joined = [" and ".join(labels) for labels in spellings.values() if len(labels) > 1]
    if joined:
        logger.warning(
            "%s: labels that are the same number are one class: %s; label_type=name keeps them apart",
            path,
            first_of(joined, "; "),
        )
