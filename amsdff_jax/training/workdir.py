"""The folder of a run, which belongs to one configuration, one set of inputs and one process at a time."""

import contextlib
import dataclasses
import json
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.files import read_json, try_lock, write_json
from amsdff_jax.config import Config
from amsdff_jax.config.field_roles import BATCH_FIELDS, INPUT_PREFIXES, SESSION_FIELDS, START_FIELDS
from amsdff_jax.config.renamed import with_current_names
from amsdff_jax.parallel.hosts import is_first_host
from amsdff_jax.training.checkpoint import check_path, has_checkpoint
from amsdff_jax.training.inputs import RunInputs

logger = logging.getLogger(__name__)

_held: set[Path] = set()  # the folders that this process has locked


@contextlib.contextmanager
def lock_workdir(workdir: Path) -> Iterator[None]:
    """Keeps other processes from training in a folder, which is made if need be, until they may or this one ends.

    The lock is the first host's, which writes, and ends with its process, however that ends. A process that has it
    may take it again.

    Raises:
      UserError: another process has it, or the folder cannot be written.
    """
    folder = Path(os.path.realpath(workdir))
    if folder in _held or not is_first_host():
        yield
        return
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        stream = (workdir / ".lock").open("a")
    except OSError as error:
        raise _unwritable(workdir, error) from None
    with stream:
        if not try_lock(stream):
            raise UserError(f"{workdir}: another process is training there; wait for its end, or use another folder")
        _held.add(folder)
        try:
            yield
        finally:
            _held.remove(folder)


def open_workdir(workdir: Path, config: Config, inputs: RunInputs) -> Config:
    """Makes the folder and writes what the run is, or checks that the run in it can be resumed as `config` says.

    A run without a checkpoint has nothing to lose, and is begun anew. With several hosts only the first writes.

    Returns:
      The settings of the run. Of one that is resumed, those that had their effect before its first step are its own.

    Raises:
      UserError: the folder cannot be written, or holds a run of another configuration or of other inputs.
    """
    check_path(workdir)
    with lock_workdir(workdir):
        wanted = json.loads(json.dumps(dataclasses.asdict(config)))
        if has_checkpoint(workdir):
            found = RunInputs.read(workdir)
            wanted = _settings_to_resume(workdir, wanted, found, inputs)
            if found:
                _require_same(workdir, found, inputs)
                # What it says that it began with stays so, whatever this session would begin with.
                kept = {name: getattr(found, name) for name in ("test", "encoder_checksum", "tokens")}
                inputs = dataclasses.replace(inputs, **kept)
        if is_first_host():
            try:
                write_json(workdir / "config.json", wanted)
                inputs.write(workdir)
            except OSError as error:
                raise _unwritable(workdir, error) from None
    return Config.from_dict(wanted)


def read_run_config(workdir: Path) -> Config:
    """The configuration of the run in a folder.

    A field that is not in it, as in a run of an earlier version, has its default. One that only a later version
    knows is left aside with a warning.

    Raises:
      UserError: there is none, or it cannot be read.
    """
    file = workdir / "config.json"
    content = read_json(file, "the config.json in the folder of a run")
    try:
        content, unknown = _split_fields(with_current_names(content, silent=True), dataclasses.asdict(Config()))
        if unknown:
            logger.warning("%s: %s: of another version and left aside", file, ", ".join(unknown))
        return Config.from_dict(content)
    except UserError as error:
        raise UserError(f"{file}: not the config of a run ({error})") from None


def _settings_to_resume(
    workdir: Path, wanted: dict[str, Any], was: RunInputs | None, inputs: RunInputs
) -> dict[str, Any]:
    """The settings with which the run in `workdir`, made from `was`, is resumed, if it can be with those `wanted`."""
    file = workdir / "config.json"
    if not file.exists():
        return wanted
    found = json.loads(json.dumps(dataclasses.asdict(read_run_config(workdir))))
    # With more patience a run that has stopped early would train past the model and the report that it has left.
    fixed = {"train.patience"} if (workdir / "model").exists() else set()
    same_encoder = was is None or was.encoder_checksum in (0, inputs.encoder_checksum)
    refused, taken, ignored = [], [], []
    for name, before, after in _differences(found, wanted):
        names_an_input = name.startswith(INPUT_PREFIXES) and name not in BATCH_FIELDS
        if name in START_FIELDS or (name == "model.encoder" and not same_encoder):
            ignored.append(name)
            section, field = name.split(".")
            wanted[section] = wanted[section] | {field: before}
        elif (name in SESSION_FIELDS and name not in fixed) or (was and names_an_input):
            taken.append(f"{name}={after!r} (was {before!r})")
        else:
            refused.append(f"{name} was {before!r}, is {after!r}")
    if refused:
        raise UserError(
            f"{workdir}: holds a run of another configuration ({'; '.join(refused)}); use another --workdir, to which "
            f"`amsdff convert to-torch --layout=trainer {workdir} FILE.pt` and `--init_from=FILE.pt` take its weights "
            "and optimizer along"
        )
    if taken:
        logger.warning("%s: resumes with %s", workdir, ", ".join(taken))
    if ignored:
        logger.warning("%s: resumes from its checkpoint, which %s does not change", workdir, " and ".join(ignored))
    return wanted


def _require_same(workdir: Path, found: RunInputs, inputs: RunInputs) -> None:
    different = "; ".join(found.differences(inputs))
    if different:
        raise UserError(f"{workdir}: holds a run with {different}; bring back what it was, or use another --workdir")


def _unwritable(workdir: Path, error: OSError) -> UserError:
    reason = error.strerror or error
    if isinstance(error, (FileExistsError, NotADirectoryError)):
        reason = "a file, or a link to nothing, is in its place"
    return UserError(f"{workdir}: cannot be written ({reason}); use another --workdir")


def _split_fields(
    content: Mapping[str, Any], known: Mapping[str, Any], prefix: str = ""
) -> tuple[dict[str, Any], list[str]]:
    """The fields that are `known`, and the names of those that are not."""
    fields, unknown = {}, []
    for name, value in content.items():
        if name not in known:
            unknown.append(prefix + name)
        elif isinstance(known[name], Mapping) and isinstance(value, Mapping):
            fields[name], others = _split_fields(value, known[name], f"{prefix}{name}.")
            unknown += others
        else:
            fields[name] = value
    return fields, unknown


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any], prefix: str = "") -> Iterator[tuple]:
    """Dotted name, value in `found` and value in `wanted` of each field that is another; both have the same names."""
    for name in sorted(wanted):
        if isinstance(wanted[name], Mapping):
            yield from _differences(found[name], wanted[name], f"{prefix}{name}.")
        elif found[name] != wanted[name]:
            yield prefix + name, found[name], wanted[name]
