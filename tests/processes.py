"""Scripts in processes of their own, which can be disturbed at a chosen moment.

The processes are forked from one that has imported everything and computed nothing: several of them
take the time of one.
"""

import importlib
import multiprocessing
import os
import runpy
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(
    [
        *("amsdff_jax.training.train_run", "amsdff_jax.cli.command_line", "matplotlib.pyplot", "tests.processes"),
        *("amsdff_jax.prediction.evaluate", "amsdff_jax.prediction.run", "amsdff_jax.experiments.experiment"),
        *("amsdff_jax.inspection.inspect", "amsdff_jax.explanation.write", "sklearn.metrics"),
    ]
)

# What a run is doing: the function that begins it.
PHASES = {
    "starting": "amsdff_jax.training.train_run:load_data",
    "training": "amsdff_jax.training.recorder:StepRecorder.record",
    "evaluating": "amsdff_jax.evaluation.evaluator:Evaluator.evaluate",
    "saving": "amsdff_jax.training.checkpoint:Checkpoints._write",
    "reporting": "amsdff_jax.evaluation.reporter:write_report",
    "predicting": "amsdff_jax.prediction.outputs:Output.write",
}


class Disturbance(NamedTuple):
    """What happens to a process and when: at the `entry`-th time that `phase` begins, `delay` seconds later.

    Attributes:
      signals: sent to the process by itself, one after the other.
      fill: a file that is written until its disk is full; "": none.
    """

    phase: str
    entry: int = 1
    delay: float = 0.0
    signals: tuple[int, ...] = ()
    fill: str = ""


class Script:
    """A script that runs, with all that it prints in a file; the modules `hidden` are as if not installed."""

    def __init__(
        self, output: Path, script: str, *arguments: str, disturbance: Disturbance | None = None,
        cwd: Path | None = None, hidden: Sequence[str] = (), **env: str,
    ):  # fmt: skip
        self._output = output
        self.process = context.Process(target=_run, args=(output, script, arguments, disturbance, cwd, hidden, env))
        self.process.start()

    def wait(self, timeout: float = 200) -> int:
        """The exit code, negative after a signal."""
        self.process.join(timeout)
        if self.process.exitcode is None:
            self.process.kill()
            pytest.fail(f"still running after {timeout} s:\n{self.output}")
        return self.process.exitcode

    @property
    def output(self) -> str:
        """What it has printed so far, errors included."""
        return self._output.read_text(encoding="utf-8", errors="replace")


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def run_script(output: Path, script: str, *arguments: str, **options) -> tuple[int, str]:
    """Runs a script to its end; exit code and output."""
    started = Script(output, script, *arguments, **options)
    return started.wait(), started.output


def _run(
    output: Path, script: str, arguments: tuple[str, ...], disturbance: Disturbance | None, cwd: Path | None,
    hidden: Sequence[str], env: dict[str, str],
) -> None:  # fmt: skip
    stream = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
    encoding = env.get("PYTHONIOENCODING")
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, encoding=encoding) for number in (1, 2))
    os.environ.update(env)
    sys.modules.update(dict.fromkeys(hidden))
    if cwd:
        os.chdir(cwd)
    if disturbance:
        _arrange(disturbance)
    sys.argv = [script, *arguments]
    if script == "amsdff":
        sys.exit(importlib.import_module("amsdff_jax.cli.main").main())
    runpy.run_path(str(ROOT / "scripts" / script), run_name="__main__")


def _arrange(disturbance: Disturbance) -> None:
    module, _, path = PHASES[disturbance.phase].partition(":")
    *owners, name = path.split(".")
    owner = importlib.import_module(module)
    for part in owners:
        owner = getattr(owner, part)
    function, entries = getattr(owner, name), []

    def disturbed(*arguments, **options):
        entries.append(None)
        if len(entries) == disturbance.entry:
            _after(disturbance.delay, lambda: _happen(disturbance))
        return function(*arguments, **options)

    setattr(owner, name, disturbed)


def _after(delay: float, action: Callable[[], None]) -> None:
    if delay:
        threading.Timer(delay, action).start()
    else:
        action()


def _happen(disturbance: Disturbance) -> None:
    if disturbance.fill:
        with open(disturbance.fill, "wb", buffering=0) as stream:
            try:
                while True:
                    stream.write(bytes(4096))
            except OSError:
                pass
    for number in disturbance.signals:
        os.kill(os.getpid(), number)
        if number != signal.SIGKILL:
            time.sleep(0.01)  # a handler runs between two instructions, and a second signal must find it done
