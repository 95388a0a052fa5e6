"""The compiled forward pass, one for everything that runs a finished model over texts."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx

from amsdff_jax.base.errors import UserError
from amsdff_jax.config import Config
from amsdff_jax.data.batches import Batch, PlannedBatch, make_batch, plan_batches, plan_lengths
from amsdff_jax.data.tokenization import TokenizedDataset
from amsdff_jax.models.attention import MultiheadAttention
from amsdff_jax.models.layers import Linear
from amsdff_jax.models.losses import loss_parts
from amsdff_jax.models.pretrained import PretrainedClassifier
from amsdff_jax.models.variables import Variables
from amsdff_jax.parallel.compilation import StepByLength
from amsdff_jax.parallel.data_parallel import DataParallel

NOT_FINITE = (
    "the model's logits are NaN or infinite, and say nothing; its numbers are damaged, or too large for bfloat16"
)


def require_finite(logits: np.ndarray, place: Callable[[int], str]) -> None:
    """Raises `UserError` if any of the logits [N,C] are NaN or infinite, so that they are not taken for an answer.

    Args:
      place: names the text of a row for people.
    """
    rows = np.flatnonzero(~np.isfinite(logits).all(axis=-1))
    if len(rows):
        others = f" (and of {len(rows) - 1:,} of the {len(logits) - 1:,} others)" if len(rows) > 1 else ""
        raise UserError(f"{place(int(rows[0]))}{others}: {NOT_FINITE}")


class Inference:
    """One model's graph on the devices, with an executable for each padded length.

    `prepare` the model's numbers once, `plan` a dataset, lay out its `batches`, and call for each.

    Attributes:
      batch_size: rows of every batch, over all devices.
    """

    def __init__(self, graph: nnx.GraphDef, config: Config, parallel: DataParallel, batch_size: int, name: str):
        """Prepares the step.

        Args:
          graph: the model in eval mode.
          config: of the loss.
          parallel: the devices.
          batch_size: rounded up to what the devices divide.
          name: what messages call it.
        """
        self.batch_size = parallel.round_up(batch_size)
        self.prepare = parallel.compile_eval_step(make_inference_variables(graph))
        self._step = StepByLength(parallel.compile_eval_step(make_eval_step(graph, config)), name)
        self._compiled: set[int] = set()
        self._parallel = parallel

    def plan(self, variables: Variables, dataset: TokenizedDataset, buckets: Sequence[int]) -> list[PlannedBatch]:
        """Lists the batches of one pass, and compiles those of their lengths that are new.

        Args:
          variables: as `prepare` gives them.
          buckets: rising padded lengths, the last of which holds every text.
        """
        plan = plan_batches(dataset.lengths, buckets, self.batch_size)
        new = [planned for planned in plan_lengths(plan) if planned.length not in self._compiled]
        batches = self.batches(dataset, new)
        self._step.compile({planned.length: (variables, batch) for planned, batch in zip(new, batches, strict=True)})
        self._compiled.update(planned.length for planned in new)
        return plan

    def batches(self, dataset: TokenizedDataset, plan: Sequence[PlannedBatch]) -> Iterator[Batch]:
        """The batches of a plan, on the devices."""
        own_rows = self._parallel.own_rows(self.batch_size)
        return (self._parallel.place_batch(make_batch(dataset, planned, own_rows)) for planned in plan)

    def __call__(self, variables: Variables, batch: Batch) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Logits [B,C] and the parts of the loss, each [B], as soon as they are on their way."""
        return self._step(variables, batch)


EvalStep = Callable[[Variables, Batch], tuple[jax.Array, dict[str, jax.Array]]]


def forward(model: PretrainedClassifier, batch: Batch, dropout_key: jax.Array | None = None) -> Any:
    """The output of `model` for a batch of token ids."""
    return model(batch.input_ids, batch.attention_mask, dropout_key)


def make_eval_step(
    graph: nnx.GraphDef, config: Config, forward: Callable[[PretrainedClassifier, Any], Any] = forward
) -> EvalStep:
    """The function that evaluates a batch; jit it.

    Returns:
      (variables, batch) -> logits [B,C] and the parts of the loss, each [B]. The contrastive part
      is left out: it would depend on which texts share a batch.
    """

    def eval_step(variables: Variables, batch: Batch) -> tuple[jax.Array, dict[str, jax.Array]]:
        logits = forward(nnx.merge(graph, *variables), batch).logits
        return logits, loss_parts(logits, batch.labels, config.loss)

    return eval_step


def make_inference_variables(graph: nnx.GraphDef) -> Callable[[Variables], Variables]:
    """The function that turns a model's numbers into those that its eval step is fastest with; jit it.

    The kernels of the dense layers are rounded to the compute type once, and not at every call. (In a profile of
    minilm-l6 in bfloat16 on a CPU the rounding took 18 ms of 217.) The results are the same.
    """

    def inference_variables(variables: Variables) -> Variables:
        model = nnx.merge(graph, *variables)
        for _, module in nnx.iter_modules(model):
            if isinstance(module, Linear):
                module.kernel.set_value(module.kernel[...].astype(module.dtype))
            elif isinstance(module, MultiheadAttention):
                module.in_proj_kernel.set_value(module.in_proj_kernel[...].astype(module.dtype))
        return Variables.of(model)

    return inference_variables
