"""Checkpoints: the latest states to resume from, and apart from them the best ones to keep."""

import glob
import json
import logging
import os
import re
import shutil
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.files import read_json, write_json
from amsdff_jax.models.variables import Variables
from amsdff_jax.parallel.hosts import fetch, is_first_host, wait_for_all_hosts
from amsdff_jax.training.step import TrainState

logger = logging.getLogger(__name__)

LATEST_KEPT = 2  # the newest, and the one before in case the newest is damaged
# Each of the latest has a best that it refers to, and a new best is written before the checkpoint that refers to it.
BEST_KEPT = LATEST_KEPT + 1
ITEM = "default"  # orbax's name for what a checkpoint holds where nobody names it


def has_checkpoint(workdir: Path) -> bool:
    """Whether the run in `workdir` has saved a state to resume from. Makes no folders."""
    latest = workdir / "checkpoints" / "latest"
    return latest.is_dir() and any(folder.name.isdigit() for folder in latest.iterdir())


def check_path(workdir: Path) -> None:
    """Raises `UserError` for the few paths under which no checkpoint can be kept."""
    path = f"{workdir.absolute()}/"
    # What etils and orbax take for the address of a cloud.
    if re.match("/(gs|s3|az|hf)/", path) or re.search("(gs|s3):/", path):
        raise UserError(
            f"{workdir}: checkpoints cannot be kept there (the path begins with /gs, /s3, /az or /hf, or has a folder "
            "whose name ends in 'gs:' or 's3:'); use another --workdir"
        )
    try:
        path.encode()
    except UnicodeEncodeError:
        raise UserError(f"{workdir}: the name is not UTF-8; use another --workdir") from None


class Restored(NamedTuple):
    """A checkpoint that was read: the training state and the run's progress."""

    state: TrainState
    progress: dict[str, Any]


class _DamagedError(Exception):
    """A checkpoint that cannot be read, or holds other numbers than were saved."""


class Checkpoints:
    """The checkpoints of one run: `<directory>/latest/<step>` and `<directory>/best/<step>`.

    Two managers, because one that keeps the best would throw a worse latest away. A checkpoint of
    `latest` holds the whole training state, one of `best` the model's variables; `<step>.json` beside
    it a checksum of its arrays and the run's progress. Folders and files are written under another
    name and renamed when complete; the first of each kind is read back, so that a folder that loses
    what is written there is told while little is lost. With several hosts all write and read a folder
    that they share.
    """

    def __init__(self, directory: str | Path):
        directory = Path(directory).absolute()  # orbax refuses relative paths
        self.directory = directory
        self._latest = _manager(directory / "latest", LATEST_KEPT)
        self._best = _manager(directory / "best", BEST_KEPT)
        self._unproven = [self._latest, self._best]  # nothing that this process wrote has been read back

    def remove_unfinished(self) -> None:
        """Removes what a process has left that was killed while it wrote, of which nothing can be read.

        Nobody else may write there: orbax has such folders itself while it writes.
        """
        for manager in (self._latest, self._best):
            for partial in manager.directory.glob("*.orbax-checkpoint-tmp*"):
                shutil.rmtree(partial, ignore_errors=True)

    def latest_step(self) -> int | None:
        """Step of the newest checkpoint, None when there is none."""
        return self._latest.latest_step()

    def save(self, state: TrainState, progress: dict[str, Any]) -> None:
        """Saves state and progress (JSON) under the state's step; progress alone if that state is there.

        Raises:
          UserError: it cannot be written, as on a full disk, or read back; those before it are as they were.
        """
        self._write(self._latest, int(state.step), state, progress)

    def restore(self, like: TrainState) -> Restored:
        """The newest state and progress that can be read. What is damaged is named and passed over.

        Args:
          like: a state with the shapes, types and placement that are expected.

        Raises:
          UserError: no checkpoint can be read, or none fits `like`.
        """
        damaged: list[str] = []
        for step in sorted(self._latest.all_steps(), reverse=True):
            try:
                restored = Restored(*self._read(self._latest, step, like))
            except _DamagedError as error:
                damaged.append(str(error))
                continue
            for line in damaged:
                logger.warning("%s; resuming from step %d, the checkpoint before", line, step)
            return restored
        raise UserError(
            f"{'; '.join(damaged)}; no checkpoint is left to resume from: begin anew with another --workdir"
        )

    def delete_checkpoints_after(self, step: int) -> None:
        """Removes the checkpoints of later steps, before a run is resumed at this one."""
        for manager in (self._latest, self._best):
            for later in [number for number in manager.all_steps() if number > step]:
                if is_first_host():
                    shutil.rmtree(manager.directory / str(later), ignore_errors=True)
            wait_for_all_hosts("checkpoints removed")
            manager.reload()

    def save_best(self, step: int, variables: Variables) -> None:
        """Saves the best variables so far.

        Raises:
          UserError: they cannot be written, as on a full disk, or read back.
        """
        self._write(self._best, step, variables, {})

    def restore_best(self, step: int, like: Variables) -> Variables:
        """The variables that were saved as the best at `step`.

        Raises:
          UserError: the checkpoint is missing, cannot be read or does not fit `like`.
        """
        try:
            return self._read(self._best, step, like)[0]
        except _DamagedError as error:
            raise UserError(f"{error}; the best weights are lost: train again with another --workdir") from None

    def close(self) -> None:
        """Frees what the managers hold."""
        self._latest.close()
        self._best.close()

    def _write(self, manager: ocp.CheckpointManager, step: int, arrays: Any, progress: dict[str, Any]) -> None:
        try:
            sums = {"checksum": checksum(arrays), "progress_checksum": _progress_checksum(progress)}
            if is_first_host():
                write_json(_details(manager, step), {**sums, "progress": progress})
            if step not in manager.all_steps():
                manager.save(step, args=ocp.args.StandardSave(arrays))
            if manager in self._unproven:
                self._read(manager, step, jax.tree.map(_on_the_host, arrays))
                self._unproven.remove(manager)
        except jax.errors.JaxRuntimeError:  # another host was lost
            raise
        except _DamagedError as error:
            shutil.rmtree(manager.directory / str(step), ignore_errors=True)
            manager.reload()
            raise UserError(f"{error}, and was only just written; choose a --workdir on another disk") from None
        except Exception as error:  # orbax and tensorstore raise many kinds for a full disk alone
            for partial in manager.directory.glob(f"{step}.*"):
                shutil.rmtree(partial, ignore_errors=True)
            good = self._latest.latest_step()
            kept = f"the checkpoint of step {good} is whole" if good is not None else "there is none yet"
            raise UserError(
                f"{manager.directory / str(step)}: the checkpoint cannot be written ({_reason(error)}); {kept}; make "
                "room and run the same command again to resume"
            ) from None
        if is_first_host():
            for file in manager.directory.glob("*.json"):
                if int(file.stem) not in manager.all_steps():
                    file.unlink()

    def _read(self, manager: ocp.CheckpointManager, step: int, like: Any) -> tuple[Any, dict[str, Any]]:
        folder = manager.directory / str(step)
        try:
            if not (folder / ITEM).is_dir():  # orbax would take an empty folder for one of several items
                raise FileNotFoundError(f"it has no folder {ITEM}")
            restored = manager.restore(step, args=ocp.args.StandardRestore(jax.tree.map(_to_restore, like)))
            # Of the run's own writing, and with the history of thousands of evaluations as large as that makes it.
            details = read_json(_details(manager, step), "a checkpoint's checksum", largest=sys.maxsize)
            intact, progress = details["checksum"] == checksum(restored), details["progress"]
            arrays = jax.tree.map(_place_like, like, restored)
        except Exception as error:  # orbax and tensorstore raise many kinds for a damaged checkpoint
            raise _DamagedError(f"{folder}: this checkpoint cannot be read ({_reason(error)})") from None
        if not intact:
            raise _DamagedError(f"{folder}: this checkpoint is damaged (its arrays are not the ones that were saved)")
        # Checkpoints of earlier versions have no sum of the progress.
        if details.get("progress_checksum", _progress_checksum(progress)) != _progress_checksum(progress):
            raise _DamagedError(f"{_details(manager, step)}: is damaged (not the progress that was saved)")
        return arrays, progress


