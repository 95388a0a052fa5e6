"""The training loop: batches in, the best model out, interruptible at every step."""

import dataclasses
import hashlib
import logging
import math
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from transformers import PreTrainedTokenizerFast

from amsdff_jax.config import Config
from amsdff_jax.data.batches import Batch, make_batch, plan_batches
from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.data.prefetch import prefetch
from amsdff_jax.data.tokenization import TokenizedDataset, load_tokenizer, tokenize
from amsdff_jax.errors import UserError
from amsdff_jax.evaluation.evaluator import Evaluation, Evaluator, training_buckets
from amsdff_jax.evaluation.metrics import HIGHER_IS_BETTER, LOWER_IS_BETTER, compute_metrics
from amsdff_jax.interop.hub import find_encoder
from amsdff_jax.interop.model_folder import SavedModel, save_model
from amsdff_jax.interop.optimizer_state import optimizer_from_torch
from amsdff_jax.interop.state_dict import load_state_dict, parameter_names
from amsdff_jax.interop.weights_file import read_weights_file
from amsdff_jax.models.pretrained import PretrainedClassifier
from amsdff_jax.training.checkpoint import Checkpoints, has_checkpoint
from amsdff_jax.training.display import TrainingDisplay
from amsdff_jax.training.losses import class_weights
from amsdff_jax.training.optimizer import peak_learning_rates, unit_schedule
from amsdff_jax.training.progress import RunProgress, take_means
from amsdff_jax.training.recorder import NotFiniteError, StepRecorder
from amsdff_jax.training.run_log import RunLog
from amsdff_jax.training.step import TrainState, initial_state, make_train_step, split_model, update_model
from amsdff_jax.training.workdir import open_workdir
from amsdff_jax.validation import nearest

logger = logging.getLogger(__name__)


