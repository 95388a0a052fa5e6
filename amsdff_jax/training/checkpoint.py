"""Checkpoints: the latest states to go on from, and apart from them the best one to keep."""

import logging
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from amsdff_jax.errors import UserError
from amsdff_jax.training.step import TrainState, Variables

logger = logging.getLogger(__name__)


def has_checkpoint(workdir: Path) -> bool:
    """Whether the run in `workdir` has saved a state to go on from. Makes no folders."""
    latest = workdir / "checkpoints" / "latest"
    return latest.is_dir() and any(folder.name.isdigit() for folder in latest.iterdir())


class Checkpoints:
    """The checkpoints of one run: `<directory>/latest/<step>` and `<directory>/best/<step>`.

    Two managers, because one that keeps the best would throw a worse latest away. A checkpoint of
    `latest` holds the whole training state and the run's progress; one of `best` the model's
    variables.
    """

    def __init__(self, directory: str | Path):
        directory = Path(directory).absolute()  # orbax refuses relative paths
        self.directory = directory
        self._latest = _manager(directory / "latest", keep=2)
        self._best = _manager(directory / "best", keep=1)

    def latest_step(self) -> int | None:
        """Step of the newest checkpoint, None when there is none."""
        return self._latest.latest_step()

    def save(self, state: TrainState, progress: dict[str, Any]) -> None:
        """Saves state and progress (JSON) under the state's step, in place of one that is there."""
        step = int(state.step)
        if step in self._latest.all_steps():
            return
        self._latest.save(
            step, args=ocp.args.Composite(state=ocp.args.StandardSave(state), progress=ocp.args.JsonSave(progress))
        )

    def restore(self, like: TrainState) -> tuple[TrainState, dict[str, Any]]:
        """The newest state and progress.

        Args:
          like: a state with the shapes, types and placement that are expected.

        Raises:
          UserError: the checkpoint cannot be read or does not fit `like`.
        """
        step = self._latest.latest_step()
        arguments = ocp.args.Composite(state=ocp.args.StandardRestore(_abstract(like)), progress=ocp.args.JsonRestore())
        restored = self._read(self._latest, step, arguments)
        return restored["state"], restored["progress"]

    def save_best(self, step: int, variables: Variables) -> None:
        """Saves the best variables so far, in place of the former best."""
        if step not in self._best.all_steps():
            self._best.save(step, args=ocp.args.Composite(variables=ocp.args.StandardSave(variables)))

    def restore_best(self, like: Variables) -> Variables:
        """The best variables.

        Raises:
          UserError: the checkpoint cannot be read or does not fit `like`.
        """
        arguments = ocp.args.Composite(variables=ocp.args.StandardRestore(_abstract(like)))
        return self._read(self._best, self._best.latest_step(), arguments)["variables"]

    def close(self) -> None:
        """Waits for what is being written."""
        self._latest.close()
        self._best.close()

    @staticmethod
    def _read(manager: ocp.CheckpointManager, step: int, arguments: ocp.args.Composite) -> Any:
        try:
            return manager.restore(step, args=arguments)
        except Exception as error:  # orbax and tensorstore raise many kinds for a damaged checkpoint
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise UserError(
                f"{manager.directory / str(step)}: this checkpoint cannot be read ({reason[:200]}); remove the folder "
                "to go on from the one before, or use another --workdir"
            ) from None


def _manager(directory: Path, keep: int) -> ocp.CheckpointManager:
    options = ocp.CheckpointManagerOptions(
        max_to_keep=keep,
        create=True,
        # The step donates its buffers, so a copy in the background could read what is overwritten already.
        enable_async_checkpointing=False,
    )
    return ocp.CheckpointManager(directory, options=options)


def _abstract(tree: Any) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree)
