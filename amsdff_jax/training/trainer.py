"""The training loop: batches in, the best model out, interruptible at every step."""

import copy
import dataclasses
import logging
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from flax import nnx

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.files import user_path
from amsdff_jax.base.memory import peak_memory
from amsdff_jax.config import Config
from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.data.host_tokens import tokenize_on_hosts
from amsdff_jax.data.saved_tokenizer import Tokenizer
from amsdff_jax.data.stream import BatchStream
from amsdff_jax.data.tokenization import load_tokenizer, make_windows
from amsdff_jax.data.tokens import Tokens
from amsdff_jax.evaluation.evaluator import Evaluation, Evaluator
from amsdff_jax.evaluation.inference import StoppedError
from amsdff_jax.evaluation.metrics import compute_metrics, lower_is_better
from amsdff_jax.interop.hub import find_tokenizer
from amsdff_jax.models.adapters import save_adapters
from amsdff_jax.models.losses import class_weights
from amsdff_jax.models.model_folder import SavedModel, save_model
from amsdff_jax.models.pretrained import PretrainedClassifier
from amsdff_jax.models.state_dict import parameter_names
from amsdff_jax.models.targets import TargetScale
from amsdff_jax.models.vocabulary import fit_vocabulary
from amsdff_jax.parallel.compilation import StepByLength
from amsdff_jax.parallel.data_parallel import DataParallel, Device
from amsdff_jax.parallel.hosts import fetch, is_first_host, wait_for_all_hosts
from amsdff_jax.parallel.stop import StopCheck
from amsdff_jax.training.checkpoint import Checkpoints, checksum
from amsdff_jax.training.hooks import HookError, Hooks, Metric, OnEvaluation
from amsdff_jax.training.inputs import RunInputs, SplitRecord
from amsdff_jax.training.optimizer import highest_rates, peak_learning_rates
from amsdff_jax.training.progress import RunProgress, take_means
from amsdff_jax.training.recorder import NotFiniteError, RunLog, StepRecorder, TrainingDisplay, log_data
from amsdff_jax.training.start import (
    check_run,
    require_same_settings,
    require_same_weights,
    resume_run,
    start_run,
    with_task,
)
from amsdff_jax.training.step import make_train_step, step_identity, update_model
from amsdff_jax.training.tracking import Trackers, check_trackers
from amsdff_jax.training.workdir import lock_workdir, open_workdir

logger = logging.getLogger(__name__)


