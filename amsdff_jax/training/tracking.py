"""Trackers, programs that show and compare runs: they get the numbers that `metrics.jsonl` gets."""

import contextlib
import dataclasses
import importlib.util
import logging
import os
import secrets
import socket
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.files import user_errors, write_json
from amsdff_jax.base.records import read_record
from amsdff_jax.base.validation import flatten
from amsdff_jax.config import Config
from amsdff_jax.evaluation.model_card import without_paths
from amsdff_jax.parallel.hosts import is_first_host

logger = logging.getLogger(__name__)

FILE = "trackers.json"  # in a run's folder: under which id each tracker knows the run
PROJECT = "amsdff-jax"  # where the tracker's own environment variable names no other


@dataclasses.dataclass(frozen=True)
class TrackedRun:
    """What a tracker is told of a run when a session of it begins.

    Attributes:
      workdir: the run's folder, after whose name the run is called.
      settings: by dotted name; of a path only the last part.
      first_step: updates before this session; what was tracked of later ones is tracked again.
      run_id: the tracker's own, of the session before; "": the run is new.
    """

    workdir: Path
    settings: Mapping[str, Any]
    first_step: int
    run_id: str


class Tracker(Protocol):
    """A session of a run in one tracker. It may raise anything, which ends the tracking and not the run.

    Attributes:
      run_id: with which a later session continues the same run; "": it needs none.
    """

    run_id: str

    def __init__(self, run: TrackedRun) -> None:
        """Begins a run, or continues it."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Takes numbers as they are after `step` updates, under names such as `validation/accuracy`."""

    def finish(self, failed: bool) -> None:
        """Ends the session; `failed` says whether by an error."""


