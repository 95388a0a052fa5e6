"""How many texts every class has."""

import dataclasses

import numpy as np

from amsdff_jax.base.escaping import printable
from amsdff_jax.inspection.corpus import Corpus


@dataclasses.dataclass(frozen=True)
class ClassBalance:
    """Texts by class."""

    class_names: tuple[str, ...]  # the C classes, in the order of the logits
    counts: dict[str, tuple[int, ...]]  # of each split, C numbers of texts

    def shares(self, split: str) -> np.ndarray:
        """[C] float64, the share of each class in a split; their sum is 1."""
        counts = np.array(self.counts[split])
        return counts / counts.sum()

    def distance(self, split: str, other: str) -> float:
        """Total variation distance: the share of texts that would need another class for equal shares."""
        return float(np.abs(self.shares(split) - self.shares(other)).sum() / 2)


def count_classes(corpus: Corpus) -> ClassBalance:
    """Counts the texts of every class in every split."""
    names = corpus.datasets[0].class_names
    return ClassBalance(
        tuple(map(printable, names)),
        {
            split: tuple(dataset.class_counts.tolist())
            for split, dataset in zip(corpus.names, corpus.datasets, strict=True)
        },
    )
