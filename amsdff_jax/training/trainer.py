"""The training loop: batches in, the best model out, interruptible at every step."""

import dataclasses
import hashlib
import logging
import math
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from transformers import PreTrainedTokenizerFast

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.files import user_path
from amsdff_jax.config import Config
from amsdff_jax.data.batches import Batch, PlannedBatch, make_batch, plan_batches, plan_lengths
from amsdff_jax.data.dataset import TextDataset, by_class
from amsdff_jax.data.prefetch import prefetch
from amsdff_jax.data.token_cache import tokenize_once
from amsdff_jax.data.tokenization import check_vocabulary, load_tokenizer
from amsdff_jax.evaluation.evaluator import Evaluation, Evaluator, StoppedError, training_buckets
from amsdff_jax.evaluation.metrics import compute_metrics
from amsdff_jax.interop.hub import find_tokenizer
from amsdff_jax.models.losses import class_weights
from amsdff_jax.models.model_folder import SavedModel, save_model
from amsdff_jax.models.pretrained import PretrainedClassifier
from amsdff_jax.models.state_dict import parameter_names
from amsdff_jax.parallel.compilation import StepByLength
from amsdff_jax.parallel.data_parallel import DataParallel
from amsdff_jax.parallel.hosts import is_first_host, require_same_on_all_hosts, wait_for_all_hosts
from amsdff_jax.parallel.stop import StopVote
from amsdff_jax.training.checkpoint import Checkpoints, checksum, has_checkpoint
from amsdff_jax.training.checks import check_run
from amsdff_jax.training.display import TrainingDisplay
from amsdff_jax.training.initialization import fit_new_layers
from amsdff_jax.training.inputs import RunInputs, SplitRecord
from amsdff_jax.training.optimizer import encoder_schedule, peak_learning_rates, unit_schedule
from amsdff_jax.training.progress import RunProgress, take_means
from amsdff_jax.training.recorder import NotFiniteError, StepRecorder
from amsdff_jax.training.run_log import RunLog
from amsdff_jax.training.step import TrainState, initial_state, make_train_step, split_model, update_model
from amsdff_jax.training.torch_state import begin_from
from amsdff_jax.training.workdir import lock_workdir, open_workdir

logger = logging.getLogger(__name__)


