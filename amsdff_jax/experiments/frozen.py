"""Many classifiers at a time on a frozen encoder: all seeds and learning rates of a variant in one vmapped step."""

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from amsdff_jax.base.errors import UserError
from amsdff_jax.config import Config
from amsdff_jax.data.batches import choose_buckets, plan_batches, plan_lengths, plan_sample
from amsdff_jax.data.prefetch import prefetch
from amsdff_jax.data.sources import DataSplits
from amsdff_jax.data.token_cache import tokenize_once
from amsdff_jax.data.tokenization import load_tokenizer, make_windows
from amsdff_jax.evaluation.evaluator import Evaluation
from amsdff_jax.evaluation.features import EncodedDataset, FeatureBatch, encode_once
from amsdff_jax.evaluation.inference import Inference, StoppedError
from amsdff_jax.evaluation.metrics import best_metric, compute_metrics, lower_is_better
from amsdff_jax.experiments.record import Outcome, curve_point
from amsdff_jax.interop.hub import find_tokenizer
from amsdff_jax.models.dropout import dropout_seed
from amsdff_jax.models.losses import class_weights
from amsdff_jax.models.pretrained import PretrainedClassifier
from amsdff_jax.models.registry import make_model
from amsdff_jax.models.state_dict import parameter_names
from amsdff_jax.models.variables import Variables
from amsdff_jax.models.vocabulary import fit_vocabulary
from amsdff_jax.parallel.compilation import StepByLength
from amsdff_jax.parallel.data_parallel import DataParallel
from amsdff_jax.training.optimizer import make_optimizer
from amsdff_jax.training.start import SAMPLED_TEXTS, check_run, fit_last_layer, fit_to_features, with_task
from amsdff_jax.training.step import TrainState, initial_state, make_train_step, split_model

logger = logging.getLogger(__name__)

# What the members of a sweep have each for themselves (0) and in common (None).
VARIABLES = Variables._make((0, None, 0))  # trainable, frozen, batch_statistics
STATE = TrainState._make((0, VARIABLES, 0))  # step, variables, optimizer_state


