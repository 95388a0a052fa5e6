"""From the values of a label column to classes and their numbers."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from amsdff_jax.config import DataConfig
from amsdff_jax.errors import UserError
from amsdff_jax.validation import nearest


def label_of(value: Any, where: str) -> str:
    """A label as text.

    Args:
      where: file, row and column that hold the value, for messages.

    Raises:
      UserError: the value is neither a class name nor an integer.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, (str, int)) or not str(value).strip():
        raise UserError(f"{where}: expected a class name or an integer, got {value!r}")
    label = str(value).strip()
    if any("\ud800" <= character <= "\udfff" for character in label):
        raise UserError(f"{where}: {label!r} holds half of a character; mend it")
    return label


def find_class_names(path: str, labels: list[str], places: list[str], config: DataConfig) -> list[str]:
    """The classes of a file's labels: names sorted as text, integers as numbers.

    Raises:
      UserError: a label that is no integer among integers, or a single class.
    """
    distinct = set(labels)
    integers = sum(map(_is_integer, labels))
    # A stray word among integers is a slip, not a class.
    if config.label_type == "integer" or (config.label_type == "auto" and 2 * integers > len(labels)):
        for label, place in zip(labels, places, strict=True):
            if not _is_integer(label):
                raise UserError(
                    f"{path}: {place}, column {config.label_column!r}: {label!r} is not a number, as other labels are; "
                    "mend it, or set --config.data.label_type=name"
                )
        names = [str(value) for value in sorted({int(label) for label in distinct})]
    else:
        names = sorted(distinct)
    if len(names) < 2:
        raise UserError(
            f"{path}: column {config.label_column!r} holds a single class, {names[0]!r}; expected at least two"
        )
    return names


def find_indices(
    path: str, labels: list[str], places: list[str], config: DataConfig, class_names: Sequence[str]
) -> np.ndarray:
    """Where the labels stand in `class_names`, [N] int32.

    Raises:
      UserError: a label that is not among them.
    """
    positions = {name: index for index, name in enumerate(class_names)}
    indices = np.zeros(len(labels), np.int32)
    for row, (label, place) in enumerate(zip(labels, places, strict=True)):
        if label not in positions and _is_integer(label):
            label = str(int(label))
        if label not in positions:
            known = ", ".join(list(class_names)[:10]) + (", ..." if len(class_names) > 10 else "")
            raise UserError(
                f"{path}: {place}, column {config.label_column!r}: training never saw the label {label!r}, only "
                f"{known}{nearest(label, class_names)}"
            )
        indices[row] = positions[label]
    return indices


def _is_integer(label: str) -> bool:
    try:
        int(label)
    except ValueError:
        return False
    return True