class Trainer:
    """Fine-tunes a model on a dataset and keeps what did best on the validation data.

    Everything goes to `workdir`: `config.json`, `checkpoints/`, `metrics.jsonl`, `tensorboard/` and,
    once training has ended, `model/`. A trainer over a `workdir` that holds an unfinished run of the
    same configuration and data goes on where that run stopped. All devices of all hosts are used;
    with several hosts each makes the same trainer over the same folder.

    Attributes:
      model: the model; after `train` it has the best weights.
      config: as given, with the model's own settings.
      workdir: the run's folder.
      total_steps: updates of the whole run.
      trained_parameters: how many numbers the run trains; what is frozen is left out.
      state: the training state, the same on all devices.
      train_step: the step, (state, batch, key) -> (new state, metrics), which donates the state; compiled ahead of
        time by `train`.
      key: the run's JAX random key, on all devices.
    """

    def __init__(
        self,
        model: PretrainedClassifier,
        config: Config | Mapping[str, Any],
        train_data: TextDataset,
        val_data: TextDataset,
        workdir: str | Path | None = None,
        tokenizer: PreTrainedTokenizerFast | None = None,
        devices: Sequence[jax.Device] | None = None,
    ):
        """Prepares a run; no step is made yet.

        Args:
          model: its settings take precedence over `config.model`. Layers that are new are fitted to the training
            texts, unless the run begins from a file or goes on (`train.data_dependent_init`).
          config: a `Config`, a `ConfigDict` or a nested dict.
          train_data: what is learned from.
          val_data: what the best checkpoint is chosen by.
          workdir: the run's folder, made if need be; None: a new temporary folder.
          tokenizer: None: the encoder's own, or `config.data.tokenizer`.
          devices: None: all there are.

        Raises:
          UserError: settings, model, data and devices that do not go together; a folder that cannot
            be written or holds another run; hosts that do not see the same data and weights.
        """
        config = config if isinstance(config, Config) else Config.from_dict(config)
        self.model, self.config = model, dataclasses.replace(config, model=model.config)
        check_run(model, self.config, train_data, val_data)
        self._parallel = DataParallel(config.parallel.mode, devices)
        self._parallel.check_batch_size(config.train.batch_size, config.train.accumulation_steps)
        if tokenizer is None:
            tokenizer = load_tokenizer(find_tokenizer(config.data.tokenizer, model.config.encoder))
        name = config.data.tokenizer or model.config.encoder or "the tokenizer given"
        check_vocabulary(tokenizer, model.encoder_config.vocab_size, name)
        self.tokenizer, self.class_names = tokenizer, train_data.class_names
        self._reads_pairs = train_data.text_pairs is not None

        self._rates = rates = peak_learning_rates(parameter_names(model), config.train)
        weights = class_weights(config.loss, train_data.labels, self.class_names)
        self._train_tokens = tokenize_once(train_data, tokenizer, config.data.max_length)
        self._val_tokens = tokenize_once(val_data, tokenizer, config.data.max_length)
        self._log_data()
        self._buckets = training_buckets(self._train_tokens, self.config)
        self.steps_per_epoch = math.ceil(len(train_data) / config.train.batch_size)
        self.total_steps = self._count_steps()

        self.workdir = user_path(workdir) if workdir else Path(tempfile.mkdtemp(prefix="amsdff-"))
        begins = not has_checkpoint(self.workdir)
        if begins and (self.workdir / "model").exists():
            raise UserError(
                f"{self.workdir}: holds a finished model without the checkpoints of its run; use another --workdir, or "
                f"move {self.workdir / 'model'} away"
            )
        if begins and not config.train.init_from and config.train.data_dependent_init and model.needs_data_init:
            fit_new_layers(model, self._train_tokens, config.seed)
        graphs, variables = split_model(model, rates, self._parallel.axis_name)
        self.trained_parameters = sum(value.size for value in jax.tree.leaves(variables.trainable))
        state, optimizer = initial_state(variables, rates, self.config, self.total_steps)
        if begins and config.train.init_from:
            state = begin_from(config.train.init_from, model, rates, state, self.total_steps)
        self._require_same_start(state)
        self.state = self._parallel.replicate(state)
        step = make_train_step(graphs.train, self.config, optimizer, weights, self._parallel.axis_name)
        self.train_step = StepByLength(self._parallel.compile_train_step(step), "training")
        self.key = self._parallel.random_key(self.config.seed)
        self._evaluator = Evaluator(graphs.eval, self.config, tokenizer, self._parallel, self._buckets)
        self._evaluation_interval = config.train.evaluate_every or self.steps_per_epoch
        self._progress = RunProgress(self._train_tokens.fingerprint, self.total_steps, list(self.class_names))

        inputs = RunInputs(self.class_names, model.encoder_config, SplitRecord.of(train_data), SplitRecord.of(val_data))
        open_workdir(self.workdir, self.config, inputs)
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
    def seconds(self) -> float:
        """Wall-clock time of training and its evaluations so far, over all sessions."""
        return self._progress.seconds

    @property
    def finished(self) -> bool:
        """Whether all steps are done, or training stopped early for lack of improvement."""
        done = int(self.state.step) >= self.total_steps and not self._evaluation_is_due()
        return done or self._out_of_patience()

    def train(
        self, max_steps: int | None = None, should_stop: Callable[[], bool] = lambda: False
    ) -> list[dict[str, Any]]:
        """Trains to the end, resuming from the newest checkpoint if there is one.

        Args:
          max_steps: stop after this step of the run as if interrupted, with a checkpoint; the run stays as long.
          should_stop: asked at every step and at every batch of an evaluation; when it says so on any
            host, the step at hand is finished, the state saved, and `train` returns. An evaluation
            that was stopped is made again on resuming.

        Returns:
          The history, a record for every evaluation. At the end of the run the model holds the
          weights of the best evaluation, and `workdir/model` as well.

        Raises:
          UserError: a loss that is not finite, a checkpoint that cannot be read or written.
        """
        with lock_workdir(self.workdir):
            if self._checkpoints.latest_step() is not None:
                self._resume()
            last = self.total_steps if max_steps is None else min(max_steps, self.total_steps)
            if not self.finished and (int(self.state.step) < last or self._evaluation_is_due()):
                self._run(last, should_stop)
            if self.finished:
                self._finish()
        return self.history

    def run_evaluation(self, dataset: TextDataset) -> Evaluation:
        """What the model, as it stands, says of every text of `dataset`.

        Raises:
          UserError: its classes are not those of the training data.
        """
        dataset.require_classes(self.class_names, "the training data")
        return self._evaluator.evaluate(self.state.variables, dataset)

    def evaluate(self, dataset: TextDataset) -> dict[str, Any]:
        """Metrics of the model, as it stands, on `dataset`: `results["accuracy"]` and many more."""
        return compute_metrics(self.run_evaluation(dataset), self.class_names, self.config.loss)

    def batches(self, first: int, last: int) -> Iterator[Batch]:
        """The batches of the steps after `first` up to `last`, on the devices; each host makes its rows of them."""
        for epoch in range(first // self.steps_per_epoch, self.config.train.epochs):
            for number, planned in enumerate(self._plan(epoch), start=epoch * self.steps_per_epoch):
                if first <= number < last:
                    yield self._make_batch(planned)

    def _count_steps(self) -> int:
        train, steps = self.config.train, self.steps_per_epoch * self.config.train.epochs
        if train.max_steps > steps:
            logger.info("train.epochs=%d ends the run at step %d, before train.max_steps=%d", train.epochs, steps,
                        train.max_steps)  # fmt: skip
        return min(train.max_steps or steps, steps)

    def _plan(self, epoch: int) -> list[PlannedBatch]:
        return plan_batches(
            self._train_tokens.lengths, self._buckets, self.config.train.batch_size, (self.config.seed, epoch)
        )

    def _make_batch(self, planned: PlannedBatch) -> Batch:
        own_rows = self._parallel.own_rows(self.config.train.batch_size)
        return self._parallel.place_training_batch(make_batch(self._train_tokens, planned, own_rows))

    def _compile(self, first: int, last: int) -> None:
        """Compiles the train step for every padded length of the steps after `first` up to `last`."""
        epochs = range(first // self.steps_per_epoch, math.ceil(last / self.steps_per_epoch))
        planned = plan_lengths([planned for epoch in epochs for planned in self._plan(epoch)])
        self.train_step.compile({each.length: (self.state, self._make_batch(each), self.key) for each in planned})

    def _run(self, last: int, should_stop: Callable[[], bool]) -> None:
        first = int(self.state.step)
        self._compile(first, last)
        with RunLog(self.workdir, first) as log, TrainingDisplay(self.total_steps, first) as display:
            self._clock = time.perf_counter()
            recorder = self._recorder(log, display)
            try:
                for step in self._steps(first, last, recorder, StopVote(self._parallel, should_stop)):
                    if self._evaluation_is_due():
                        self._evaluate_and_keep_best(step, log, should_stop)
                    if self.finished:
                        recorder.finish(step)
                    self._save()
                    if self._out_of_patience():
                        break
            except StoppedError:
                self._save()

    def _steps(self, first: int, last: int, recorder: StepRecorder, stop: StopVote) -> Iterator[int]:
        """Makes the steps, and yields the number of each after which the run is to be saved."""
        if self._evaluation_is_due():  # the session before was stopped in the middle of it
            yield first
        unread: deque[tuple[int, dict[str, jax.Array]]] = deque()
        for step, batch in enumerate(prefetch(self.batches(first, last)), start=first + 1):
            self.state, metrics = self.train_step(self.state, batch, self.key)
            unread.append((step, metrics))
            self._read(unread, recorder, leave=1)  # the next step is under way before this one's numbers are read
            stopping = stop.ask()
            evaluating = step % self._evaluation_interval == 0 or step == self.total_steps
            if evaluating or stopping or step == last or step % self.config.train.checkpoint_every == 0:
                self._read(unread, recorder, leave=0)
                yield step
            if stopping:
                return

    def _save(self) -> None:
        now = time.perf_counter()
        self._progress.seconds += now - self._clock
        self._clock = now
        self._checkpoints.save(self.state, dataclasses.asdict(self._progress))

    def _finish(self) -> None:
        best = self._checkpoints.restore_best(self.best_step, self.state.variables)
        self.state = self.state._replace(variables=best)
        update_model(self.model, jax.device_get(best))
        self.model.eval()
        folder = self.workdir / "model"
        if is_first_host() and not folder.exists():
            length = self.config.data.max_length
            save_model(folder, SavedModel(self.model, self.tokenizer, self.class_names, length, self._reads_pairs))
            best = f"{self.config.train.best_metric} {self._progress.best_value:.4f} at step {self.best_step}"
            logger.info("trained for %.0f s; best validation %s, saved to %s", self._progress.seconds, best, folder)
        wait_for_all_hosts("model saved")

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
        encoder_share = encoder_schedule(self.total_steps, self.config.train)
        encoder = max(rate for name, rate in self._rates.items() if name.startswith("transformer."))
        highest = max(self._rates.values())
        return StepRecorder(
            self._progress,
            log,
            display,
            {
                "learning_rate": lambda step: highest * share(step),
                "encoder_learning_rate": lambda step: encoder * encoder_share(step),
            },
            total_steps=self.total_steps,
            steps_per_epoch=self.steps_per_epoch,
            log_every=self.config.train.log_every,
        )

    def _evaluation_is_due(self) -> bool:
        """Whether the state as it stands is one to evaluate, and steps have led to it since the last evaluation."""
        step = int(self.state.step)
        at_interval = step % self._evaluation_interval == 0 or step == self.total_steps
        return at_interval and bool(self._progress.since_evaluation)

    def _evaluate_and_keep_best(self, step: int, log: RunLog, should_stop: Callable[[], bool]) -> None:
        evaluation = self._evaluator.evaluate(self.state.variables, self._val_tokens, should_stop)
        metrics = compute_metrics(evaluation, self.class_names, self.config.loss)
        metrics = {name: value for name, value in metrics.items() if name != "per_class"}
        metric = self.config.train.best_metric
        record = {
            "step": step, "epoch": step / self.steps_per_epoch, "train": take_means(self._progress.since_evaluation),
            "validation": metrics,
        }  # fmt: skip
        better = self._progress.add_evaluation(record, metric)
        if better:
            self._checkpoints.save_best(step, self.state.variables)
        log.write("validation", step, metrics)
        shown = dict.fromkeys(("loss", "accuracy", metric))
        logger.info(
            "epoch %.2f, step %d: training loss %.4f, validation %s%s", record["epoch"], step, record["train"]["loss"],
            ", ".join(f"{name} {metrics[name]:.4f}" for name in shown), " (best so far)" if better else "",
        )  # fmt: skip

    def _out_of_patience(self) -> bool:
        patience = self.config.train.patience
        return bool(patience) and self._progress.stale_evaluations >= patience

    def _resume(self) -> None:
        restored = self._checkpoints.restore(self.state)
        progress = RunProgress(**restored.progress)
        if progress.data_fingerprint != self._progress.data_fingerprint:
            raise UserError(
                f"{self.workdir}: holds a run on other training data (or another tokenizer); use another --workdir"
            )
        self.state, self._progress = restored.state, progress
        self._checkpoints.delete_checkpoints_after(int(self.state.step))
        what = "finished" if self.finished else "resuming"
        logger.info("%s: %s at step %d of %d", self.workdir, what, int(self.state.step), self.total_steps)

    def _require_same_start(self, state: TrainState) -> None:
        if jax.process_count() == 1:
            return
        for what, digest in {
            "settings": hashlib.blake2b(repr(self.config).encode(), digest_size=16).hexdigest(),
            "training texts": self._train_tokens.fingerprint,
            "validation texts": self._val_tokens.fingerprint,
            "weights": f"{checksum(state):08x}",
        }.items():
            require_same_on_all_hosts(what, digest)

    def _log_data(self) -> None:
        counts = np.bincount(self._train_tokens.labels, minlength=len(self.class_names))
        logger.info("%d classes, with so many training texts: %s", len(counts), by_class(self.class_names, counts))
        for name, tokens in (("training", self._train_tokens), ("validation", self._val_tokens)):
            logger.info(
                "%s: %d texts, median length %d tokens, %d (%.1f%%) cut to %d",
                name, len(tokens), sorted(tokens.lengths)[len(tokens) // 2], tokens.truncated.sum(),
                100 * tokens.truncated.mean(), self.config.data.max_length,
            )  # fmt: skip