def run_frozen(
    config: Config,
    data: DataSplits,
    seeds: Sequence[int],
    learning_rates: Sequence[float],
    epochs: int,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[Outcome]:
    """Trains everything after the encoder, once for each seed and learning rate.

    Of every run the epoch that was best on the validation split is kept, and of the learning rates of a seed the best
    one there. All runs see the same batches; a seed decides the initial weights and the dropout.

    Args:
      config: its learning rates, epochs and early stopping do not apply.
      data: with a test split, which is reported.
      should_stop: asked at every step.

    Returns:
      An outcome for each seed. A run's training seconds are an equal share of the sweep's.

    Raises:
      StoppedError: `should_stop` said so; nothing is kept.
      UserError: a setting that decides nothing here, or could not (`_refused`); settings and data that do not go
        together; a seed for which every learning rate led to numbers that are not finite.
    """
    for field, value, problem in _refused(config):
        raise UserError(f"{field}: {value}, but {problem}; use mode=finetuned")
    sweep = _Sweep(config, data, seeds, learning_rates, epochs)
    best, values, curves = sweep.train(should_stop)
    evaluations = sweep.evaluate(best, sweep.test)
    outcomes = []
    sign = -1 if lower_is_better(best_metric(config.train.best_metric, sweep.task), sweep.task) else 1
    for seed in seeds:
        own = [number for number, (other, _) in enumerate(sweep.members) if other == seed]
        chosen = max(own, key=lambda number: sign * values[number])
        if not np.isfinite(values[chosen]):
            raise UserError(f"learning_rates: none of {tuple(learning_rates)} led to finite numbers; try lower ones")
        metrics = compute_metrics(evaluations[chosen], data.require_test().class_names, config.loss)
        rate = sweep.members[chosen][1]
        if len(learning_rates) > 1 and rate in (min(learning_rates), max(learning_rates)):
            end = "lowest" if rate == min(learning_rates) else "highest"
            logger.warning(
                f"seed {seed}: {rate:g} did best, the {end} learning rate that was tried; one beyond it may do better"
            )
        seconds, curve = sweep.seconds / len(sweep.members), tuple(curves[chosen])
        outcomes.append(Outcome(evaluations[chosen], metrics, sweep.parameters, seconds, curve, rate))
    return outcomes


def _refused(config: Config) -> Iterator[tuple[str, Any, str]]:
    """The settings that would not do what they do in a run whose encoder learns: field, value and reason."""
    model, train = config.model, config.train
    if not model.mask_padding:
        reason = "reference semantics read the encoder's output on padding, which the frozen mode does not keep"
        yield "model.mask_padding", model.mask_padding, reason
    if model.lora_rank:
        reason = "the frozen mode runs the encoder once, before anything could adapt it"
        yield "model.lora_rank", model.lora_rank, reason
    for field in ("linear_probe", "init_from", "max_steps"):
        if getattr(train, field):
            yield f"train.{field}", getattr(train, field), "the frozen mode ignores it"
    if not train.keep_best:
        yield "train.keep_best", train.keep_best, "the frozen mode keeps the best epoch, by the validation split"


class _Sweep:
    """The members, their data, and the steps that move them all.

    Attributes:
      members: (seed, learning rate) of each.
      task: the kind of task.
      parameters: trainable numbers of one member.
      test: the texts to report.
      seconds: of wall-clock time spent in training steps so far, compilation left out.
    """

    def __init__(
        self, config: Config, data: DataSplits, seeds: Sequence[int], learning_rates: Sequence[float], epochs: int
    ):
        self.members = [(seed, rate) for seed in seeds for rate in learning_rates]
        self._data, self._epochs, self.seconds = data, epochs, 0.0
        classes = len(data.train.class_names)
        if data.train.task == "regression":
            raise UserError(
                f"{data.train.name}: has a number a text; the frozen mode takes classes, use `amsdff train`"
            )
        self._config = config = with_task(config, data.train).replace(
            model__num_classes=classes,
            train__learning_rate_table=(),
            train__head_learning_rate=1.0,
            train__accumulation_steps=1,
        )
        self.task = config.task.kind
        models = {seed: make_model(config.model, seed=seed) for seed in seeds}
        model = next(iter(models.values()))
        check_run(model, config, data.train, data.validation)
        self._encode(models)
        models = {seed: _in_float32(each) for seed, each in models.items()}
        model = next(iter(models.values()))
        if config.train.data_dependent_init:
            self._fit_new_layers(models)
        self._steps_per_epoch = math.ceil(len(data.train) / config.train.batch_size)
        self._total_steps = self._steps_per_epoch * epochs
        weights = class_weights(config.loss, data.train.labels, data.train.class_names)
        # What is frozen has rate 0; the others' is multiplied by each member's own.
        rates = {name: 0.0 if name.startswith("transformer.") else 1.0 for name in parameter_names(model)}
        graphs, variables = split_model(model, rates)
        self.parameters = sum(value.size for value in jax.tree.leaves(variables.trainable))
        self._state = self._initial_state(models, rates)
        train_step = _member_step(graphs.train, config, rates, weights, self._total_steps)
        self._train_step = StepByLength(
            jax.jit(jax.vmap(train_step, (STATE, None, 0, 0), (STATE, 0)), donate_argnums=0), "training"
        )

        def forward(variables: Variables, batch: FeatureBatch) -> jax.Array:
            return _read_features(nnx.merge(graphs.eval, *variables), batch).logits

        self._inference = Inference(
            jax.vmap(forward, (VARIABLES, None), out_axes=1),
            DataParallel(devices=jax.local_devices()[:1]),
            config.train.eval_batch_size,
            "evaluation",
            EncodedDataset.make_batch,
            windows=model.windows,
        )

    def _encode(self, models: dict[int, PretrainedClassifier]) -> None:
        folder = find_tokenizer(self._config.data.tokenizer, self._config.model.encoder)
        tokenizer = load_tokenizer(folder)
        for model in models.values():
            fit_vocabulary(model, tokenizer, str(folder), self._config.seed)
            model.read_in_windows(make_windows(self._config.data, tokenizer))
        first = next(iter(models.values()))
        splits = (self._data.train, self._data.validation, self._data.require_test())
        limit = self._config.data.max_length, self._config.data.long_texts
        tokens = (tokenize_once(split, tokenizer, *limit) for split in splits)
        self._train, self._validation, self.test = (encode_once(first, split) for split in tokens)
        self._windows = first.windows
        every = np.concatenate([split.lengths for split in (self._excerpts(0), self._validation, self.test)])
        if self._windows is not None:  # what is longer than a window has batches of its own, but in training
            every = np.minimum(every, self._windows.length(self._config.data.max_windows))
        limit = self._config.data.num_buckets, self._config.data.max_length
        self._buckets = choose_buckets(every, *limit, self._windows)

    def _excerpts(self, epoch: int) -> EncodedDataset:
        """What an epoch reads of the training texts."""
        return self._train.excerpts(self._windows, self._config.data.max_windows, (self._config.seed, epoch))

    def _fit_new_layers(self, models: dict[int, PretrainedClassifier]) -> None:
        for seed, model in models.items():
            if not model.needs_data_init:
                continue
            if model.can_fit_new_layers:
                texts = self._excerpts(0)
                batch = texts.make_batch(plan_sample(texts.lengths, SAMPLED_TEXTS, seed))
                mask = jnp.asarray(batch.attention_mask, bool)
                fit_to_features(model, jnp.asarray(batch.features, jnp.float32), mask)
            fit_last_layer(model, self._data.train.labels)

    def _initial_state(self, models: dict[int, PretrainedClassifier], rates: dict[str, float]) -> TrainState:
        states = {}
        for seed, model in models.items():
            states[seed], _ = initial_state(split_model(model, rates)[1], rates, self._config, self._total_steps)
        frozen = next(iter(states.values())).variables.frozen
        alone = {seed: state._replace(variables=state.variables._replace(frozen={})) for seed, state in states.items()}
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(alone[seed] for seed, _ in self.members))
        return stacked._replace(variables=stacked.variables._replace(frozen=frozen))

    def train(self, should_stop: Callable[[], bool]) -> tuple[Variables, np.ndarray, list[list[dict[str, float]]]]:
        """The members' best weights, their best values on validation, and their curves."""
        config = self._config
        keys = jnp.stack([jax.random.key(seed) for seed, _ in self.members])
        rates = jnp.array([rate for _, rate in self.members], jnp.float32)
        metric = config.train.best_metric
        lower = lower_is_better(metric, self.task)
        worst = np.full(len(self.members), np.inf if lower else -np.inf)
        # Copies, because the steps donate what they start from.
        best, best_values = jax.tree.map(jnp.copy, self._state.variables), worst
        curves: list[list[dict[str, float]]] = [[] for _ in self.members]
        for epoch in range(self._epochs):
            order = (config.seed, epoch)
            texts = self._excerpts(epoch)
            plan = plan_batches(texts.lengths, self._buckets, config.train.batch_size, order)
            examples = ((each.length, texts.make_batch(each)) for each in plan_lengths(plan))
            self._train_step.compile({length: (self._state, batch, keys, rates) for length, batch in examples})
            start = time.perf_counter()
            for batch in prefetch(map(texts.make_batch, plan)):
                if should_stop():
                    raise StoppedError
                self._state, _ = self._train_step(self._state, batch, keys, rates)
            jax.block_until_ready(self._state.step)
            self.seconds += time.perf_counter() - start
            evaluations = self.evaluate(self._state.variables, self._validation)
            values = worst.copy()
            for member, evaluation in enumerate(evaluations):
                if np.isfinite(evaluation.logits).all():  # else its learning rate was too high, which ends no other
                    metrics = compute_metrics(evaluation, self._data.train.class_names, config.loss)
                    values[member] = metrics[metric]
                    curves[member].append(curve_point(epoch + 1, metrics, self.task))
            better = values < best_values if lower else values > best_values
            best, best_values = _take(better, self._state.variables, best), np.where(better, values, best_values)
            highest = best_values.min() if lower else best_values.max()
            logger.info("epoch %d of %d: validation %s up to %.4f", epoch + 1, self._epochs, metric, highest)
        return best, best_values, curves

    def evaluate(self, variables: Variables, dataset: EncodedDataset) -> list[Evaluation]:
        """What every member says of every text."""
        self._inference.compile(variables, dataset, self._buckets)
        start = time.perf_counter()
        logits = self._inference(variables, dataset, self._buckets)  # [N,members,C]
        seconds = (time.perf_counter() - start) / len(self.members)
        labels, truncated = dataset.tokens.labels, int(dataset.tokens.truncated.sum())
        members = range(len(self.members))
        return [Evaluation(labels, logits[:, member], truncated, seconds, self.task) for member in members]


