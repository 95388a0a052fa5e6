"""The records of a run: `metrics.jsonl` and TensorBoard events."""

import json
from collections.abc import Mapping
from pathlib import Path

from tensorboardX import SummaryWriter


class RunLog:
    """Records of steps and evaluations. Use as a context manager.

    A resumed run drops the records past the step it goes on from, so that every step is there once.
    """

    def __init__(self, directory: Path, first_step: int):
        self._file = directory / "metrics.jsonl"
        self._drop_records_after(first_step)
        self._stream = self._file.open("a", encoding="utf-8")
        self._events = SummaryWriter(str(directory / "tensorboard"), purge_step=first_step + 1)

    def write(self, kind: str, step: int, values: Mapping[str, object]) -> None:
        """Adds a record; numbers among `values` also become TensorBoard scalars `kind/name`."""
        self._stream.write(json.dumps({"kind": kind, "step": step, **values}) + "\n")
        self._stream.flush()
        for name, value in values.items():
            if isinstance(value, (int, float)):
                self._events.add_scalar(f"{kind}/{name}", value, step)

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stream.close()
        self._events.close()

    def _drop_records_after(self, step: int) -> None:
        if not self._file.exists():
            return
        kept = []
        for line in self._file.read_text(encoding="utf-8").splitlines():
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line + "\n")
            except ValueError:  # cut short when the run was killed
                continue
        self._file.write_text("".join(kept), encoding="utf-8")
