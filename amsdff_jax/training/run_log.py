"""The records of a run: `metrics.jsonl` and TensorBoard events."""

import contextlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.files import to_json
from amsdff_jax.base.records import read_log, write_log
from amsdff_jax.parallel.hosts import is_first_host


class RunLog:
    """Records of steps and evaluations, written by the first host. Use as a context manager.

    A resumed run drops the records past the step it goes on from, so that every step is there once. What is no
    record is set aside.
    TensorBoard's events are written without tensorboardX's thread, which would die on a full disk and
    leave the training waiting for it.
    """

    def __init__(self, directory: Path, first_step: int):
        self._file = directory / "metrics.jsonl"
        self._writes = is_first_host()
        if self._writes:
            with self._errors_told():
                self._drop_records_after(first_step)
                self._stream = self._file.open("ab", buffering=0)
                (directory / "tensorboard").mkdir(exist_ok=True)
                self._events = EventsWriter(str(directory / "tensorboard" / "events"))
                # Tells TensorBoard to forget what an interrupted session wrote past this step.
                start = SessionLog(status=SessionLog.START)
                self._events.write_event(Event(wall_time=time.time(), step=first_step + 1, session_log=start))

    def write(self, kind: str, step: int, values: Mapping[str, object]) -> None:
        """Adds a record; numbers among `values` also become TensorBoard scalars `kind/name`.

        Raises:
          UserError: it cannot be written, as on a full disk.
        """
        if not self._writes:
            return
        with self._errors_told():
            self._stream.write((to_json({"kind": kind, "step": step, **values}) + "\n").encode())
            for name, value in values.items():
                if isinstance(value, (int, float)):
                    summary = scalar(f"{kind}/{name}", value)
                    self._events.write_event(Event(wall_time=time.time(), step=step, summary=summary))
            self._events.flush()

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._writes:
            self._stream.close()
            # What cannot be flushed has been told already, when it was written.
            with contextlib.suppress(OSError):
                self._events.close()

    @contextlib.contextmanager
    def _errors_told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"{self._file}: cannot be written ({error.strerror}); make room and run the same command again to go "
                "on from the last checkpoint"
            ) from None

    def _drop_records_after(self, step: int) -> None:
        write_log(self._file, [record for record in read_log(self._file) if record["step"] <= step])