class TensorBoard:
    """Event files in the run's folder.

    They are written record by record: the thread of tensorboardX's `SummaryWriter` would die on a full disk, and leave
    the training waiting for it.
    """

    def __init__(self, run: TrackedRun) -> None:
        with _without_torch():
            from tensorboardX import RecordWriter
            from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyright: ignore  (made when it is run)
            from tensorboardX.proto.summary_pb2 import Summary  # pyright: ignore

        self.run_id, self._event, self._summary = "", Event, Summary
        folder = run.workdir / "tensorboard"
        folder.mkdir(exist_ok=True)
        # TensorBoard reads the files in the order of their names.
        self._writer = RecordWriter(str(folder / f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}"))
        self._write(file_version="brain.Event:2")
        # Tells TensorBoard to forget what an interrupted session wrote past this step.
        self._write(step=run.first_step + 1, session_log=SessionLog(status=SessionLog.START))
        self._writer.flush()

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """See `Tracker`."""
        scalars = [self._summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._write(step=step, summary=self._summary(value=scalars))
        self._writer.flush()

    def finish(self, failed: bool) -> None:
        """See `Tracker`."""
        self._writer.close()

    def _write(self, **fields: Any) -> None:
        self._writer.write(self._event(wall_time=time.time(), **fields).SerializeToString())


class MLflow:
    """A run of MLflow, where its environment variables say; within the caller's own, if one is active."""

    def __init__(self, run: TrackedRun) -> None:
        import mlflow  # pyright: ignore[reportMissingImports]

        self._mlflow = mlflow
        started = mlflow.start_run(
            run_id=run.run_id or None,
            run_name=None if run.run_id else run.workdir.name,
            nested=mlflow.active_run() is not None,
        )
        self.run_id = started.info.run_id
        if not run.run_id:  # MLflow lets no parameter change
            try:
                mlflow.log_params(dict(run.settings))
            except Exception:
                mlflow.end_run("FAILED")  # or what the caller logs next goes into it
                raise

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """See `Tracker`."""
        self._mlflow.log_metrics(dict(values), step=step, run_id=self.run_id)

    def finish(self, failed: bool) -> None:
        """See `Tracker`."""
        self._mlflow.end_run("FAILED" if failed else "FINISHED")


class WeightsAndBiases:
    """A run of Weights & Biases."""

    def __init__(self, run: TrackedRun) -> None:
        import wandb  # pyright: ignore[reportMissingImports]

        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=run.workdir.name,
            dir=str(run.workdir),
            id=run.run_id or None,
            resume="allow",
            reinit="create_new",  # the caller's own run stays as it is
            config=dict(run.settings),
            allow_val_change=True,
        )
        self.run_id = self._run.id
        # An axis of our own: W&B's step only grows, and what a run that was resumed logs at a step that it had is lost.
        self._run.define_metric("*", step_metric="step")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """See `Tracker`."""
        self._run.log({**values, "step": step})

    def finish(self, failed: bool) -> None:
        """See `Tracker`."""
        self._run.finish(exit_code=int(failed))


class Trackio:
    """A run of trackio, which knows runs by their names."""

    def __init__(self, run: TrackedRun) -> None:
        import trackio  # pyright: ignore[reportMissingImports]

        self._trackio = trackio
        self.run_id = run.run_id or f"{run.workdir.name}-{secrets.token_hex(4)}"
        self._run = trackio.init(
            project=os.environ.get("TRACKIO_PROJECT", PROJECT),
            name=self.run_id,
            config=dict(run.settings),
            resume="allow",
            embed=False,
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """See `Tracker`."""
        self._run.log(dict(values), step=step)

    def finish(self, failed: bool) -> None:
        """See `Tracker`."""
        self._trackio.finish()


@contextlib.contextmanager
def _without_torch() -> Iterator[None]:
    """Imports as where PyTorch is not installed, unless it is loaded: it takes 4 seconds, and is used for nothing."""
    hidden: Any = None
    if sys.modules.setdefault("torch", hidden) is not None:
        yield
        return
    try:
        yield
    finally:
        del sys.modules["torch"]


# By the name in `train.trackers`: what is imported, what is installed, what is called.
_TRACKERS: dict[str, tuple[str, str, type[Tracker]]] = {
    "tensorboard": ("tensorboardX", "tensorboardX", TensorBoard),
    "mlflow": ("mlflow", "mlflow", MLflow),
    "wandb": ("wandb", "wandb", WeightsAndBiases),
    "trackio": ("trackio", "trackio", Trackio),
}


def check_trackers(names: Iterable[str]) -> None:
    """Raises `UserError` for a tracker that is not installed; imports none."""
    for name in names:
        module, package, _ = _TRACKERS[name]
        found = importlib.util.find_spec(module)
        if found is None or found.origin is None:  # the second of a mere folder of that name, such as W&B makes
            raise UserError(f"train.trackers: {name} is not installed; pip install {package}, or leave it out")


class Trackers:
    """A session of a run in all its trackers, kept by the first host alone. Use as a context manager.

    A tracker that fails, as without a network, is told of once and left alone until the next session. Only before a
    run's first step it is an error, when nothing is lost yet.
    """

    def __init__(self, config: Config, workdir: Path, first_step: int, resumed: bool):
        """Begins or continues the run in each of `train.trackers`.

        Args:
          config: of the run.
          workdir: its folder.
          first_step: updates before this session.
          resumed: whether there was a session before.

        Raises:
          UserError: a tracker of a new run cannot be started, or the ids of the run not written.
        """
        self._trackers: dict[str, Tracker] = {}
        if not is_first_host():
            return
        file = workdir / FILE
        known = read_record(file, "the ids of a run in its trackers") if resumed else {}
        settings = flatten(without_paths(dataclasses.asdict(config)))
        for name in config.train.tracker_names:
            run = TrackedRun(workdir, settings, first_step, str(known.get(name, "")))
            try:
                self._trackers[name] = _TRACKERS[name][2](run)
            except Exception as error:  # each raises kinds of its own
                if not resumed:
                    self._finish(failed=True)
                    raise UserError(
                        f"train.trackers: {_failure(name, error)}; leave it out to train without"
                    ) from error
                self._tell(name, error, first_step)
        ids = known | {name: tracker.run_id for name, tracker in self._trackers.items() if tracker.run_id}
        if ids != known or (file.exists() and not resumed):
            with user_errors(file, "written", "make room and run the same command again"):
                write_json(file, ids)

    def log(self, kind: str, step: int, values: Mapping[str, object]) -> None:
        """Gives the numbers among `values` to all trackers, under the names `kind/name`."""
        numbers = {f"{kind}/{name}": float(value) for name, value in values.items() if isinstance(value, (int, float))}
        for name, tracker in list(self._trackers.items()):
            try:
                tracker.log(step, numbers)
            except Exception as error:
                del self._trackers[name]
                self._tell(name, error, step)

    def __enter__(self) -> "Trackers":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_error: object) -> None:
        self._finish(failed=kind is not None)

    def _finish(self, failed: bool) -> None:
        for name, tracker in self._trackers.items():
            try:
                tracker.finish(failed)
            except Exception as error:
                logger.warning("%s; some numbers may be missing there", _failure(name, error))

    def _tell(self, name: str, error: Exception, step: int) -> None:
        message = "%s; nothing is tracked there from step %d on in this session, and metrics.jsonl has all of it"
        logger.warning(message, _failure(name, error), step)


def _failure(name: str, error: Exception) -> str:
    return f"{name}: failed ({type(error).__name__}: {' '.join(str(error).split()):.200})"
