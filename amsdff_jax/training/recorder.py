"""What a run tells while it trains: `metrics.jsonl`, its trackers, and a bar or lines for whoever watches."""

import contextlib
import logging
import math
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from amsdff_jax.base.files import to_json, user_errors
from amsdff_jax.base.records import read_log, write_log
from amsdff_jax.data.dataset import by_class
from amsdff_jax.data.encoded_labels import count_classes, is_distribution, task_of_labels
from amsdff_jax.data.tokens import Tokens
from amsdff_jax.evaluation.metrics import METRICS
from amsdff_jax.parallel.hosts import is_first_host
from amsdff_jax.reporting.console import make_console
from amsdff_jax.training.optimizer import Schedule
from amsdff_jax.training.progress import RunProgress, take_means
from amsdff_jax.training.tracking import Trackers

logger = logging.getLogger(__name__)

STEPS_OF_SPEED = 50  # the speed that is shown and logged is that of so many last steps
SECONDS_BETWEEN_LINES = 30.0


class NotFiniteError(ArithmeticError):
    """The loss or the gradient of a step is infinite or not a number."""


def log_data(class_names: Sequence[str], train_tokens: Tokens, val_tokens: Tokens, max_length: int) -> None:
    """Logs how many texts there are of each class, how long they are, and how many are longer than `max_length`."""
    if task_of_labels(train_tokens.labels) != "regression":
        counts = count_classes(train_tokens.labels, len(class_names))
        likeliest = " of which each is the likeliest" if is_distribution(train_tokens.labels) else ""
        message = "%d classes, with so many training texts%s: %s"
        logger.info(message, len(counts), likeliest, by_class(class_names, counts))
    for name, tokens in (("training", train_tokens), ("validation", val_tokens)):
        median, divided = np.sort(tokens.lengths)[len(tokens) // 2], tokens.lengths > max_length
        longer, what = (divided, "read in windows of") if divided.any() else (tokens.truncated, "truncated to")
        message = "%s: %d texts, median length %d tokens, %d (%.1f%%) %s %d"
        logger.info(message, name, len(tokens), median, longer.sum(), 100 * longer.mean(), what, max_length)


class RunLog:
    """Records of steps and evaluations, written by the first host. Use as a context manager.

    A resumed run drops the records past the step it resumes at, and those of evaluations that it makes again, so that
    every step is there once. What is no record is set aside.
    """

    def __init__(
        self, directory: Path, first_step: int, evaluated_step: int | None = None, trackers: Trackers | None = None
    ):
        self._file, self._trackers = directory / "metrics.jsonl", trackers
        self._writes = is_first_host()
        if self._writes:
            with self._errors_told():
                self._drop_records_after(first_step, first_step if evaluated_step is None else evaluated_step)
                self._stream = self._file.open("ab", buffering=0)

    def write(self, kind: str, step: int, values: Mapping[str, object]) -> None:
        """Adds a record, whose numbers the trackers get too.

        Raises:
          UserError: it cannot be written, as on a full disk.
        """
        if not self._writes:
            return
        with self._errors_told():
            self._stream.write((to_json({"kind": kind, "step": step, **values}) + "\n").encode())
        if self._trackers:
            self._trackers.log(kind, step, values)

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._writes:
            self._stream.close()

    def _errors_told(self) -> contextlib.AbstractContextManager[None]:
        hint = "make room and run the same command again to resume from the last checkpoint"
        return user_errors(self._file, "written", hint)

    def _drop_records_after(self, step: int, evaluated_step: int) -> None:
        last = {"validation": evaluated_step}
        write_log(
            self._file, [record for record in read_log(self._file) if record["step"] <= last.get(record["kind"], step)]
        )


class TrainingDisplay:
    """Shows step, loss, accuracy, speed and time left. Use as a context manager."""

    def __init__(self, total_steps: int, first_step: int):
        self._total, self._shown_at = total_steps, time.monotonic()
        self._bar = None
        if sys.stderr.isatty() and is_first_host():
            columns = (
                TextColumn("training"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[numbers]}"),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=make_console(stderr=True))
            self._task = self._bar.add_task("", total=total_steps, completed=first_step, numbers="compiling")

    def update(
        self, step: int, loss: float, accuracy: float | None, texts_per_second: float, seconds_left: float
    ) -> None:
        """Shows where the run stands after `step` steps; `accuracy` is None where answers are numbers."""
        right = "" if accuracy is None else f"  accuracy {accuracy:.3f}"
        numbers = f"loss {loss:.4f}{right}  {texts_per_second:.1f} texts/s"
        if self._bar:
            self._bar.update(self._task, completed=step, numbers=numbers)
        elif time.monotonic() - self._shown_at > SECONDS_BETWEEN_LINES:
            self._shown_at = time.monotonic()
            minutes, seconds = divmod(round(seconds_left), 60)
            logger.info("step %d/%d  %s  %d:%02d left", step, self._total, numbers, minutes, seconds)

    def __enter__(self) -> "TrainingDisplay":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._bar:
            self._bar.stop()


class StepRecorder:
    """Reads the metrics of one step after the other, into the run's sums, its log and its display."""

    def __init__(
        self,
        progress: RunProgress,
        log: RunLog,
        display: TrainingDisplay,
        learning_rates: Mapping[str, Schedule],
        steps_per_epoch: int,
        log_every: int,
        task: str = "single",
    ):
        """Takes where the metrics go.

        Args:
          learning_rates: those to log, by name.
          log_every: steps between records in the log.
          task: the kind of task.
        """
        self._progress, self._log, self._display = progress, log, display
        self._learning_rates, self._steps_per_epoch, self._log_every = learning_rates, steps_per_epoch, log_every
        self._known_metrics = METRICS[task].names
        self._texts_per_second: float | None = None
        self._recent: deque[tuple[float, float]] = deque(maxlen=STEPS_OF_SPEED)  # (time, texts) of the last steps
        self._unread: deque[tuple[int, Mapping[str, jax.Array]]] = deque()

    def record(self, step: int, metrics: Mapping[str, jax.Array]) -> None:
        """Takes the metrics of step number `step`, and reads those of the step before.

        To read is to wait until the step is done, and by then the device has its next one.

        Raises:
          NotFiniteError: loss or gradient norm.
        """
        self._unread.append((step, metrics))
        if len(self._unread) > 1:
            self._read()

    def catch_up(self) -> None:
        """Reads the metrics of all steps so far.

        Raises:
          NotFiniteError: loss or gradient norm.
        """
        while self._unread:
            self._read()

    def record_evaluation(self, record: Mapping[str, Any], best_metric: str, better: bool) -> None:
        """Writes an evaluation: its record in the run's history, and whether it is the best so far."""
        step, metrics = record["step"], record["validation"]
        self._log.write("validation", step, metrics)
        others = sorted(metrics.keys() - self._known_metrics)
        names = dict.fromkeys(("loss", "cross_entropy", "accuracy", best_metric, *others))
        values = {name: metrics[name] for name in names if name in metrics}
        shown = ", ".join(f"{name} {'–' if value is None else f'{value:.4f}'}" for name, value in values.items())
        message = "epoch %.2f, step %d: training loss %.4f, validation %s%s"
        best = " (best so far)" if better else ""
        logger.info(message, record["epoch"], step, record["train"]["loss"], shown, best)

    def finish(self, step: int) -> None:
        """Writes what the last record before the end of the run, after `step` steps, has left over."""
        if self._progress.since_record:
            self._write(step)

    def _read(self) -> None:
        step, metrics = self._unread.popleft()
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        loss, gradient_norm = values["loss"], values["gradient_norm"]
        if not (math.isfinite(loss) and math.isfinite(gradient_norm)):
            raise NotFiniteError(f"step {step}: loss {loss}, gradient norm {gradient_norm}")
        self._progress.add_step(values)
        texts_per_second, seconds_a_step = self._speed(values["examples"])
        self._texts_per_second = texts_per_second or None
        seconds_left = (self._progress.total_steps - step) * seconds_a_step
        self._display.update(step, loss, values.get("accuracy"), texts_per_second, seconds_left)
        if step % self._log_every == 0:
            self._write(step)

    def _write(self, step: int) -> None:
        rates = {name: float(schedule(step - 1)) for name, schedule in self._learning_rates.items()}
        speed = {"epoch": step / self._steps_per_epoch, "examples_per_second": self._texts_per_second}
        self._log.write("train", step, {**take_means(self._progress.since_record), **rates, **speed})

    def _speed(self, texts: float) -> tuple[float, float]:
        """Texts a second and seconds a step, 0 after the first step, when no time has passed yet."""
        self._recent.append((time.perf_counter(), texts))
        elapsed = self._recent[-1][0] - self._recent[0][0]
        if not elapsed:
            return 0.0, 0.0
        texts_since = sum(number for _, number in self._recent) - self._recent[0][1]
        return texts_since / elapsed, elapsed / (len(self._recent) - 1)
