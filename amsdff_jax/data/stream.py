"""The batches of a training run: which texts each step sees is decided by its number and the seed alone."""

import math
from collections.abc import Iterator

from amsdff_jax.config import Config
from amsdff_jax.data.batches import Batch, PlannedBatch, make_batch, plan_batches, plan_lengths, training_buckets
from amsdff_jax.data.prefetch import prefetch
from amsdff_jax.data.tokens import Tokens
from amsdff_jax.parallel.data_parallel import DataParallel


class BatchStream:
    """Lays the texts of a dataset out on the devices, epoch after epoch, from any step on.

    Attributes:
      buckets: rising padded lengths of the batches.
      steps_per_epoch: batches in which every text is seen once.
    """

    def __init__(self, dataset: Tokens, config: Config, parallel: DataParallel):
        self.buckets = training_buckets(dataset.lengths, config)
        self.steps_per_epoch = math.ceil(len(dataset) / config.train.batch_size)
        self._dataset, self._parallel = dataset, parallel
        self._batch_size, self._seed = config.train.batch_size, config.seed

    def plan(self, first: int, last: int) -> Iterator[PlannedBatch]:
        """The batches of the steps after `first` up to `last`, planned; every epoch has an order of its own."""
        for epoch in range(first // self.steps_per_epoch, math.ceil(last / self.steps_per_epoch)):
            planned = plan_batches(self._dataset.lengths, self.buckets, self._batch_size, (self._seed, epoch))
            start = epoch * self.steps_per_epoch
            yield from planned[max(first - start, 0) : last - start]

    def batches(self, first: int, last: int) -> Iterator[Batch]:
        """The batches of the steps after `first` up to `last`, on the devices, made ahead of time in a thread."""
        return prefetch(map(self._make_batch, self.plan(first, last)))

    def batch_by_length(self, first: int, last: int) -> dict[int, Batch]:
        """The first batch of every padded length among the steps after `first` up to `last`, in their order."""
        return {planned.length: self._make_batch(planned) for planned in plan_lengths([*self.plan(first, last)])}

    def _make_batch(self, planned: PlannedBatch) -> Batch:
        own_rows = self._parallel.own_rows(self._batch_size)  # the other hosts lay out theirs
        return self._parallel.place_training_batch(make_batch(self._dataset, planned, own_rows))
