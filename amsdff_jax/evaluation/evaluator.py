"""Runs a model over whole datasets: every text once, whatever the batch size."""

import dataclasses
import time
from collections.abc import Callable

import jax
import numpy as np
from flax import nnx
from transformers import PreTrainedTokenizerFast

from amsdff_jax.config import Config
from amsdff_jax.data.batches import FILLER, choose_buckets, training_buckets
from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.data.prefetch import prefetch
from amsdff_jax.data.token_cache import tokenize_once
from amsdff_jax.data.tokenization import TokenizedDataset
from amsdff_jax.evaluation.calibration import softmax
from amsdff_jax.evaluation.inference import Inference, require_finite
from amsdff_jax.models.variables import Variables
from amsdff_jax.parallel.data_parallel import DataParallel


class StoppedError(Exception):
    """An evaluation was stopped before its end, as asked."""


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What a model said of N texts, in the order of the dataset.

    Attributes:
      labels: [N] int32, the truth.
      logits: [N,C] float32.
      losses: parts of the loss by name, each [N] float32.
      truncated: number of texts that were cut to the maximal length.
      seconds: wall-clock time, tokenizing and compilation excluded.
    """

    labels: np.ndarray
    logits: np.ndarray
    losses: dict[str, np.ndarray]
    truncated: int
    seconds: float

    @property
    def probabilities(self) -> np.ndarray:
        """[N,C] float64, softmax of the logits."""
        return softmax(self.logits)

    @property
    def predictions(self) -> np.ndarray:
        """[N], the most likely class of each text."""
        return self.logits.argmax(axis=-1)


class Evaluator:
    """Evaluates datasets with one model's graph, compiled once for each padded length.

    Every text counts once on any number of devices and hosts, and every host gets all results.
    """

    def __init__(
        self,
        graph: nnx.GraphDef,
        config: Config,
        tokenizer: PreTrainedTokenizerFast,
        parallel: DataParallel,
        buckets: tuple[int, ...] = (),
    ):
        """Prepares the step.

        Args:
          graph: the model in eval mode.
          parallel: the devices. They need not divide `config.train.eval_batch_size`, which is rounded up.
          buckets: padded lengths that are worth compiling; (): chosen from the first dataset.
        """
        self._inference = Inference(graph, config, parallel, config.train.eval_batch_size, "evaluation")
        self._parallel = parallel
        self._config = config
        self._tokenizer = tokenizer
        self._buckets = buckets

    def evaluate(
        self,
        variables: Variables,
        dataset: TextDataset | TokenizedDataset,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Evaluation:
        """Runs every text of `dataset` through the model once.

        Args:
          variables: of the model, on the devices.
          should_stop: asked before every batch.

        Raises:
          StoppedError: `should_stop` said so on any host.
          UserError: logits that are not finite.
        """
        texts = dataset
        if isinstance(dataset, TextDataset):
            dataset = tokenize_once(dataset, self._tokenizer, self._config.data.max_length)
        variables = self._inference.prepare(variables)
        plan = self._inference.plan(variables, dataset, self._buckets_for(dataset))
        batches = self._inference.batches(dataset, plan)
        columns: dict[str, np.ndarray] = {}
        seconds = 0.0
        for planned, batch in zip(plan, prefetch(batches), strict=True):
            if self._parallel.any_host(should_stop()):
                raise StoppedError
            start = time.perf_counter()
            logits, losses = jax.device_get(self._inference(variables, batch))
            seconds += time.perf_counter() - start
            real = planned.indices != FILLER
            for name, values in {"logits": logits, **losses}.items():
                column = columns.setdefault(name, np.zeros((len(dataset), *values.shape[1:]), np.float32))
                column[planned.indices[real]] = values[real]
        logits = columns.pop("logits")
        named = isinstance(texts, TextDataset)
        require_finite(logits, lambda row: f"{texts.name}, {texts.ids[row]}" if named else f"text {row + 1}")
        return Evaluation(dataset.labels, logits, columns, truncated=int(dataset.truncated.sum()), seconds=seconds)

    def _buckets_for(self, dataset: TokenizedDataset) -> tuple[int, ...]:
        if not self._buckets:
            self._buckets = training_buckets(dataset.lengths, self._config)
        longest = int(dataset.lengths.max())
        if longest > self._buckets[-1]:
            self._buckets += choose_buckets(np.array([longest]), 1, self._config.data.max_length)
        return self._buckets