def _in_float32(model: PretrainedClassifier) -> PretrainedClassifier:
    """The model with products in float32.

    In bfloat16 XLA's CPU backend fails at a vmapped product whose left side is the same for all members, as the mean of
    the tokens is without dropout: "Unsupported element type for DotThunk" (jaxlib 0.10.2, an Intel Xeon with AMX).
    """
    exact = model.for_platform(model.platform, compute_dtype="float32")
    exact.needs_data_init = model.needs_data_init
    return exact


def _read_features(model: PretrainedClassifier, batch: FeatureBatch, dropout_key: jax.Array | None = None) -> Any:
    seed = None if dropout_key is None else dropout_seed(dropout_key)
    return model.classify(jnp.asarray(batch.features, jnp.float32), jnp.asarray(batch.attention_mask, bool), seed)


def _member_step(
    graph: nnx.GraphDef, config: Config, rates: dict[str, float], weights: np.ndarray, total_steps: int
) -> Callable[..., Any]:
    """The train step with a learning rate of its own: (state, batch of features, key, rate) -> (state, metrics)."""

    def step(state: TrainState, batch: Any, key: jax.Array, rate: jax.Array) -> tuple[TrainState, dict]:
        own_rates: dict[str, Any] = {name: peak * rate for name, peak in rates.items()}
        optimizer = make_optimizer(state.variables.trainable, own_rates, config.train, total_steps)
        return make_train_step(graph, config, optimizer, weights, forward=_read_features)(state, batch, key)

    return step


@jax.jit
def _choose(better: jax.Array, new: Any, old: Any) -> Any:
    return jax.tree.map(lambda x, y: jnp.where(better.reshape(-1, *[1] * (x.ndim - 1)), x, y), new, old)


def _take(better: np.ndarray, new: Variables, old: Variables) -> Variables:
    """The members of `new` where `better` says so, of `old` elsewhere; copies, for `new` will be donated."""
    return _choose(better, new._replace(frozen={}), old._replace(frozen={}))._replace(frozen=new.frozen)
