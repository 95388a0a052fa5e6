"""Labels that users hand over, as arrays: a class a text, certain or not, which classes each text has, or a number."""

from typing import Any, NamedTuple

import numpy as np

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.validation import first_of, nearest, shown
from amsdff_jax.data.rows import is_list, listed, plain

LARGEST_DEVIATION = 1e-3 + 1e-6  # of the sum of a text's probabilities from 1; three times 0.333 is within


class EncodedLabels(NamedTuple):
    """The labels of N texts, and their classes.

    Attributes:
      labels: as `encode_labels` gives them.
      class_names: the C classes.
      ratings: [N,R] int32, the class that each of R raters gave, -1 where one gave none; None: there are no raters.
    """

    labels: np.ndarray
    class_names: tuple[str, ...]
    ratings: np.ndarray | None = None


def labels_in_order(labels: Any, dataset: str) -> Any:
    """The labels by position: an array [N,C], or one of the type that labels have here, as it is, else a list.

    Raises:
      UserError: no list; names the dataset.
    """
    as_it_is = getattr(labels, "ndim", 1) == 2 or _is_encoded(labels)
    return labels if as_it_is else listed(labels, f"{dataset}: labels")


def encode_labels(labels: Any, class_names: tuple[str, ...], dataset: str) -> np.ndarray:
    """Labels as an array: [N] int32, indices of classes, [N,C] bool where texts may have several, or [N] float64.

    Where a text's class is not certain, [N,C] float32, the probability of each.

    Args:
      labels: classes by name or index; or for every text a list of names, perhaps an empty one; or an array [N,C], 1
        where a text has a class, else 0; or one of probabilities, not all of them 0 or 1, whose rows add up to 1; or,
        where there is one name alone, floating-point numbers.
      class_names: the C classes.
      dataset: what messages call the dataset.

    Raises:
      UserError: a label that is no class, or a row that does not add up to 1; names its row, from 0.
    """
    if _is_encoded(labels):
        number = labels.dtype == np.float64
        fits = np.isfinite(labels) if number else (labels >= 0) & (labels < len(class_names))
        if fits.all() and (not number or len(class_names) == 1):  # in time and memory that millions have, too
            return labels.copy()
        labels = labels.tolist()
    if not isinstance(labels, list):
        return _columns(np.asarray(labels), class_names, dataset)
    if len(class_names) == 1 and labels and all(isinstance(plain(label), float) for label in labels):
        return _numbers(labels, dataset)
    several = bool(labels) and is_list(plain(labels[0]))
    return (_sets if several else _classes)(labels, class_names, dataset)


def task_of_labels(labels: np.ndarray) -> str:
    """The kind of task that labels are for which `encode_labels` has made.

    Of ordered classes, too, and of distributions over classes it is "single".
    """
    if is_distribution(labels):
        return "single"
    return {"b": "multi_label", "f": "regression"}.get(labels.dtype.kind, "single")


def is_distribution(labels: Any) -> bool:
    """Whether labels, an array of NumPy or JAX, hold for every text a distribution over the classes."""
    return labels.ndim == 2 and labels.dtype.kind == "f"


def likeliest_classes(labels: Any) -> Any:
    """The likeliest class in the place of each distribution, [N] int32, of equals the first; other labels as they are.

    Args:
      labels: an array of NumPy or JAX.
    """
    return labels.argmax(axis=-1).astype(np.int32) if is_distribution(labels) else labels


def with_certainty(labels: np.ndarray) -> np.ndarray:
    """The classes [N] int32 where all distributions are certain, of which nothing else would tell; else `labels`."""
    certain = is_distribution(labels) and ((labels == 0) | (labels == 1)).all()
    return likeliest_classes(labels) if certain else labels


def join_labels(one: np.ndarray, other: np.ndarray, number: int) -> np.ndarray:
    """The labels of both, of one kind of task; classes are distributions where others are.

    Args:
      number: of classes.
    """
    if is_distribution(one) != is_distribution(other):
        one, other = (
            each if is_distribution(each) else np.eye(number, dtype=np.float32)[each] for each in (one, other)
        )
    return np.concatenate([one, other])


def require_sum(total: float, place: str) -> None:
    """Raises `UserError` unless the probabilities of a text, which stand at `place`, add up to 1."""
    if abs(total - 1) > LARGEST_DEVIATION:
        raise UserError(
            f"{place}: expected probabilities that add up to 1 (zeros and ones alone, in all rows, are several labels "
            f"a text), got a sum of {total:.6g}"
        )


def label_kind(task: str) -> str:
    """What `task_of_labels` says of the labels of a kind of task, one of `TASKS`; they hold no order of classes."""
    return "single" if task == "ordinal" else task


def count_classes(labels: np.ndarray, number: int) -> np.ndarray:
    """[number] int64, how many texts there are of each class, of distributions the likeliest; of numbers all texts."""
    task = task_of_labels(labels)
    if task == "regression":
        return np.array([len(labels)])
    if task == "multi_label":
        return labels.sum(axis=0, dtype=np.int64)
    return np.bincount(likeliest_classes(labels), minlength=number)


def _is_encoded(labels: Any) -> bool:
    return type(labels) is np.ndarray and labels.ndim == 1 and labels.dtype in (np.int32, np.float64)


def _numbers(labels: list[Any], dataset: str) -> np.ndarray:
    numbers = np.array(labels, np.float64)
    for row in np.flatnonzero(~np.isfinite(numbers)).tolist():
        raise UserError(f"{dataset}: labels[{row}]: expected a finite number, got {shown(labels[row])}")
    return numbers


def _columns(labels: np.ndarray, class_names: tuple[str, ...], dataset: str) -> np.ndarray:
    if labels.shape[1] != len(class_names):
        raise UserError(
            f"{dataset}: labels: expected a column for each of the {len(class_names)} classes, got {labels.shape[1]}"
        )
    right = (labels == 0) | (labels == 1)
    if right.all():
        return labels.astype(bool)
    if labels.dtype.kind == "f":
        right = (labels >= 0) & (labels <= 1)
    if not right.all():
        row, column = np.argwhere(~right)[0].tolist()
        place, got = f"{dataset}: labels[{row}][{column}]", shown(labels[row, column].item())
        raise UserError(f"{place}: expected 1 where the text has the class, else 0, or its probability, got {got}")
    totals = labels.sum(axis=1, dtype=np.float64)
    for row in np.flatnonzero(np.abs(totals - 1) > LARGEST_DEVIATION).tolist():
        require_sum(totals[row], f"{dataset}: labels[{row}]")
    return with_certainty(labels.astype(np.float32))


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
                f"{place}: expected a list of names of classes, or of all texts an array of zeros and ones, or of "
                f"probabilities, with a column a class, got {shown(names)}"
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
