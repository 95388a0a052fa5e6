"""What a model says of whole datasets: every text once, whatever the batch size."""

import dataclasses
import time
from collections.abc import Callable

import numpy as np
from flax import nnx

from amsdff_jax.config import Config
from amsdff_jax.data.batches import choose_buckets, training_buckets
from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.data.encoded_labels import likeliest_classes
from amsdff_jax.data.host_tokens import tokenize_on_hosts
from amsdff_jax.data.saved_tokenizer import Tokenizer
from amsdff_jax.data.tokens import Tokens
from amsdff_jax.data.windows import Windows
from amsdff_jax.evaluation.calibration import sigmoid, softmax
from amsdff_jax.evaluation.inference import Inference, make_forward, require_finite
from amsdff_jax.models.variables import Variables, graph_identity, make_inference_variables
from amsdff_jax.parallel.data_parallel import DataParallel


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What a model said of N texts, in the order of the dataset.

    Attributes:
      labels: the truth, as of `TextDataset`: [N] int32, [N,C] float32 where they are distributions, [N,C] bool where a
        text may have several classes, or [N] float64 where labels are numbers.
      logits: [N,C] float32; where labels are numbers [N,1], the predicted ones in the same unit.
      truncated: number of texts that were truncated to the maximal length.
      seconds: wall-clock time, tokenizing and compilation excluded.
      task: the kind of task, one of `TASKS`.
      thresholds: the probabilities from which on a text has each class, where it may have several; (): 1/2.
    """

    labels: np.ndarray
    logits: np.ndarray
    truncated: int
    seconds: float
    task: str = "single"
    thresholds: tuple[float, ...] = ()

    @property
    def classes(self) -> np.ndarray:
        """The truth with the likeliest class in the place of each distribution, as `TextDataset.classes`."""
        return likeliest_classes(self.labels)

    @property
    def probabilities(self) -> np.ndarray:
        """[N,C] float64, the softmax of the logits; their sigmoid where a text may have several classes.

        Where labels are numbers, [N,1], the predicted ones.
        """
        return PROBABILITIES[self.task](self.logits)

    @property
    def predictions(self) -> np.ndarray:
        """[N], the most likely class of each text; or [N,C] bool, the classes that reach their threshold.

        Where labels are numbers, [N] float64, the predicted ones.
        """
        if self.thresholds:
            return self.probabilities >= np.array(self.thresholds)
        return PREDICTIONS[self.task](self.logits)


PROBABILITIES = {
    **dict.fromkeys(("single", "ordinal"), softmax),
    "multi_label": sigmoid,
    "regression": lambda logits: logits.astype(np.float64),
}
PREDICTIONS = {
    **dict.fromkeys(("single", "ordinal"), lambda logits: logits.argmax(axis=-1)),
    "multi_label": lambda logits: logits >= 0,
    "regression": lambda logits: logits[:, 0].astype(np.float64),
}


class Evaluator:
    """Evaluates datasets with one model's graph, whose numbers may change from call to call."""

    def __init__(
        self,
        graph: nnx.GraphDef,
        config: Config,
        tokenizer: Tokenizer,
        parallel: DataParallel,
        buckets: tuple[int, ...] = (),
        windows: Windows | None = None,
    ):
        """Nothing is compiled yet.

        Args:
          graph: the model in eval mode.
          parallel: the devices. They need not divide `config.train.eval_batch_size`, which is rounded up.
          buckets: padded lengths that are worth compiling; (): chosen from the first dataset.
          windows: of the model.
        """
        self._inference = Inference(
            make_forward(graph),
            parallel,
            config.train.eval_batch_size,
            "evaluation",
            identity=graph_identity(graph),
            windows=windows,
        )
        self._prepare = parallel.compile_eval_step(make_inference_variables(graph))
        self._config = config
        self._tokenizer = tokenizer
        self._buckets = tuple(length for length in buckets if length <= config.data.max_length)

    def evaluate(
        self,
        variables: Variables,
        dataset: TextDataset | Tokens,
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
            data = self._config.data
            dataset = tokenize_on_hosts(dataset, self._tokenizer, data.max_length, data.long_texts)
        variables, buckets = self._prepare(variables), self._buckets_for(dataset)
        self._inference.compile(variables, dataset, buckets)
        start = time.perf_counter()
        logits = self._inference(variables, dataset, buckets, should_stop)
        seconds = time.perf_counter() - start
        named = texts if isinstance(texts, TextDataset) else None
        require_finite(logits, lambda row: f"{named.name}, {named.ids[row]}" if named else f"text {row + 1}")
        return Evaluation(dataset.labels, logits, int(dataset.truncated.sum()), seconds, self._config.task.kind)

    def _buckets_for(self, dataset: Tokens) -> tuple[int, ...]:
        lengths = np.minimum(dataset.lengths, self._config.data.max_length)  # of longer texts windows have this length
        longest = int(lengths.max())
        if not self._buckets:
            self._buckets = training_buckets(lengths, self._config)
        if longest > self._buckets[-1]:
            self._buckets += choose_buckets(np.array([longest]), 1, self._config.data.max_length)
        return self._buckets
