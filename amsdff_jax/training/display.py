"""What a person sees of a running training: a bar on a terminal, a line now and then in a pipe."""

import logging
import sys
import time

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from amsdff_jax.parallel.hosts import is_first_host
from amsdff_jax.reporting.console import make_console

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 30.0


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

    def update(self, step: int, loss: float, accuracy: float, texts_per_second: float, seconds_left: float) -> None:
        """Shows where the run stands after `step` steps."""
        numbers = f"loss {loss:.4f}  accuracy {accuracy:.3f}  {texts_per_second:.1f} texts/s"
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
