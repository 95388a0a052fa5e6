"""What an output was begun with and how far it is, kept beside it, so that nothing else resumes it."""

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.files import check_regular, to_json, user_errors, user_path, write_text
from amsdff_jax.evaluation.calibration_file import CALIBRATION
from amsdff_jax.models.dispatch import choose_compute_dtype
from amsdff_jax.models.model_folder import OWN_FILES
from amsdff_jax.prediction.classifier import Classifier

FORMAT_VERSION = 1
DIGEST_SIZE = 16  # bytes
TOLD = frozenset({"README.md", "card.json", CALIBRATION})  # files of a model folder that are not what it computes with


class Origin(NamedTuple):
    """What decides the rows of an output, beside the input.

    Attributes:
      model: a digest of weights, configuration and tokenizer.
      calibration: a digest.
      flags: the rest, by the names of the flags of `amsdff predict`.
    """

    model: str
    calibration: str
    flags: dict[str, Any]

    def differences(self, other: "Origin") -> list[str]:
        """What is other than in `other`, in words."""
        kinds = [name for name in ("model", "calibration") if getattr(self, name) != getattr(other, name)]
        names = [name for name in self.flags | other.flags if self.flags.get(name) != other.flags.get(name)]
        return [f"another {kind}" for kind in kinds] + [f"--{name}={_flag(self.flags.get(name))}" for name in names]


class Reached(NamedTuple):
    """How far an output is after a chunk.

    Attributes:
      rows: records that it holds.
      input: digest of these records.
      size: bytes that it holds.
      output: digest of these bytes.
    """

    rows: int
    input: str
    size: int
    output: str


def new_digest() -> hashlib.blake2b:
    """A digest of what it will be updated with."""
    return hashlib.blake2b(digest_size=DIGEST_SIZE)


START = Reached(0, new_digest().hexdigest(), 0, new_digest().hexdigest())


def describe_origin(folder: str, classifier: Classifier, flags: dict[str, Any]) -> Origin:
    """The origin of what a classifier says.

    Args:
      folder: that the classifier was read from.
      flags: whatever else decides what is written, in what JSON knows.

    Raises:
      UserError: the folder cannot be read any more.
    """
    digest = new_digest()
    for file in sorted(user_path(folder).iterdir()):
        if re.fullmatch(OWN_FILES, file.name) and file.name not in TOLD and file.is_file():
            with user_errors(file, "read"), file.open("rb") as stream:
                content = hashlib.file_digest(stream, "sha256").digest()
            digest.update(file.name.encode() + b"\0" + content)
    calibration = new_digest()
    if classifier.calibration is not None:
        calibration.update(to_json(dataclasses.asdict(classifier.calibration)).encode("utf-8", "backslashreplace"))
    dtype = choose_compute_dtype(classifier.saved.model.config.compute_dtype, classifier.platform)
    return Origin(digest.hexdigest(), calibration.hexdigest(), flags | {"compute_dtype": dtype.name})


class ProgressFile:
    """The file of an origin and, line by line, how far the output was after each chunk."""

    def __init__(self, output: Path):
        """Names the file beside `output`; nothing is read or written."""
        self.path = output.with_name(f"{output.name}.progress")
        self._descriptor = -1

    def read(self) -> tuple[Origin, list[Reached]]:
        """What the file says; what a process that was killed has not written to its end is left out.

        Raises:
          UserError: the file is missing or damaged.
        """
        try:
            check_regular(self.path)
            first, *others = self.path.read_bytes().split(b"\n")
            content = json.loads(first)
            if content.pop("format_version") != FORMAT_VERSION:
                raise ValueError
            origin = Origin(**content)
            if not isinstance(origin.flags, dict):
                raise ValueError
        except FileNotFoundError:
            raise UserError(
                f"{self.path}: is missing, and nothing else says with which model and input the output was begun; "
                "delete the output or choose another"
            ) from None
        except OSError as error:
            raise UserError(
                f"{self.path}: cannot be read ({error.strerror or error}); delete the output or choose another"
            ) from None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise UserError(
                f"{self.path}: does not say with which model and input the output was begun, as it should; delete the "
                "output or choose another"
            ) from None
        reached = []
        for line in others[:-1]:
            try:
                each = Reached(*json.loads(line))
                if [type(value) for value in each] != [int, str, int, str]:
                    raise ValueError
                reached.append(each)
            except (ValueError, TypeError, RecursionError):
                break
        return origin, reached

    def begin(self, origin: Origin, reached: Sequence[Reached]) -> None:
        """Writes the file anew; raises `OSError`."""
        lines = [{"format_version": FORMAT_VERSION, **origin._asdict()}, *reached]
        write_text(self.path, "".join(to_json(line) + "\n" for line in lines))
        self._descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND)

    def add(self, reached: Reached) -> None:
        """Adds a line; raises `OSError`."""
        os.write(self._descriptor, (to_json(reached) + "\n").encode())

    def close(self) -> None:
        """Closes the file, if it was begun."""
        if self._descriptor >= 0:
            os.close(self._descriptor)


def _flag(value: Any) -> str:
    return ",".join(value) if isinstance(value, (list, tuple)) else str(value)
