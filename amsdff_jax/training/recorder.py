"""Reads the numbers of finished steps: into the running means, the log and the display."""

import math
import time
from collections import deque
from collections.abc import Mapping

import jax
import optax

from amsdff_jax.training.display import TrainingDisplay
from amsdff_jax.training.progress import RunProgress, take_means
from amsdff_jax.training.run_log import RunLog

STEPS_OF_SPEED = 50  # the speed that is shown and logged is that of so many last steps


class NotFiniteError(ArithmeticError):
    """The loss or the gradient of a step is infinite or not a number."""


class StepRecorder:
    """Takes the metrics of one step after the other."""

    def __init__(
        self,
        progress: RunProgress,
        log: RunLog,
        display: TrainingDisplay,
        learning_rates: Mapping[str, optax.Schedule],
        *,
        total_steps: int,
        steps_per_epoch: int,
        log_every: int,
    ):
        self._progress, self._log, self._display = progress, log, display
        self._learning_rates = learning_rates
        self._total_steps, self._steps_per_epoch, self._log_every = total_steps, steps_per_epoch, log_every
        self._texts_per_second: float | None = None
        self._recent: deque[tuple[float, float]] = deque(maxlen=STEPS_OF_SPEED)  # (time, texts) of the last steps

    def record(self, step: int, metrics: Mapping[str, jax.Array]) -> None:
        """Reads the metrics of step number `step`, which waits until the step is done.

        Raises:
          NotFiniteError: loss or gradient norm.
        """
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        if not (math.isfinite(values["loss"]) and math.isfinite(values["gradient_norm"])):
            raise NotFiniteError(f"step {step}: loss {values['loss']}, gradient norm {values['gradient_norm']}")
        self._progress.add_step(values)
        texts_per_second, seconds_a_step = self._speed(values["examples"])
        self._texts_per_second = texts_per_second or None
        self._display.update(
            step, values["loss"], values["accuracy"], texts_per_second, (self._total_steps - step) * seconds_a_step
        )
        if step % self._log_every == 0:
            self._write(step)

    def finish(self, step: int) -> None:
        """Writes what the last record before the end of the run, after `step` steps, has left over."""
        if self._progress.since_record:
            self._write(step)

    def _write(self, step: int) -> None:
        rates = {name: float(schedule(step - 1)) for name, schedule in self._learning_rates.items()}
        speed = {"epoch": step / self._steps_per_epoch, "examples_per_second": self._texts_per_second}
        self._log.write("train", step, {**take_means(self._progress.since_record), **rates, **speed})

    def _speed(self, texts: float) -> tuple[float, float]:
        self._recent.append((time.perf_counter(), texts))
        elapsed = self._recent[-1][0] - self._recent[0][0]
        if not elapsed:
            return 0.0, 0.0
        texts_since = sum(number for _, number in self._recent) - self._recent[0][1]
        return texts_since / elapsed, elapsed / (len(self._recent) - 1)
