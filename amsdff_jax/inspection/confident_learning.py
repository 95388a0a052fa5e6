"""How many labels are wrong, and as what: confident learning (Northcutt et al., 2021)."""

import numpy as np
from jaxtyping import Bool, Float, Int

from amsdff_jax.evaluation.significance import Interval, wilson


def class_thresholds(probabilities: Float[np.ndarray, "N C"], labels: Int[np.ndarray, " N"]) -> Float[np.ndarray, " C"]:
    """The mean probability of each class over the texts of that label; infinity for a class without texts.

    Args:
      probabilities: by classifiers that were not trained on the text.
      labels: as given.
    """
    counts = np.bincount(labels, minlength=probabilities.shape[1])
    sums = np.bincount(labels, probabilities[np.arange(len(labels)), labels], minlength=len(counts))
    return np.where(counts, sums / np.maximum(counts, 1), np.inf)


def confident_joint(
    probabilities: Float[np.ndarray, "N C"],
    labels: Int[np.ndarray, " N"],
    judged: Bool[np.ndarray, " C"] | None = None,
) -> Int[np.ndarray, "C C"]:
    """How many texts of each given label (row) are confidently of each class (column).

    That is the most probable one of the classes whose probability reaches its threshold; texts of which none does are
    not counted.

    Args:
      probabilities, labels: as for `class_thresholds`.
      judged: the classes that count, as labels and as what texts are of; None: all. A class of few texts has a
        threshold near 0, which almost any text would reach.
    """
    judged = np.ones(probabilities.shape[1], bool) if judged is None else judged
    reached = (probabilities >= class_thresholds(probabilities, labels)) & judged
    confident = np.where(reached, probabilities, -1).argmax(axis=1)
    counted = reached.any(axis=1) & judged[labels]
    counts = np.zeros((probabilities.shape[1],) * 2, np.int64)
    np.add.at(counts, (labels[counted], confident[counted]), 1)
    return counts


def calibrated_counts(counts: Int[np.ndarray, "C C"], labels: Int[np.ndarray, " N"]) -> Float[np.ndarray, "C C"]:
    """The joint of given and true labels in texts: every row of the confident counts, scaled to its label's texts.

    A label of which no text was counted is taken for right.
    """
    own = np.bincount(labels, minlength=len(counts))
    sums = counts.sum(axis=1)
    shares = np.where(sums[:, None], counts / np.maximum(sums, 1)[:, None], np.eye(len(counts)))
    return shares * own[:, None]


def noise_rates(counts: Int[np.ndarray, "C C"]) -> list[tuple[float, Interval]]:
    """The share of each given label's confident texts that are of another class, with Wilson's 95 % interval.

    The interval is that of a share of so many texts; that the classifiers themselves may err is not in it. Of a label
    without confident texts nothing is known: the interval is all from 0 to 1.
    """
    sums, wrong = counts.sum(axis=1), counts.sum(axis=1) - counts.diagonal()
    return [
        (int(errors) / int(total), wilson(int(errors), int(total))) if total else (0.0, Interval(0.0, 1.0))
        for errors, total in zip(wrong, sums, strict=True)
    ]
