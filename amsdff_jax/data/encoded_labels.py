"""Labels that users hand over, as arrays: a class a text, which classes each text has, or a number a text."""

from typing import Any

import numpy as np

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.validation import first_of, nearest, shown
from amsdff_jax.data.rows import is_list, listed, plain


def labels_in_order(labels: Any, dataset: str) -> Any:
    """The labels by position: an array [N,C], or one of the type that labels have here, as it is, else a list.

    Raises:
      UserError: no list; names the dataset.
    """
    as_it_is = getattr(labels, "ndim", 1) == 2 or _is_encoded(labels)
    return labels if as_it_is else listed(labels, f"{dataset}: labels")


def encode_labels(labels: Any, class_names: tuple[str, ...], dataset: str) -> np.ndarray:
    """Labels as an array: [N] int32, indices of classes, [N,C] bool where texts may have several, or [N] float64.

    Args:
      labels: classes by name or index; or for every text a list of names, perhaps an empty one; or an array [N,C], 1
        where a text has a class, else 0; or, where there is one name alone, floating-point numbers.
      class_names: the C classes.
      dataset: what messages call the dataset.

    Raises:
      UserError: a label that is no class; names its row, from 0.
    """
    if _is_encoded(labels):
        number = labels.dtype == np.float64
        fits = np.isfinite(labels) if number else (labels >= 0) & (labels < len(class_names))
        if fits.all() and (not number or len(class_names) == 1):  # in time and memory that millions have, too
            return labels.copy()
        labels = labels.tolist()
    if not isinstance(labels, list):
        return _indicators(np.asarray(labels), class_names, dataset)
    if len(class_names) == 1 and labels and all(isinstance(plain(label), float) for label in labels):
        return _numbers(labels, dataset)
    several = bool(labels) and is_list(plain(labels[0]))
    return (_sets if several else _classes)(labels, class_names, dataset)


def task_of_labels(labels: np.ndarray) -> str:
    """The kind of task that labels are for which `encode_labels` has made; of ordered classes, too, "single"."""
    return {"b": "multi_label", "f": "regression"}.get(labels.dtype.kind, "single")


def label_kind(task: str) -> str:
    """What `task_of_labels` says of the labels of a kind of task, one of `TASKS`; they hold no order of classes."""
    return "single" if task == "ordinal" else task


def count_classes(labels: np.ndarray, number: int) -> np.ndarray:
    """[number] int64, how many texts there are of each class, of labels [N] or [N,number]; of numbers all texts."""
    if task_of_labels(labels) == "regression":
        return np.array([len(labels)])
    return labels.sum(axis=0, dtype=np.int64) if labels.ndim == 2 else np.bincount(labels, minlength=number)


def _is_encoded(labels: Any) -> bool:
    return type(labels) is np.ndarray and labels.ndim == 1 and labels.dtype in (np.int32, np.float64)


def _numbers(labels: list[Any], dataset: str) -> np.ndarray:
    numbers = np.array(labels, np.float64)
    for row in np.flatnonzero(~np.isfinite(numbers)).tolist():
        raise UserError(f"{dataset}: labels[{row}]: expected a finite number, got {shown(labels[row])}")
    return numbers


def _indicators(labels: np.ndarray, class_names: tuple[str, ...], dataset: str) -> np.ndarray:
    if labels.shape[1] != len(class_names):
        raise UserError(
            f"{dataset}: labels: expected a column for each of the {len(class_names)} classes, got {labels.shape[1]}"
        )
    wrong = np.argwhere((labels != 0) & (labels != 1))
    if len(wrong):
        row, column = wrong[0].tolist()
        place, got = f"{dataset}: labels[{row}][{column}]", shown(labels[row, column].item())
        raise UserError(f"{place}: expected 1 where the text has the class, else 0, got {got}")
    return labels.astype(bool)


def _classes(labels: list[Any], class_names: tuple[str, ...], dataset: str) -> np.ndarray:
    positions = {name: index for index, name in enumerate(class_names)}
    indices = np.zeros(len(labels), np.int32)
    for row, label in enumerate(labels):
        indices[row] = _index(label, positions, class_names, f"{dataset}: labels[{row}]")
    return indices


def _sets(labels: list[Any], class_names: tuple[str, ...], dataset: str) -> np.ndarray:
    positions = {name: index for index, name in enumerate(class_names)}
    encoded = np.zeros((len(labels), len(class_names)), bool)
    for row, names in enumerate(labels):
        place, names = f"{dataset}: labels[{row}]", plain(names)
        # Of numbers nobody could tell whether they are indices, or zeros and ones.
        if not is_list(names) or not all(isinstance(name, str) for name in names):
            raise UserError(
                f"{place}: expected a list of names of classes, or of all texts an array of zeros and ones with a "
                f"column a class, got {shown(names)}"
            )
        for name in names:
            encoded[row, _index(name, positions, class_names, place)] = True
    return encoded


def _index(label: Any, positions: dict[str, int], class_names: tuple[str, ...], place: str) -> int:
    label = plain(label)
    if isinstance(label, str):
        index = positions.get(label, -1)
    elif isinstance(label, float) and label.is_integer():  # a column with missing values was made one of floats
        index = int(label)
    else:
        index = label if isinstance(label, int) else -1
    if not 0 <= index < len(class_names):
        near = nearest(label, class_names) if isinstance(label, str) else ""
        raise UserError(
            f"{place}: expected 0 to {len(class_names) - 1}, or one of the classes "
            f"{first_of(class_names)}, got {shown(label)}{near}"
        )
    return index