def _manager(directory: Path, keep: int) -> ocp.CheckpointManager:
    options = ocp.CheckpointManagerOptions(
        preservation_policy=ocp.checkpoint_managers.LatestN(keep),
        create=True,
        # The step donates its buffers, so a copy in the background could read what is overwritten already.
        enable_async_checkpointing=False,
    )
    # The handler is named: orbax would guess it from what it finds, which a damaged folder would lead astray.
    handlers, handler = ocp.handlers.DefaultCheckpointHandlerRegistry(), ocp.StandardCheckpointHandler()
    for arguments in (ocp.args.StandardSave, ocp.args.StandardRestore):
        handlers.add(ITEM, arguments, handler)
    return ocp.CheckpointManager(_Folder(directory), options=options, handler_registry=handlers)


class _Folder(type(epath.Path("/"))):
    """A path as orbax takes it, in which brackets and stars are letters: etils takes them for a pattern."""

    def glob(self, pattern: str) -> Iterator["_Folder"]:
        return map(type(self), glob.glob(os.path.join(glob.escape(os.fspath(self)), pattern)))


def _to_restore(like: Any) -> Any:
    """What orbax restores: on the devices of `like` where each has all of it, else on the host.

    There every host has the same bytes for the checksum, and so finds the same damage.
    """
    if isinstance(like, np.ndarray) or not like.sharding.is_fully_replicated:
        return _on_the_host(like)
    return jax.ShapeDtypeStruct(like.shape, like.dtype, sharding=like.sharding)


def _place_like(like: Any, restored: Any) -> Any:
    """An array that orbax has restored, on the devices of `like`."""
    if restored.shape != like.shape:  # orbax looks at those of JAX's arrays alone
        raise ValueError(f"it holds an array of shape {restored.shape}, expected {like.shape}")
    if isinstance(like, np.ndarray) or isinstance(restored, jax.Array):
        return restored
    return jax.make_array_from_callback(like.shape, like.sharding, lambda index: restored[index])


def _on_the_host(array: Any) -> np.ndarray:
    """Its shape and type outside the memory of a device, where there may be no room for two."""
    return np.broadcast_to(np.zeros((), array.dtype), array.shape)


def checksum(tree: Any) -> int:
    """CRC-32 over the bytes of all arrays, as `fetch` gives them: all hosts must ask together."""
    total = 0
    for array in jax.tree.leaves(tree):
        total = zlib.crc32(fetch(array).tobytes(), total)
    return total


def _progress_checksum(progress: Any) -> int:
    return zlib.crc32(json.dumps(progress, sort_keys=True).encode())


def _details(manager: ocp.CheckpointManager, step: int) -> Path:
    """The file beside a checkpoint's folder: checksum and progress. It alone changes once a state is saved."""
    return Path(manager.directory) / f"{step}.json"


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error)
    for known in ("No space left on device", "Disk quota exceeded", "File too large", "Read-only file system"):
        if known in text:
            return known
    return next(iter(text.strip().splitlines()), type(error).__name__)[:200]
