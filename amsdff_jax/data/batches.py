"""The batch plan: which texts go through the model together, padded to what length, in what order.

A plan is a pure function of its arguments, so a resumed run needs only its step number to find the
very batch that was next.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from amsdff_jax.config import Config
from amsdff_jax.data.encoded_labels import is_distribution, task_of_labels
from amsdff_jax.data.tokens import Tokens
from amsdff_jax.data.windows import Windows

FILLER = -1  # index of a row that stands for no text
BUCKET_MULTIPLE = 8  # lengths of buckets, so that shapes suit the hardware
BATCH_TYPES = {"single": np.int32, "multi_label": np.bool_, "regression": np.float32}  # of labels, by `label_kind`


class PlannedBatch(NamedTuple):
    """One batch: its padded length and the [B] indices of its texts, `FILLER` where there is none."""

    length: int
    indices: np.ndarray


class Batch(NamedTuple):
    """A batch as the model takes it. A row whose mask is all 0 is filler.

    Attributes:
      input_ids: [B,S] int32.
      attention_mask: [B,S] int32, 1 on real tokens.
      labels: [B] int32, 0 on filler; or [B,C] bool where a text may have several classes, none on filler; or [B]
        float32 where they are numbers; or [B,C] float32 where they are distributions, all 0 on filler.
    """

    input_ids: np.ndarray
    attention_mask: np.ndarray
    labels: np.ndarray


def choose_buckets(
    lengths: np.ndarray, number: int, max_length: int, windows: Windows | None = None
) -> tuple[int, ...]:
    """At most `number` padded lengths that leave as little padding as possible.

    Args:
      lengths: [N] tokens of each text.
      max_length: no bucket is longer, but for texts of more than one window.
      windows: in which longer texts are read.

    Returns:
      Rising lengths, multiples of `BUCKET_MULTIPLE` (or `max_length`, or what some windows hold), the last of which
      holds every text.
    """
    rounded = np.minimum(-(-lengths // BUCKET_MULTIPLE) * BUCKET_MULTIPLE, max_length)
    if windows is not None:
        rounded = np.where(lengths > windows.size, windows.length(windows.number(lengths)), rounded)
    candidates, counts = np.unique(rounded, return_counts=True)
    below = np.concatenate([[0], np.cumsum(counts)])
    # best[j] = (cost, buckets) of holding all texts up to candidate j, which is the last bucket.
    best = {-1: (0, ())}
    complete = []
    for _ in range(number):
        best = {
            j: min(
                (cost + int((below[j + 1] - below[i + 1]) * candidates[j]), (*buckets, int(candidates[j])))
                for i, (cost, buckets) in best.items()
                if i < j
            )
            for j in range(len(candidates))
            if any(i < j for i in best)
        }
        complete.extend(best[j] for j in best if j == len(candidates) - 1)
    return min(complete)[1]


def training_buckets(lengths: np.ndarray, config: Config, windows: Windows | None = None) -> tuple[int, ...]:
    """The padded lengths for a dataset: the config's own, else the best few, or the one of reference mode.

    Args:
      lengths: [N] tokens of each text, at most `config.data.max_length` without windows.
      windows: in which longer texts are read.
    """
    if not config.model.mask_padding:
        return (config.data.max_length,)
    if config.data.buckets:
        return config.data.buckets + (windows.buckets(int(lengths.max())) if windows else ())
    return choose_buckets(lengths, config.data.num_buckets, config.data.max_length, windows)


def plan_batches(
    lengths: np.ndarray, buckets: Sequence[int], batch_size: int, order_seed: Sequence[int] | None = None
) -> list[PlannedBatch]:
    """Lists the batches of one pass: every text once, ceil(N / batch_size) batches.

    Texts are grouped by bucket. What does not fill a batch moves up to the next bucket, so that
    only one batch of the pass has filler.

    Args:
      lengths: [N] tokens of each text, none above the last bucket.
      buckets: rising padded lengths.
      batch_size: rows of every batch.
      order_seed: such as (seed, epoch), shuffles texts and batches; None keeps the order given.
    """
    random = None if order_seed is None else np.random.default_rng(list(order_seed))
    order = np.arange(len(lengths)) if random is None else random.permutation(len(lengths))
    bucket_of = np.searchsorted(buckets, lengths[order])
    batches, waiting = [], np.zeros(0, int)
    for number, length in enumerate(buckets):
        waiting = np.concatenate([waiting, order[bucket_of == number]])
        full = len(waiting) // batch_size * batch_size
        batches += [PlannedBatch(length, rows) for rows in waiting[:full].reshape(-1, batch_size)]
        waiting = waiting[full:]
    if len(waiting):
        filler = np.full(batch_size - len(waiting), FILLER)
        length = buckets[np.searchsorted(buckets, lengths[waiting].max())]
        batches.append(PlannedBatch(length, np.concatenate([waiting, filler])))
    if random is not None:
        batches = [batches[index] for index in random.permutation(len(batches))]
    return batches


def plan_inference(
    lengths: np.ndarray, buckets: Sequence[int], batch_size: int, devices: int = 1, windows: Windows | None = None
) -> list[PlannedBatch]:
    """Lists the batches of one pass of inference, in the order of the texts where they have one length.

    Texts of more than one window have batches of their own, of so few rows that they have about as many tokens as the
    others. The batches of texts that fit are those that there would be without the long ones.

    Args:
      lengths: [N] tokens of each text.
      buckets: rising padded lengths, of which those count that are no longer than a window; of windows there are more.
      batch_size: rows of a batch of texts that fit.
      devices: divide the rows of every batch.
      windows: in which longer texts are read; None: there are none.
    """
    if windows is None:
        return plan_batches(lengths, buckets, batch_size)
    plan: list[PlannedBatch] = []

    def add(texts: np.ndarray, buckets: Sequence[int], batch_size: int) -> None:
        for planned in plan_batches(lengths[texts], buckets, batch_size) if len(texts) else []:
            indices = np.where(planned.indices == FILLER, FILLER, texts[planned.indices])
            plan.append(PlannedBatch(planned.length, indices))

    fitting = np.flatnonzero(lengths <= windows.size)
    own = [bucket for bucket in buckets if bucket <= windows.size]
    if max(own, default=0) < max(lengths[fitting], default=0):
        own.append(windows.size)
    add(fitting, own, batch_size)
    shortest = windows.size
    for bucket in windows.buckets(int(lengths.max())):
        rows = max(batch_size * windows.size // bucket // devices, 1) * devices
        add(np.flatnonzero((lengths > shortest) & (lengths <= bucket)), [bucket], rows)
        shortest = bucket
    return plan


def plan_sample(lengths: np.ndarray, number: int, seed: int, padded: int | None = None) -> PlannedBatch:
    """One batch of `number` texts, or of all if there are fewer, drawn at random from those of `lengths` [N].

    Args:
      padded: the length of the batch; None: that of its longest text.
    """
    indices = np.random.default_rng(seed).permutation(len(lengths))[:number]
    return PlannedBatch(padded or int(lengths[indices].max()), indices)


def plan_lengths(plan: Sequence[PlannedBatch]) -> list[PlannedBatch]:
    """The first batch of every length in `plan`, in their order there."""
    first: dict[int, PlannedBatch] = {}
    for planned in plan:
        first.setdefault(planned.length, planned)
    return list(first.values())


def make_batch(dataset: Tokens, planned: PlannedBatch, rows: slice = slice(None)) -> Batch:
    """Lays the texts of a planned batch, or of some of its rows, into arrays."""
    indices = planned.indices[rows]
    real = indices != FILLER
    texts = dataset.select(indices[real])
    attention_mask = np.zeros((len(indices), planned.length), np.int32)
    attention_mask[real] = np.arange(planned.length) < texts.lengths[:, None]
    input_ids = np.full_like(attention_mask, dataset.pad_token_id)
    input_ids[attention_mask == 1] = texts.token_ids
    kind = np.float32 if is_distribution(texts.labels) else BATCH_TYPES[task_of_labels(texts.labels)]
    labels = np.zeros((len(indices), *texts.labels.shape[1:]), kind)
    labels[real] = texts.labels
    return Batch(input_ids, attention_mask, labels)
