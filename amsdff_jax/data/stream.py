"""The batches of a training run: which texts each step sees is decided by its number and the seed alone."""

import math
from collections.abc import Iterator

from amsdff_jax.config import Config
from amsdff_jax.data.batches import Batch, PlannedBatch, make_batch, plan_batches, training_buckets
from amsdff_jax.data.prefetch import prefetch
from amsdff_jax.data.tokens import Tokens
from amsdff_jax.data.windows import Windows, excerpts
from amsdff_jax.parallel.data_parallel import DataParallel


class BatchStream:
    """Lays the texts of a dataset out on the devices, epoch after epoch, from any step on.

    Attributes:
      buckets: rising padded lengths of the batches.
      steps_per_epoch: batches in which every text is seen once.
    """

    def __init__(self, dataset: Tokens, config: Config, parallel: DataParallel, windows: Windows | None = None):
        """Chooses the lengths.

        Args:
          windows: in which the model reads long texts; None: there are none.
        """
        self._dataset, self._parallel, self._windows = dataset, parallel, windows
        self._batch_size, self._seed, self._max_windows = config.train.batch_size, config.seed, config.data.max_windows
        self.buckets = training_buckets(self.texts(0).lengths, config, windows)
        self.steps_per_epoch = math.ceil(len(dataset) / config.train.batch_size)

    def texts(self, epoch: int) -> Tokens:
        """What an epoch reads of the texts: all, but of one of more than `data.max_windows` windows so many."""
        if self._windows is None:
            return self._dataset
        return excerpts(self._dataset, self._windows, self._max_windows, (self._seed, epoch))

    def plan(self, first: int, last: int) -> Iterator[tuple[Tokens, PlannedBatch]]:
        """The batches of the steps after `first` up to `last`, planned, each with the texts that it is made of.

        Every epoch has an order of its own.
        """
        for epoch in range(first // self.steps_per_epoch, math.ceil(last / self.steps_per_epoch)):
            texts = self.texts(epoch)
            planned = plan_batches(texts.lengths, self.buckets, self._batch_size, (self._seed, epoch))
            start = epoch * self.steps_per_epoch
            yield from ((texts, batch) for batch in planned[max(first - start, 0) : last - start])

    def batches(self, first: int, last: int) -> Iterator[Batch]:
        """The batches of the steps after `first` up to `last`, on the devices, made ahead of time in a thread."""
        return prefetch(self._make_batch(*planned) for planned in self.plan(first, last))

    def batch_by_length(self, first: int, last: int) -> dict[int, Batch]:
        """The first batch of every padded length among the steps after `first` up to `last`, in their order."""
        by_length: dict[int, tuple[Tokens, PlannedBatch]] = {}
        for texts, planned in self.plan(first, last):
            by_length.setdefault(planned.length, (texts, planned))
        return {length: self._make_batch(*planned) for length, planned in by_length.items()}

    def _make_batch(self, texts: Tokens, planned: PlannedBatch) -> Batch:
        own_rows = self._parallel.own_rows(self._batch_size)  # the other hosts lay out theirs
        return self._parallel.place_training_batch(make_batch(texts, planned, own_rows))
