"""Labelled texts in memory, and their stratified split."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from amsdff_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class TextDataset:
    """Texts with their classes.

    Attributes:
      texts: the N texts.
      labels: [N] int32, indices into `class_names`.
      class_names: the C classes, in the order of the logits.
      text_pairs: the N second texts, or None where a text stands alone.
      ids: N names of the texts for reports, such as their row in a file; by default 0, 1, ...
      name: what messages call the dataset, such as a file's path.
    """

    texts: Sequence[str]
    labels: np.ndarray
    class_names: tuple[str, ...]
    text_pairs: Sequence[str] | None = None
    ids: Sequence[str] | None = None
    name: str = "data"

    def __post_init__(self) -> None:
        labels = np.asarray(self.labels, np.int32)
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "class_names", tuple(map(str, self.class_names)))
        if self.ids is None:
            object.__setattr__(self, "ids", [str(index) for index in range(len(self.texts))])
        for what, values in (("labels", labels), ("text_pairs", self.text_pairs), ("ids", self.ids)):
            if values is not None and len(values) != len(self.texts):
                raise UserError(f"{self.name}: {len(values)} {what} for {len(self.texts)} texts")
        if not len(self.texts):
            raise UserError(f"{self.name}: holds no text; expected at least one")
        if len(labels) and not (labels.min() >= 0 and labels.max() < len(self.class_names)):
            raise UserError(
                f"{self.name}: labels run from {labels.min()} to {labels.max()}, expected 0 to "
                f"{len(self.class_names) - 1} for {len(self.class_names)} classes"
            )

    def __len__(self) -> int:
        return len(self.texts)

    def require_classes(self, class_names: Sequence[str], owner: str) -> None:
        """Raises `UserError` unless the classes are `class_names`, which `owner` has, in that order."""
        if self.class_names != tuple(class_names):
            raise UserError(
                f"{self.name}: its {len(self.class_names)} classes ({_shortened(self.class_names)}) are not the "
                f"{len(class_names)} of {owner} ({_shortened(class_names)}); read it with these, as read_file does "
                "when it is given class_names"
            )

    def take(self, indices: np.ndarray, name: str) -> "TextDataset":
        """The texts at `indices`, in that order."""
        return TextDataset(
            texts=[self.texts[index] for index in indices],
            labels=self.labels[indices],
            class_names=self.class_names,
            text_pairs=None if self.text_pairs is None else [self.text_pairs[index] for index in indices],
            ids=[self.ids[index] for index in indices],
            name=name,
        )

    def join(self, other: "TextDataset") -> "TextDataset":
        """The texts of both, which have the same classes."""
        pairs = None if self.text_pairs is None else [*self.text_pairs, *other.text_pairs]
        return TextDataset(
            texts=[*self.texts, *other.texts],
            labels=np.concatenate([self.labels, other.labels]),
            class_names=self.class_names,
            text_pairs=pairs,
            ids=[*self.ids, *other.ids],
            name=self.name,
        )


def stratified_split(dataset: TextDataset, fraction: float, seed: int) -> tuple[TextDataset, TextDataset]:
    """Splits a part off in which every class keeps its share.

    Every class keeps at least one text in the first part, so a class of one text is never split off.

    Args:
      fraction: share of the texts that go into the second part.
      seed: of the shuffle.

    Returns:
      The larger and the smaller part, each in the order of `dataset`.

    Raises:
      UserError: no class has the two texts that a split needs.
    """
    counts = np.bincount(dataset.labels, minlength=len(dataset.class_names))
    wanted = counts * fraction
    taken = np.floor(wanted).astype(int)
    # Largest remainders first, so that the parts add up to the fraction asked for.
    missing = max(round(len(dataset) * fraction), 1) - taken.sum()
    for label in np.argsort(taken - wanted, kind="stable"):
        if missing <= 0:
            break
        if taken[label] + 1 < counts[label]:
            taken[label] += 1
            missing -= 1
    if taken.sum() == 0:
        raise UserError(f"{dataset.name}: too few texts ({len(dataset)}) to take a validation split from; name one")
    order = np.random.default_rng(seed).permutation(len(dataset))
    split_off = np.zeros(len(dataset), bool)
    for label, number in enumerate(taken):
        split_off[order[dataset.labels[order] == label][:number]] = True
    return (
        dataset.take(np.flatnonzero(~split_off), f"{dataset.name} (training part)"),
        dataset.take(np.flatnonzero(split_off), f"{dataset.name} (validation part)"),
    )


def _shortened(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