class Trainer:
    """Fine-tunes a model on a dataset and keeps what did best on the validation data.

    Everything goes to `workdir`: `config.json`, `checkpoints/`, `metrics.jsonl`, `tensorboard/` and,
    once training has ended, `model/`. A trainer over a `workdir` that holds an unfinished run of the
    same configuration and data goes on where that run stopped.

    Attributes:
      model: the model; after `train` it has the best weights.
      config: as given, with the model's own settings.
      workdir: the run's folder.
      total_steps: updates of the whole run.
    """

    def __init__(
        self,
        model: PretrainedClassifier,
        config: Config | Mapping[str, Any],
        train_data: TextDataset,
        val_data: TextDataset,
        workdir: str | Path | None = None,
        tokenizer: PreTrainedTokenizerFast | None = None,
    ):
        """Prepares a run; nothing is computed yet.

        Args:
          model: its settings take precedence over `config.model`.
          config: a `Config`, a `ConfigDict` or a nested dict.
          train_data: what is learned from.
          val_data: what the best checkpoint is chosen by.
          workdir: the run's folder, made if need be; None: a new temporary folder.
          tokenizer: None: the encoder's own, or `config.data.tokenizer`.

        Raises:
          UserError: settings, model and data that do not go together; a folder that cannot be
            written or holds another run.
        """
        config = config if isinstance(config, Config) else Config.from_dict(config)
        self.model, self.config = model, dataclasses.replace(config, model=model.config)
        _check_metric(config.train.best_metric)
        self._check_data(train_data, val_data)
        if tokenizer is None:
            tokenizer = load_tokenizer(find_encoder(config.data.tokenizer or model.config.encoder))
        self.tokenizer, self.class_names = tokenizer, train_data.class_names

        self._rates = rates = peak_learning_rates(parameter_names(model), config.train)
        weights = class_weights(config.loss, train_data.labels, len(self.class_names))
        self._train_tokens = tokenize(train_data, tokenizer, config.data.max_length)
        self._val_tokens = tokenize(val_data, tokenizer, config.data.max_length)
        self._log_data()
        self._buckets = training_buckets(self._train_tokens, self.config)
        self.steps_per_epoch = math.ceil(len(train_data) / config.train.batch_size)
        self.total_steps = self.steps_per_epoch * config.train.epochs

        self.workdir = Path(workdir) if workdir else Path(tempfile.mkdtemp(prefix="amsdff-"))
        graphs, variables = split_model(model, rates)
        self._state, optimizer = initial_state(variables, rates, self.config, self.total_steps)
        if config.train.init_from and not has_checkpoint(self.workdir):
            self._begin_from(config.train.init_from)
        step = make_train_step(graphs.train, self.config, optimizer, weights)
        self._train_step = jax.jit(step, donate_argnums=0)
        self._evaluator = Evaluator(graphs.eval, self.config, tokenizer, self._buckets)
        self._evaluation_interval = config.train.evaluate_every or self.steps_per_epoch
        self._progress = RunProgress(_fingerprint(self._train_tokens), self.total_steps, list(self.class_names))
        self._stop_requested = False

        open_workdir(self.workdir, self.config)
        self._checkpoints = Checkpoints(self.workdir / "checkpoints")

    @property
    def history(self) -> list[dict[str, Any]]:
        """A record for every evaluation so far: step, epoch, training and validation metrics."""
        return self._progress.history

    @property
    def best_step(self) -> int:
        """Step of the best evaluation so far."""
        return self._progress.best_step

    @property
    def finished(self) -> bool:
        """Whether all steps are done, or training stopped early for lack of improvement."""
        return int(self._state.step) >= self.total_steps or self._out_of_patience()

    def request_stop(self) -> None:
        """Makes `train` finish the step at hand, save and return. May be called from a signal handler."""
        self._stop_requested = True

    def train(self, max_steps: int | None = None) -> list[dict[str, Any]]:
        """Trains to the end, resuming from the newest checkpoint if there is one.

        Args:
          max_steps: stop after this step of the run as if interrupted, with a checkpoint.

        Returns:
          The history, a record for every evaluation. At the end of the run the model holds the
          weights of the best evaluation, and `workdir/model` as well.

        Raises:
          UserError: a loss that is not finite, or a checkpoint that cannot be read.
        """
        if self._checkpoints.latest_step() is not None:
            self._resume()
        last = self.total_steps if max_steps is None else min(max_steps, self.total_steps)
        if not self.finished and int(self._state.step) < last:
            self._run(last)
        if self.finished:
            self._finish()
        return self.history

    def run_evaluation(self, dataset: TextDataset) -> Evaluation:
        """What the model, as it stands, says of every text of `dataset`."""
        return self._evaluator.evaluate(self._state.variables, dataset)

    def evaluate(self, dataset: TextDataset) -> dict[str, Any]:
        """Metrics of the model, as it stands, on `dataset`: `results["accuracy"]` and many more."""
        return compute_metrics(self.run_evaluation(dataset), self.class_names, self.config.loss)

    def _begin_from(self, file: str) -> None:
        """Takes weights from a file of PyTorch's, and the optimizer's state where the file has it.

        With an optimizer's state the run goes on after the updates that it has made: their batches
        are skipped, and the learning rate stands where it would. Nothing changes unless all of it fits.
        """
        weights = read_weights_file(file)
        optimizer_state, step = self._state.optimizer_state, 0
        saved = weights.training.get("optimizer_state_dict")
        if saved is not None:
            optimizer_state, step = optimizer_from_torch(saved, list(weights.tensors), optimizer_state, file)
        if step >= self.total_steps:
            raise UserError(
                f"{file}: its optimizer has made {step} steps, and this run has only {self.total_steps}; raise "
                "train.epochs, or save the weights alone to begin anew"
            )
        load_state_dict(self.model, weights.tensors, file)
        state = TrainState(jnp.int32(step), split_model(self.model, self._rates)[1], optimizer_state)
        self._state = jax.device_put(state, jax.devices()[0])
        logger.info("%s: %d tensors loaded, beginning after step %d", file, len(weights.tensors), step)

    def _run(self, last: int) -> None:
        first = int(self._state.step)
        key = jax.random.key(self.config.seed)
        started, seconds_before = time.perf_counter(), self._progress.seconds
        unread: deque[tuple[int, dict[str, jax.Array]]] = deque()
        with RunLog(self.workdir, first) as log, TrainingDisplay(self.total_steps, first) as display:
            recorder = self._recorder(log, display)
            for step, batch in enumerate(prefetch(self._batches(first, last)), start=first + 1):
                self._state, metrics = self._train_step(self._state, batch, key)
                unread.append((step, metrics))
                self._read(unread, recorder, leave=1)  # the next step is under way before this one's numbers are read
                evaluating = step % self._evaluation_interval == 0 or step == self.total_steps
                stopping = self._stop_requested or step == last
                if evaluating or stopping or step % self.config.train.checkpoint_every == 0:
                    self._read(unread, recorder, leave=0)
                    if evaluating:
                        self._evaluate_and_keep_best(step, log)
                    self._progress.seconds = seconds_before + time.perf_counter() - started
                    self._checkpoints.save(self._state, dataclasses.asdict(self._progress))
                if stopping or self._out_of_patience():
                    break

    def _finish(self) -> None:
        best = self._checkpoints.restore_best(self._state.variables)
        self._state = self._state._replace(variables=best)
        update_model(self.model, best)
        self.model.eval()
        folder = self.workdir / "model"
        if not folder.exists():
            save_model(folder, SavedModel(self.model, self.tokenizer, self.class_names, self.config.data.max_length))
            best = f"{self.config.train.best_metric} {self._progress.best_value:.4f} at step {self.best_step}"
            logger.info("trained for %.0f s; best validation %s, saved to %s", self._progress.seconds, best, folder)

    def _read(self, unread: deque, recorder: StepRecorder, leave: int) -> None:
        while len(unread) > leave:
            try:
                recorder.record(*unread.popleft())
            except NotFiniteError as error:
                good = self._checkpoints.latest_step()
                where = f"the last good checkpoint is step {good}" if good is not None else "there is no checkpoint yet"
                raise UserError(
                    f"{error}: not finite, so training stops; {where} ({self._checkpoints.directory}); likely causes: "
                    "a learning rate that is too high, no clipping (train.gradient_clip=0), a damaged encoder"
                ) from None

    def _recorder(self, log: RunLog, display: TrainingDisplay) -> StepRecorder:
        share = unit_schedule(self.total_steps, self.config.train.warmup_ratio)
        encoder = max(rate for name, rate in self._rates.items() if name.startswith("transformer."))
        highest = max(self._rates.values())
        return StepRecorder(
            self._progress,
            log,
            display,
            {
                "learning_rate": lambda step: highest * share(step),
                "encoder_learning_rate": lambda step: encoder * share(step),
            },
            total_steps=self.total_steps,
            steps_per_epoch=self.steps_per_epoch,
            log_every=self.config.train.log_every,
        )

    def _batches(self, first: int, last: int) -> Iterator[Batch]:
        for epoch in range(first // self.steps_per_epoch, self.config.train.epochs):
            plan = plan_batches(
                self._train_tokens.lengths, self._buckets, self.config.train.batch_size, (self.config.seed, epoch)
            )
            for number, planned in enumerate(plan, start=epoch * self.steps_per_epoch):
                if first <= number < last:
                    yield jax.device_put(make_batch(self._train_tokens, planned))

    def _evaluate_and_keep_best(self, step: int, log: RunLog) -> None:
        evaluation = self._evaluator.evaluate(self._state.variables, self._val_tokens)
        metrics = compute_metrics(evaluation, self.class_names, self.config.loss)
        metrics = {name: value for name, value in metrics.items() if name != "per_class"}
        metric = self.config.train.best_metric
        record = {
            "step": step, "epoch": step / self.steps_per_epoch, "train": take_means(self._progress.since_evaluation),
            "validation": metrics,
        }  # fmt: skip
        better = self._progress.add_evaluation(record, metric)
        if better:
            self._checkpoints.save_best(step, self._state.variables)
        log.write("validation", step, metrics)
        logger.info(
            "epoch %.2f, step %d: training loss %.4f, validation loss %.4f, accuracy %.4f, %s %.4f%s",
            record["epoch"], step, record["train"]["loss"], metrics["loss"], metrics["accuracy"], metric,
            metrics[metric], " (best so far)" if better else "",
        )  # fmt: skip

    def _out_of_patience(self) -> bool:
        patience = self.config.train.patience
        return bool(patience) and self._progress.stale_evaluations >= patience

    def _resume(self) -> None:
        self._state, progress = self._checkpoints.restore(self._state)
        progress = RunProgress(**progress)
        if progress.data_fingerprint != self._progress.data_fingerprint:
            raise UserError(
                f"{self.workdir}: holds a run on other training data (or another tokenizer); use another --workdir"
            )
        self._progress = progress
        what = "finished" if self.finished else "resuming"
        logger.info("%s: %s at step %d of %d", self.workdir, what, int(self._state.step), self.total_steps)

    def _check_data(self, train_data: TextDataset, val_data: TextDataset) -> None:
        if train_data.class_names != val_data.class_names:
            raise UserError(f"{val_data.name}: its classes {val_data.class_names} are not those of {train_data.name}, "
                            f"{train_data.class_names}")  # fmt: skip
        classes, positions = self.config.model.num_classes, self.model.encoder_config.max_position_embeddings
        if classes != len(train_data.class_names):
            raise UserError(
                f"model.num_classes: the model has {classes}, but {train_data.name} has {len(train_data.class_names)}"
            )
        if self.config.data.max_length > positions:
            raise UserError(
                f"data.max_length: expected at most {positions}, the encoder's positions, got "
                f"{self.config.data.max_length}"
            )

    def _log_data(self) -> None:
        for name, tokens in (("training", self._train_tokens), ("validation", self._val_tokens)):
            logger.info(
                "%s: %d texts, median length %d tokens, %d (%.1f%%) cut to %d",
                name, len(tokens), sorted(tokens.lengths)[len(tokens) // 2], tokens.truncated.sum(),
                100 * tokens.truncated.mean(), self.config.data.max_length,
            )  # fmt: skip


def _check_metric(metric: str) -> None:
    known = sorted(HIGHER_IS_BETTER | LOWER_IS_BETTER)
    if metric not in known:
        raise UserError(
            f"train.best_metric: no metric {metric!r}{nearest(metric, known)}; there are {', '.join(known)}"
        )


def _fingerprint(tokens: TokenizedDataset) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for array in (tokens.token_ids, tokens.offsets, tokens.labels):
        digest.update(array.tobytes())
    return digest.hexdigest()
