"""Few-shot learning: some texts of each class, as if no more had been labelled."""

import numpy as np

from amsdff_jax.base.errors import UserError
from amsdff_jax.data.dataset import KINDS, TextDataset


def draw_shots(dataset: TextDataset, shots: int, seed: int) -> TextDataset:
    """The texts that are left of a dataset with `shots` of each class, in its order; all of a class that has fewer.

    The same seed draws the same texts first, so that those of fewer shots are among those of more.

    Raises:
      UserError: labels that are not one class a text.
    """
    if dataset.task != "single":
        problem = f"{shots}, but {dataset.name} has {KINDS[dataset.task]}, and shots are texts of a class"
        raise UserError(f"data.shots: {problem}; expected 0")
    order = np.random.default_rng(seed).permutation(len(dataset))
    drawn = [order[dataset.classes[order] == label][:shots] for label in range(len(dataset.class_names))]
    return dataset.take(np.sort(np.concatenate(drawn)), f"{dataset.name} ({shots} a class)")
