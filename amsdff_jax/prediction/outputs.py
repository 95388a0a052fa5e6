"""Files and pipes that take predictions as they come; a file that was begun can be resumed."""

import contextlib
import itertools
import os
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.files import try_lock, user_errors, user_path
from amsdff_jax.prediction.inputs import Record
from amsdff_jax.prediction.lines import Layout, beginning, header, line
from amsdff_jax.prediction.prediction import AnyPrediction
from amsdff_jax.prediction.progress import START, Origin, ProgressFile, Reached, new_digest

PIECE = 1 << 20  # bytes of a file that are read at once


class Output:
    """The standard output, or a file, that takes a line a record.

    A file is locked while it is written. Beside it lies how far it is, so that only the same model over the same input
    resumes it, behind the last whole chunk: what was written of the next one is written again.

    Attributes:
      done: records that the output holds in whole chunks.
    """

    def __init__(self, path: str, layout: Layout, origin: Origin | None, resume: bool = False):
        """Opens the output. A file that is resumed stays as it is until `skip` has had its `done` records.

        Args:
          path: of the file; "": the standard output.
          layout: of its lines.
          origin: of what the lines will say; None for the standard output.
          resume: continue a file that was begun; without it, it must be new or empty.

        Raises:
          UserError: the file cannot be written, is there already, is being written, or was begun with something else.
        """
        self._name, self._layout = f"--output={path}" if path else "standard output", layout
        self._origin = origin or Origin("", "", {})  # which standard output does not keep
        self._input, self._output, self._size, self.done, self._skipped = new_digest(), new_digest(), 0, 0, 0
        self._progress: ProgressFile | None = None
        self._reached: list[Reached] = []
        self._begun = False
        if not path:
            self._stream = sys.stdout.buffer
            self._begin()
            return
        file = user_path(path)
        with user_errors(self._name, "written"):
            if file.exists() and not file.is_file():
                self._stream = file.open("wb", buffering=0)
            else:
                self._stream = os.fdopen(os.open(file, os.O_RDWR | os.O_CREAT, 0o666), "r+b", buffering=0)
                self._progress = ProgressFile(file)
        try:
            self._open(resume)
        except BaseException:
            self._close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._close()

    def skip(self, record: Record) -> None:
        """Takes a record that the output holds already.

        Raises:
          UserError: the output was begun with other records, or cannot be written.
        """
        self._input.update(_content(record))
        self._skipped += 1
        if self._skipped == self.done:
            if self._input.hexdigest() != self._reached[-1].input:
                raise UserError(
                    f"{self._name}: rows 1 to {self.done} of the input are not those that it was begun with; give the "
                    "same input and columns, or choose another file"
                )
            self._begin()

    def write(self, answers: Sequence[tuple[Record, AnyPrediction | None]]) -> None:
        """Writes the lines of a chunk.

        Raises:
          UserError: there is no room for them.
          BrokenPipeError: nobody reads the standard output any more.
        """
        self._write(b"".join(line(record, prediction, self._layout) for record, prediction in answers))
        for record, _ in answers:
            self._input.update(_content(record))
        self.done += len(answers)
        if self._progress is not None and answers:
            reached = Reached(self.done, self._input.hexdigest(), self._size, self._output.hexdigest())
            with self._errors_told():
                self._progress.add(reached)

    def finish(self) -> None:
        """Says that the input is at its end.

        Raises:
          UserError: it has fewer records than the output.
        """
        if not self._begun:
            raise UserError(
                f"{self._name}: holds {self.done} rows, but the input only {self._skipped}; give the input that it was "
                "begun with, or choose another file"
            )

    def _open(self, resume: bool) -> None:
        """Begins a file, or finds out how far it is."""
        if self._progress is None:
            if resume:
                raise UserError(f"{self._name}: is no file, but a pipe or a device, which --resume cannot continue")
            return self._begin()
        if not try_lock(self._stream):
            raise UserError(f"{self._name}: is being written by another process; wait for it, or choose another file")
        size = self._stream.seek(0, os.SEEK_END)
        if not size:
            return self._begin()
        if not resume:
            raise UserError(f"{self._name}: is there already; continue it with --resume, or delete it")
        origin, reached = self._progress.read()
        differences = origin.differences(self._origin)
        if differences:
            raise UserError(
                f"{self._name}: was begun with {' and '.join(differences)}; resume with the same or choose another file"
            )
        self._reached = list(itertools.takewhile(lambda each: each.size <= size, reached))
        last = self._reached[-1] if self._reached else START
        self._stream.seek(0)
        left = last.size
        while left and (piece := self._stream.read(min(left, PIECE))):
            self._output.update(piece)
            left -= len(piece)
        expected = (
            beginning(last.rows + 1, self._layout) if last.size else header(self._layout) or beginning(1, self._layout)
        )
        following = self._stream.read(len(expected))
        if self._output.hexdigest() != last.output or not expected.startswith(following):
            raise UserError(f"{self._name}: was changed after it had been written; delete it, or choose another file")
        self.done = last.rows
        if not self.done:
            self._begin()

    def _begin(self) -> None:
        """Lets everything follow on the last whole chunk."""
        self._begun = True
        if self._progress is not None:
            self._size = self._reached[-1].size if self._reached else 0
            with self._errors_told():
                self._progress.begin(self._origin, self._reached)
                self._stream.truncate(self._size)
                self._stream.seek(self._size)
        if not self._size:
            self._write(header(self._layout))

    def _write(self, data: bytes) -> None:
        left = memoryview(data)
        with self._errors_told():
            while left:
                left = left[self._stream.write(left) :]
            self._stream.flush()
        self._output.update(data)
        self._size += len(data)

    def _errors_told(self) -> contextlib.AbstractContextManager[None]:
        hint = "" if self._progress is None else "make room and continue with --resume"
        return user_errors(self._name, "written", hint)

    def _close(self) -> None:
        if self._progress is not None:
            self._progress.close()
        if self._stream is not sys.stdout.buffer:
            self._stream.close()


def _content(record: Record) -> bytes:
    """What makes a record, for a digest."""
    return ascii((record.text, record.kept, record.error)).encode()
