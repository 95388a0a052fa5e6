"""Stratification for texts with several labels each."""

from collections.abc import Sequence

import numpy as np


def iterative_parts(labels: np.ndarray, sizes: Sequence[float], seed: int) -> np.ndarray:
    """Divides texts into parts in which every class has about its share (Sechidis et al., 2011).

    The class with the fewest texts that are not in a part yet comes first: each of these goes to the part that lacks
    most texts of the class, of equals to the one that lacks most texts, of equals to one by chance. Texts without a
    class come last.

    Args:
      labels: [N,C] bool.
      sizes: how many texts each part is to have; they add up to N.
      seed: of the order of the texts and of chance.

    Returns:
      [N] the number of each text's part.
    """
    random = np.random.default_rng(seed)
    labels = np.asarray(labels, bool)
    room = np.array(sizes, float)
    lacking = np.outer(room / room.sum(), labels.sum(axis=0))  # [parts,C]
    part = np.full(len(labels), -1)
    left = labels.sum(axis=0)
    order = random.permutation(len(labels))

    def put(row: int, wanted: np.ndarray) -> None:
        best = np.flatnonzero(wanted == wanted.max())
        best = best[room[best] == room[best].max()]
        chosen = best[0] if len(best) == 1 else random.choice(best)
        part[row] = chosen
        lacking[chosen, labels[row]] -= 1
        room[chosen] -= 1

    while left.any():
        rarest = np.where(left > 0, left, len(labels) + 1).argmin()
        for row in order[labels[order, rarest] & (part[order] < 0)]:
            put(row, lacking[:, rarest])
            left[labels[row]] -= 1
    for row in order[part[order] < 0]:
        put(row, room)
    return part
