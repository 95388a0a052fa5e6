"""All splits of a dataset under one numbering, and single texts as a person sees them."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from amsdff_jax.base.escaping import printable
from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.data.sources import DataSplits

EXCERPT = 240  # characters of a text that a report shows
BEFORE = 60  # of them before the place of interest

TITLES = {"train": "training", "validation": "validation", "test": "test"}


@dataclasses.dataclass(frozen=True)
class Sample:
    """One text in a report, printable: `id` is its place in the file, `text` an excerpt."""

    split: str
    id: str
    label: str
    text: str
    text_pair: str | None = None


class Corpus:
    """The texts of all splits, one after the other.

    Attributes:
      names: the S splits.
      datasets: the splits themselves.
      split_of: [N] int, the split of each text, an index into `names`.
      labels: [N] int32, the class of each text, of distributions the likeliest.
    """

    def __init__(self, splits: DataSplits):
        present = {name: dataset for name, dataset in splits._asdict().items() if dataset is not None}
        self.names: Sequence[str] = tuple(present)
        self.datasets: Sequence[TextDataset] = tuple(present.values())
        sizes = [len(dataset) for dataset in self.datasets]
        self._starts = np.concatenate([[0], np.cumsum(sizes)])
        self.split_of = np.repeat(np.arange(len(sizes)), sizes)
        self.labels = np.concatenate([dataset.classes for dataset in self.datasets])

    def __len__(self) -> int:
        return len(self.split_of)

    def parts(self, index: int) -> tuple[str, ...]:
        """The text of that number, with its second text if it has one."""
        dataset, row = self._find(index)
        return (dataset.texts[row],) if dataset.text_pairs is None else (dataset.texts[row], dataset.text_pairs[row])

    def sample(self, index: int, places: Sequence[int] = (0, 0)) -> Sample:
        """The text of that number for a report.

        Args:
          places: the character of each part that the excerpt must show.
        """
        dataset, row = self._find(index)
        shown = [excerpt(part, place) for part, place in zip(self.parts(index), places, strict=False)]
        return Sample(
            self.names[int(self.split_of[index])],
            printable(str(dataset.ids[row])),
            printable(dataset.class_names[self.labels[index]]),
            *shown,
        )

    def _find(self, index: int) -> tuple[TextDataset, int]:
        split = int(self.split_of[index])
        return self.datasets[split], int(index - self._starts[split])


def excerpt(text: str, place: int = 0) -> str:
    """At most `EXCERPT` characters of a text around one of its characters, printable, with … where it is truncated."""
    start = max(0, min(place - BEFORE, len(text) - EXCERPT))
    end = start + EXCERPT
    return ("…" if start else "") + printable(text[start:end]) + ("…" if end < len(text) else "")
