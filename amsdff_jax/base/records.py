"""Records of what was done: one that is damaged is set aside and blocks nothing, where a damaged state is an error."""

import itertools
import json
import logging
from pathlib import Path
from typing import Any

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.files import read_json, to_json, write_text

logger = logging.getLogger(__name__)


def read_record(file: Path, what: str) -> dict[str, Any]:
    """The object in a record's JSON file; empty where there is none, or where a damaged one has been set aside.

    Args:
      what: the record is, such as "the metrics of an evaluation".

    Raises:
      UserError: a damaged one cannot be set aside.
    """
    if not file.exists():
        return {}
    try:
        return read_json(file, what)
    except UserError as error:
        set_aside(file, error)
        return {}


def read_log(file: Path) -> list[dict[str, Any]]:
    """The records on the lines of a run's `metrics.jsonl`: each with `kind`, `step` and numbers by name.

    A last line without an end is what a killed process leaves, and is passed over. If any other line is no record,
    the file is set aside, and those that are records are written anew.

    Raises:
      UserError: a damaged one cannot be set aside.
      OSError: what is left cannot be written.
    """
    if not file.exists():
        return []
    lines = file.read_bytes().split(b"\n") if file.is_file() else [b"", b""]
    records = [record for record in map(_log_record, lines[:-1]) if record is not None]
    damaged = len(lines) - 1 - len(records)
    if damaged:
        set_aside(file, UserError(f"{file}: {damaged} of its {len(lines) - 1} lines are no records of a run"))
        write_log(file, records)
    return records


def write_log(file: Path, records: list[dict[str, Any]]) -> None:
    """Writes `metrics.jsonl` whole, or leaves what is there."""
    write_text(file, "".join(to_json(record) + "\n" for record in records))


def set_aside(file: Path, error: Exception) -> None:
    """Gives a damaged record another name, `<name>.damaged`, and says so in one line.

    Args:
      error: names the file and what is wrong with it.

    Raises:
      UserError: the file cannot be renamed.
    """
    free = free_name(file.with_name(f"{file.name}.damaged"))
    try:
        file.replace(free)
    except FileNotFoundError:  # another host has done so
        return
    except OSError as problem:
        raise UserError(f"{error}; it cannot be renamed ({problem.strerror}): move it away") from None
    logger.warning("%s; it is now called %s, and a new one is begun", error, free.name)


def free_name(file: Path) -> Path:
    """The file itself, or the first of its name and a number that is not there yet."""
    names = (file.with_name(f"{file.name}{number or ''}") for number in itertools.count())
    return next(name for name in names if not name.exists())


def _log_record(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line.decode("utf-8"))
        values = {name: value for name, value in record.items() if name not in ("kind", "step") and value is not None}
        for value in values.values():
            float(value)
        whole = isinstance(record["kind"], str) and type(record["step"]) is int and record["step"] >= 0
        shown = {"loss", "accuracy"} <= record.keys() or "mse" in record  # numbers have no accuracy
        drawn = record["kind"] not in ("train", "validation") or shown
        return record if whole and drawn else None
    except (ValueError, TypeError, AttributeError, KeyError, OverflowError, RecursionError):
        return None
