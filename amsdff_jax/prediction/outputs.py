"""Predictions as lines of JSONL or CSV, written as they come; a file that was begun can be gone on with."""

import csv
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, Self

from amsdff_jax.classifier import Prediction
from amsdff_jax.errors import UserError
from amsdff_jax.paths import user_path
from amsdff_jax.prediction.inputs import Record

FORMATS = ("jsonl", "csv")


class Layout(NamedTuple):
    """What every line of an output holds.

    Attributes:
      format: one of `FORMATS`.
      top_k: number of classes; from 2 on they have fields of their own.
      abstains: whether the model may abstain.
      label_sets: whether it gives sets of labels.
      keep_columns: columns of the input.
    """

    format: str
    top_k: int = 1
    abstains: bool = False
    label_sets: bool = False
    keep_columns: tuple[str, ...] = ()


def choose_format(path: str, format: str = "") -> str:
    """`format`, or what the ending of the output's name says; JSONL without a name.

    Raises:
      UserError: neither says it.
    """
    if format or not path:
        return format or "jsonl"
    ending = Path(path).suffix.lower().removeprefix(".")
    if ending not in FORMATS:
        endings = " or ".join(f".{name}" for name in FORMATS)
        raise UserError(f"--output={path}: expected a name ending in {endings}, or --format={'|'.join(FORMATS)}")
    return ending


class Output:
    """A file, or the standard output, that takes one line a record; each is flushed at once.

    Attributes:
      done: records that the file held already.
    """

    def __init__(self, path: str, layout: Layout, resume: bool = False):
        """Opens the output.

        Args:
          path: of the file; "": the standard output.
          layout: of its lines.
          resume: go on after the last complete line, if there is one; without it, a file must be new or empty.

        Raises:
          UserError: the file cannot be written, is there already, or holds something else.
        """
        self._name, self._layout, self.done = path or "standard output", layout, 0
        header = _header(layout)
        if not path:
            self._stream: BinaryIO = sys.stdout.buffer
            self._write(header)
            return
        try:
            self._stream = self._open(user_path(path), resume)
            begun = self._stream.seekable() and self._stream.tell()
        except OSError as error:
            raise UserError(f"--output={path}: cannot be written ({error.strerror})") from None
        if not begun:
            self._write(header)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._stream is not sys.stdout.buffer:
            self._stream.close()

    def write(self, record: Record, prediction: Prediction | None) -> None:
        """Writes the line of one record.

        Raises:
          UserError: there is no room for it.
          BrokenPipeError: nobody reads the standard output any more.
        """
        if self._layout.format == "csv":
            self._write(_csv_line(_csv_fields(record, prediction, self._layout)))
        else:
            # JSON has an escape for a surrogate that stands alone, and it is what `backslashreplace` makes.
            line = json.dumps(_json_fields(record, prediction, self._layout), ensure_ascii=False, default=str)
            self._write(line.encode("utf-8", "backslashreplace") + b"\n")

    def _write(self, line: bytes) -> None:
        try:
            self._stream.write(line)
            self._stream.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise UserError(f"{self._name}: cannot be written ({error.strerror}); make room and go on with --resume"
                            ) from None  # fmt: skip

    def _open(self, path: Path, resume: bool) -> BinaryIO:
        if not path.exists() or not path.is_file() or not path.stat().st_size:
            return path.open("wb")
        if not resume:
            raise UserError(f"--output={path}: is there already; go on with it (--resume), or delete it")
        stream = path.open("r+b")
        try:
            self.done, end = _complete_lines(stream, self._layout, path)
            stream.truncate(end)
            stream.seek(end)
        except BaseException:
            stream.close()
            raise
        return stream


def _complete_lines(stream: BinaryIO, layout: Layout, path: Path) -> tuple[int, int]:
    """How many whole records a file holds, and where the last of them ends.

    Raises:
      UserError: they are no records of this layout, or not one for every row from the first.
    """
    header = _header(layout)
    number, end, last, pieces, quotes = (-1 if header else 0), 0, b"", [], 0
    for line in stream:
        pieces.append(line)
        # A line break inside quotes ends no record. Quotes within quotes are doubled, so that their number tells.
        quotes += line.count(b'"') if header else 0
        if line.endswith(b"\n") and quotes % 2 == 0:
            last, pieces, quotes = b"".join(pieces), [], 0
            if not number + 1 and last != header:
                raise _other_columns(path)
            number, end = number + 1, end + len(last)
    if number <= 0:
        return 0, end
    try:
        record = last.decode("utf-8")
        row = int(record.split(",", 1)[0]) if header else json.loads(record)["row"]
    except (ValueError, KeyError, TypeError):
        row = None
    if row != number:
        raise UserError(f"--output={path}: record {number} does not say that it is row {number}; this is no output of "
                        "the same command; choose another file")  # fmt: skip
    if not header and set(json.loads(record)) not in _json_keys(layout):
        raise _other_columns(path)
    return number, end


def _other_columns(path: Path) -> UserError:
    return UserError(
        f"--output={path}: has other columns than this command writes; use the flags it was begun with, or another file"
    )


def _header(layout: Layout) -> bytes:
    return _csv_line(_columns(layout)) if layout.format == "csv" else b""


def _rounded(probability: float) -> float:
    return float(f"{probability:.6g}")


def _json_fields(record: Record, prediction: Prediction | None, layout: Layout) -> dict[str, Any]:
    fields: dict[str, Any] = {"row": record.row}
    if prediction is None:
        fields["error"] = record.error
    else:
        fields |= {"label": prediction.label, "probability": _rounded(prediction.probability)}
        if layout.top_k > 1:
            fields["top_k"] = [
                {"label": label, "probability": _rounded(probability)} for label, probability in prediction.top_k
            ]
        fields["truncated"] = prediction.truncated
        if layout.abstains:
            fields["abstained"] = prediction.abstained
        if layout.label_sets:
            fields["label_set"] = prediction.label_set
    if layout.keep_columns:
        fields["input"] = record.kept
    return fields


def _json_keys(layout: Layout) -> list[set[str]]:
    """What the keys of a record may be: those of a prediction and those of an error."""
    nothing = Record(0, None, dict.fromkeys(layout.keep_columns))
    prediction = Prediction("", 0.0, (), truncated=False)
    return [set(_json_fields(nothing, answer, layout)) for answer in (prediction, None)]


def _columns(layout: Layout) -> list[str]:
    others = [f"{name}_{place}" for place in range(2, layout.top_k + 1) for name in ("label", "probability")]
    return [
        "row", "label", "probability", *others, "truncated", *(["abstained"] if layout.abstains else []),
        *(["label_set"] if layout.label_sets else []), "error", *(f"input.{name}" for name in layout.keep_columns),
    ]  # fmt: skip


def _csv_fields(record: Record, prediction: Prediction | None, layout: Layout) -> list[Any]:
    fields: dict[str, Any] = {"row": record.row, "error": record.error}
    if prediction is not None:
        for place, (label, probability) in enumerate(prediction.top_k, start=1):
            ending = "" if place == 1 else f"_{place}"
            fields |= {f"label{ending}": label, f"probability{ending}": _rounded(probability)}
        fields["truncated"] = str(prediction.truncated).lower()
        fields["abstained"] = str(prediction.abstained).lower()
        fields["label_set"] = json.dumps(prediction.label_set, ensure_ascii=False)
    fields |= {f"input.{name}": value for name, value in record.kept.items()}
    return [fields.get(column, "") for column in _columns(layout)]


def _csv_line(fields: Sequence[Any]) -> bytes:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(fields)
    return line.getvalue().encode("utf-8", "backslashreplace")