class Trainer:
    """Fine-tunes a model on a dataset and keeps what did best on the validation data.

    Everything goes to `workdir`: `config.json`, `checkpoints/`, `metrics.jsonl`, `tensorboard/` and,
    once training has ended, `model/`. A trainer over a `workdir` that holds an unfinished run of the
    same configuration and data resumes it where it stopped. All devices of all hosts are used;
    with several hosts each makes the same trainer over the same folder.

    Attributes:
      model: the one given; after `train` in eval mode, with the weights of the best evaluation where the run has come
        to its end (of the last with `train.keep_best=false`), else with those of the last step that was made.
      config: as given, with the model's own settings and the task of the training data.
      workdir: the run's folder.
      stream: the training data in batches, on the devices.
      total_steps: updates of the whole run.
      trained_parameters: how many numbers the run trains; what is frozen is left out.
      state: the training state, the same on all devices; under `parallel.mode=fsdp` they share its large arrays. Where
        labels are numbers, its model says them in standard deviations from the mean of the training labels.
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
        tokenizer: Tokenizer | None = None,
        devices: Sequence[Device] | None = None,
        metrics: Mapping[str, Metric] | None = None,
        on_evaluation: OnEvaluation | None = None,
    ):
        """Prepares a run; no step is made yet.

        Args:
          model: its settings take precedence over `config.model`. Layers that are new are fitted to the training
            texts, unless the run begins from a file or is resumed (`train.data_dependent_init`). With
            `model.resize_embeddings` its word embeddings grow to the tokenizer's size.
          config: a `Config`, a `ConfigDict` or a nested dict.
          train_data: what is learned from.
          val_data: what the best checkpoint is chosen by.
          workdir: the run's folder, made if need be; None: a new temporary folder.
          tokenizer: None: the encoder's own, or `config.data.tokenizer`.
          devices: None: all there are.
          metrics: further metrics by name, computed on every host at each evaluation and by `evaluate`, and shown like
            the others: functions of the labels ([N], or [N,C] where a text may have several, or its one is not certain)
            and the probabilities [N,C] of all texts, NumPy arrays, that give a number. `train.best_metric` may name
            one: greater is better, so give the negative of an error.
          on_evaluation: called on every host after each evaluation in training, with its record in the history and this
            trainer. If it gives True on any host, the run ends: it is finished, with the best weights so far.

        Raises:
          UserError: settings, model, data and devices that do not go together; a folder that cannot
            be written or holds another run; hosts that do not see the same data and weights.
        """
        config = config if isinstance(config, Config) else Config.from_dict(config)
        config = with_task(config, train_data)
        self.model, self.config = model, dataclasses.replace(config, model=model.config)
        self._parallel = DataParallel(config.parallel.mode, devices)
        self._hooks = Hooks(metrics, on_evaluation, config.train.best_metric, self._parallel, config.task.kind)
        check_run(model, self.config, train_data, val_data, metrics or ())
        check_trackers(config.train.tracker_names)
        self._parallel.check_batch_size(config.train.batch_size, config.train.accumulation_steps)
        if tokenizer is None:
            tokenizer = load_tokenizer(find_tokenizer(config.data.tokenizer, model.config.encoder))
        name = config.data.tokenizer or model.config.encoder or "the tokenizer given"
        fit_vocabulary(model, tokenizer, name, config.seed)
        model.read_in_windows(make_windows(config.data, tokenizer))
        self.tokenizer, self.class_names = tokenizer, train_data.class_names
        self._reads_pairs = train_data.text_pairs is not None

        encoder_checksum = checksum(nnx.to_pure_dict(nnx.state(model.transformer, nnx.Param)))

        rates = peak_learning_rates(parameter_names(model), config.train)
        weights = class_weights(config.loss, train_data.labels, self.class_names)
        require_same_settings(self.config)
        self._target_scale, learned = TargetScale(), train_data
        if train_data.task == "regression":
            self._target_scale = TargetScale.of(train_data.labels)
            learned = dataclasses.replace(train_data, labels=self._target_scale.standardize(train_data.labels))
        train_tokens, self._val_tokens = (
            tokenize_on_hosts(data, tokenizer, config.data.max_length, config.data.long_texts)
            for data in (learned, val_data)
        )
        log_data(self.class_names, train_tokens, self._val_tokens, config.data.max_length)
        self.stream = BatchStream(train_tokens, self.config, self._parallel, model.windows)
        self.steps_per_epoch = self.stream.steps_per_epoch
        self.total_steps = self._count_steps()

        self.workdir = user_path(workdir) if workdir else Path(tempfile.mkdtemp(prefix="amsdff-"))
        with self._target_scale.unfolded(model):
            graphs, optimizer, state = start_run(
                model,
                self.config,
                rates,
                self.stream.texts(0),
                self.class_names,
                self.workdir,
                self.total_steps,
                self._parallel,
            )
        require_same_weights(state)
        self.state, self._first_step = self._parallel.place_state(state), int(state.step)
        self.key = self._parallel.random_key(self.config.seed)
        self.trained_parameters = sum(value.size for value in jax.tree.leaves(state.variables.trainable))

        # One update, compiled for all devices, once for every padded length.
        update = make_train_step(
            graphs.train, self.config, optimizer, weights, self._parallel.axis_name, gather=self._parallel.gather
        )
        self.train_step = StepByLength(
            self._parallel.compile_train_step(update, state),
            "training",
            step_identity(graphs.train, self.config, rates, weights, self.total_steps),
        )
        self._logged_rates = highest_rates(rates, config.train, self.total_steps)
        self._evaluator = Evaluator(
            graphs.eval, self.config, tokenizer, self._parallel, self.stream.buckets, model.windows
        )
        self._evaluation_interval = config.train.evaluate_every or self.steps_per_epoch
        self._progress = RunProgress(train_tokens.fingerprint, self.total_steps, list(self.class_names))

        inputs = RunInputs(
            self.class_names,
            model.encoder_config,
            SplitRecord.of(train_data),
            SplitRecord.of(val_data),
            encoder_checksum=encoder_checksum,
            tokens=train_tokens.fingerprint,
        )
        self.config = open_workdir(self.workdir, self.config, inputs)
        model.config = dataclasses.replace(model.config, encoder=self.config.model.encoder)
        self._checkpoints = Checkpoints(self.workdir / "checkpoints")

    @property
    def history(self) -> list[dict[str, Any]]:
        """A record for every evaluation so far: step, epoch, training and validation metrics."""
        return self._progress.history

    @property
    def best_step(self) -> int:
        """Step of the best evaluation so far; of the last with `train.keep_best=false`."""
        return self._progress.best_step

    @property
    def seconds(self) -> float:
        """Wall-clock time of training and its evaluations so far, over all sessions."""
        return self._progress.seconds

    @property
    def finished(self) -> bool:
        """Whether all steps are done, or training stopped early: for lack of improvement, or by `on_evaluation`."""
        step = int(self.state.step)
        done = step >= self.total_steps and not self._evaluation_is_due(step)
        return done or self._ends_early()

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
          UserError: a loss that is not finite, a checkpoint that cannot be read or written, an error in `metrics` or
            `on_evaluation`, after which the run can be resumed.
        """
        with lock_workdir(self.workdir):
            if is_first_host():
                self._checkpoints.remove_unfinished()
            resumed = self._checkpoints.latest_step() is not None
            if resumed:
                self._resume()
            elif not self.history:  # best weights may be left of a run that had no room for its first checkpoint
                self._checkpoints.delete_checkpoints_after(-1)
            step = int(self.state.step)
            last = self.total_steps if max_steps is None else min(max_steps, self.total_steps)
            if not self.finished and (step < last or self._evaluation_is_due(step)):
                self._train(step, last, should_stop, resumed)
            if self.finished:
                self._finish()
            else:
                self._update_model()
        return self.history

    def run_evaluation(self, dataset: TextDataset) -> Evaluation:
        """What the model, as it stands, says of every text of `dataset`.

        Raises:
          UserError: its classes are not those of the training data, or one has pairs of texts and the other has not.
        """
        dataset.require_classes(self.class_names, "the training data", self.config.task.kind)
        dataset.require_pairs(self._reads_pairs, "the training data")
        return self._evaluate(dataset)

    def _evaluate(self, data: TextDataset | Tokens, should_stop: Callable[[], bool] = lambda: False) -> Evaluation:
        evaluation = self._evaluator.evaluate(self.state.variables, data, should_stop)
        if self.config.task.kind == "regression":
            evaluation = dataclasses.replace(evaluation, logits=self._target_scale.in_unit(evaluation.logits))
        return evaluation

    def evaluate(self, dataset: TextDataset) -> dict[str, Any]:
        """Metrics of the model, as it stands, on `dataset`: `results["accuracy"]` and many more."""
        return self._compute_metrics(self.run_evaluation(dataset))

    def _compute_metrics(self, evaluation: Evaluation) -> dict[str, Any]:
        metrics = compute_metrics(evaluation, self.class_names, self.config.loss)
        return metrics | self._hooks.compute_metrics(evaluation)

    def _count_steps(self) -> int:
        train, steps = self.config.train, self.steps_per_epoch * self.config.train.epochs
        if train.max_steps > steps:
            message = "train.epochs=%d ends the run at step %d, before train.max_steps=%d"
            logger.info(message, train.epochs, steps, train.max_steps)
        return min(train.max_steps or steps, steps)

    def _resume(self) -> None:
        self.state, self._progress = resume_run(self.workdir, self._checkpoints, self.state, self._progress)
        what = "finished" if self.finished else "resuming"
        logger.info("%s: %s at step %d of %d", self.workdir, what, int(self.state.step), self.total_steps)

    def _train(self, first: int, last: int, should_stop: Callable[[], bool], resumed: bool) -> None:
        """Makes the steps after `first` up to `last`, with the evaluations and checkpoints that fall due."""
        batches = self.stream.batch_by_length(first, last)
        examples = {length: (self.state, batch, self.key) for length, batch in batches.items()}
        stop = StopCheck(self._parallel, should_stop)
        with (
            self.train_step.compiling(examples),
            Trackers(self.config, self.workdir, first, resumed) as trackers,
            RunLog(self.workdir, first, self.history[-1]["step"] if self.history else 0, trackers) as log,
            TrainingDisplay(self.total_steps, first) as display,
        ):
            intervals, task = (self.steps_per_epoch, self.config.train.log_every), self.config.task.kind
            recorder = StepRecorder(self._progress, log, display, self._logged_rates, *intervals, task)
            self._clock = time.perf_counter()
            try:
                if self._evaluation_is_due(first):  # the session before was stopped in the middle of it
                    self._evaluate_and_save(first, recorder, should_stop)
                for step, batch in enumerate(self.stream.batches(first, last), start=first + 1):
                    if self._ends_early():
                        break
                    self.state, metrics = self.train_step(self.state, batch, self.key)
                    recorder.record(step, metrics)
                    stopping = stop.any_host_requested_stop()
                    save = stopping or step == last or step % self.config.train.checkpoint_every == 0
                    if save or self._evaluation_is_due(step):
                        recorder.catch_up()
                        self._evaluate_and_save(step, recorder, should_stop)
                    if stopping:
                        break
            except StoppedError:
                self._save()
            except HookError as error:
                self._save()
                step = int(self.state.step)
                raise HookError(f"{error}; the run is saved at step {step}, where it can be resumed") from error
            except NotFiniteError as error:
                raise self._not_finite(error) from None

    def _evaluation_is_due(self, step: int) -> bool:
        """Whether the state after `step` steps is one to evaluate, and has not been evaluated yet."""
        evaluated = self.history[-1]["step"] if self.history else self._first_step
        return step > evaluated and (step % self._evaluation_interval == 0 or step == self.total_steps)

    def _evaluate_and_save(self, step: int, recorder: StepRecorder, should_stop: Callable[[], bool]) -> None:
        if self._evaluation_is_due(step):
            self._evaluate_and_keep_best(step, recorder, should_stop)
        if self.finished:
            recorder.finish(step)
        self._save()

    def _evaluate_and_keep_best(self, step: int, recorder: StepRecorder, should_stop: Callable[[], bool]) -> None:
        metrics = self._compute_metrics(self._evaluate(self._val_tokens, should_stop))
        metrics.pop("per_class", None)
        before = copy.deepcopy(self._progress)
        train_metrics, epoch = take_means(self._progress.since_evaluation), step / self.steps_per_epoch
        record: dict[str, Any] = {"step": step, "epoch": epoch, "train": train_metrics, "validation": metrics}
        metric, keep_best = self.config.train.best_metric, self.config.train.keep_best
        lower = lower_is_better(metric, self.config.task.kind)
        better = self._progress.add_evaluation(record, metric, lower, keep_best)
        if better:
            try:
                self._checkpoints.save_best(step, self.state.variables)
            except UserError:
                self._progress = before  # as if it had not been evaluated, so that it is when there is room
                raise
        recorder.record_evaluation(record, metric, better and keep_best and metrics[metric] is not None)
        self._progress.ended = self._hooks.after_evaluation(record, self)

    def _ends_early(self) -> bool:
        patience = self.config.train.patience
        out_of_patience = bool(patience) and self._progress.stale_evaluations >= patience
        return out_of_patience or self._progress.ended

    def _save(self) -> None:
        now = time.perf_counter()
        self._progress.seconds += now - self._clock
        self._clock = now
        self._checkpoints.save(self.state, dataclasses.asdict(self._progress))

    def _finish(self) -> None:
        best = self._checkpoints.restore_best(self.best_step, self.state.variables)
        self.state = self.state._replace(variables=best)
        self._update_model()
        folder = self.workdir / "model"
        if is_first_host() and not folder.exists():
            save_adapters(self.workdir / "adapter", self.model)
            data, task = self.config.data, self.config.task.kind
            reading = (data.max_length, self._reads_pairs, data.long_texts, task)
            save_model(folder, SavedModel(self.model, self.tokenizer, self.class_names, *reading))
            value = self._progress.best_value
            reached = "–" if value is None else f"{value:.4f}"
            which = "best" if self.config.train.keep_best else "last"
            kept = f"{which} validation {self.config.train.best_metric} {reached} at step {self.best_step}"
            memory = f", in at most {peak / 1e6:.0f} MB of memory" if (peak := peak_memory()) else ""
            took = f"{self._progress.seconds:.0f} s{memory}"
            logger.info("trained for %s; %s, saved to %s", took, kept, folder)
        wait_for_all_hosts("model saved")

    def _update_model(self) -> None:
        update_model(self.model, fetch(self.state.variables))
        if self.config.task.kind == "regression":
            self._target_scale.fold_into(self.model)
        self.model.eval()

    def _not_finite(self, error: NotFiniteError) -> UserError:
        good = self._checkpoints.latest_step()
        where = f"the last good checkpoint is step {good}" if good is not None else "there is no checkpoint yet"
        return UserError(
            f"{error}: not finite, so training stops; {where} ({self._checkpoints.directory}); likely causes: "
            "a learning rate that is too high, no clipping (train.gradient_clip=0), a damaged encoder"
        )
