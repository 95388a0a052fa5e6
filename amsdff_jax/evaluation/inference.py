"""The forward pass over tokenized texts, one for everything that runs a model that is not being trained."""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx

from amsdff_jax.base.errors import UserError
from amsdff_jax.data.batches import FILLER, Batch, PlannedBatch, make_batch, plan_inference, plan_lengths
from amsdff_jax.data.windows import Windows
from amsdff_jax.models.variables import Variables
from amsdff_jax.parallel.compilation import StepByLength
from amsdff_jax.parallel.data_parallel import DataParallel

BATCHES_IN_FLIGHT = 2  # sent to the devices beside the one whose result is awaited

NOT_FINITE = (
    "the model's logits are NaN or infinite, and say nothing; its numbers are damaged, or too large for bfloat16"
)

# Devices that wait for each other must get their work in the same order, whichever threads send it.
_DISPATCHING = threading.Lock()


class StoppedError(Exception):
    """An evaluation was stopped before its end, as asked."""


class Inference:
    """A function of batches, run over tokenized texts: compiled once for each padded length.

    Every text counts once on any number of devices and hosts, and every host gets all results. Threads may share it.

    Attributes:
      batch_size: rows of every batch of texts that are not read in windows, over all devices.
    """

    def __init__(
        self,
        function: Callable[[Variables, Any], jax.Array],
        parallel: DataParallel,
        batch_size: int,
        name: str,
        make_batch: Callable[[Any, PlannedBatch, slice], Any] = make_batch,
        identity: str | None = None,
        windows: Windows | None = None,
    ):
        """Prepares the function; nothing is compiled yet.

        Args:
          function: (variables, batch) -> results [B,...], a row for each text; such as `make_forward` makes.
          parallel: the devices.
          batch_size: rounded up to what the devices divide.
          name: what messages call it.
          make_batch: (texts, planned batch, rows) -> these rows of the batch, with an `attention_mask`.
          identity: of the function, as in `StepByLength`; for what `make_forward` makes `graph_identity` gives it.
          windows: in which the function reads texts of more tokens than one has; None: there are no such texts.
        """
        self.batch_size = parallel.round_up(batch_size)
        self._function = StepByLength(parallel.compile_eval_step(function), name, identity)
        self._make_batch = make_batch
        self._parallel = parallel
        self._windows = windows
        self._compiled: set[int] = set()
        self._compiling = threading.Lock()

    def compile(self, variables: Variables, texts: Any, buckets: Sequence[int]) -> list[PlannedBatch]:
        """Compiles what a pass over `texts` needs and is new, and returns the pass's batches.

        Args:
          variables: on the devices.
          texts: N tokenized ones, with `lengths` [N].
          buckets: rising padded lengths, the last of which holds every text that is not read in windows.
        """
        devices = self._parallel.num_devices
        plan = plan_inference(texts.lengths, buckets, self.batch_size, devices, self._windows)
        with self._compiling:
            new = [planned for planned in plan_lengths(plan) if planned.length not in self._compiled]
            self._function.compile({planned.length: (variables, self._place(texts, planned)) for planned in new})
            self._compiled.update(planned.length for planned in new)
        return plan

    def batches(
        self, variables: Variables, texts: Any, buckets: Sequence[int], should_stop: Callable[[], bool] = lambda: False
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The indices [n] of each batch's texts, and their results [n,...]; the arguments are those of a call."""
        in_flight: deque[tuple[np.ndarray, jax.Array]] = deque()

        def collect() -> tuple[np.ndarray, np.ndarray]:
            indices, results = in_flight.popleft()
            real = indices != FILLER
            return indices[real], np.asarray(results)[real]

        for planned in self.compile(variables, texts, buckets):
            if self._parallel.any_host(should_stop()):
                raise StoppedError
            batch = self._place(texts, planned)
            with _DISPATCHING:
                in_flight.append((planned.indices, self._function(variables, batch)))
            # More would not be faster, and an interrupt would have to wait for all of them.
            if len(in_flight) > BATCHES_IN_FLIGHT:
                yield collect()
        while in_flight:
            yield collect()

    def __call__(
        self, variables: Variables, texts: Any, buckets: Sequence[int], should_stop: Callable[[], bool] = lambda: False
    ) -> np.ndarray:
        """The results [N,...] for all texts, in their order.

        Args:
          variables: on the devices.
          texts: N tokenized ones, with `lengths` [N].
          buckets: as for `compile`.
          should_stop: asked before every batch.

        Raises:
          StoppedError: `should_stop` said so on any host.
        """
        indices, results = zip(*self.batches(variables, texts, buckets, should_stop), strict=True)
        return np.concatenate(results)[np.argsort(np.concatenate(indices))]

    def _place(self, texts: Any, planned: PlannedBatch) -> Any:
        own_rows = self._parallel.own_rows(len(planned.indices))
        return self._parallel.place_batch(self._make_batch(texts, planned, own_rows))


def make_forward(graph: nnx.GraphDef) -> Callable[[Variables, Batch], jax.Array]:
    """The function (variables, batch) -> logits [B,C] of a classifier in eval mode; jit it."""
    return lambda variables, batch: nnx.merge(graph, *variables)(batch.input_ids, batch.attention_mask).logits


def require_finite(logits: np.ndarray, place: Callable[[int], str]) -> None:
    """Raises `UserError` if any of the logits [N,C] are NaN or infinite, so that they are not taken for an answer.

    Args:
      place: names the text of a row for people.
    """
    rows = np.flatnonzero(~np.isfinite(logits).all(axis=-1))
    if len(rows):
        others = f" (and of {len(rows) - 1:,} of the {len(logits) - 1:,} others)" if len(rows) > 1 else ""
        raise UserError(f"{place(int(rows[0]))}{others}: {NOT_FINITE}")
