"""The folder of a run, which belongs to one configuration."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from amsdff_jax.config import Config
from amsdff_jax.errors import UserError
from amsdff_jax.json_file import read_json, write_json
from amsdff_jax.parallel.hosts import is_first_host


def open_workdir(workdir: Path, config: Config) -> None:
    """Makes the folder and writes `config.json`, or checks that the one there says the same.

    With several hosts only the first writes. How the devices share the work may change from one
    session of a run to the next.

    Raises:
      UserError: the folder cannot be written, or holds a run of another configuration.
    """
    file = workdir / "config.json"
    wanted = json.loads(json.dumps(dataclasses.asdict(config)))
    of_the_session = {"parallel": wanted["parallel"]}
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            if is_first_host():
                write_json(file, wanted)
            return
    except OSError as error:
        raise UserError(f"{workdir}: cannot be written ({error.strerror}); choose another --workdir") from None
    found = read_json(file, "the configuration of a run; use another --workdir")
    changed = _differences(found | of_the_session, wanted)
    if changed:
        raise UserError(
            f"{workdir}: holds a run of another configuration ({'; '.join(changed)}); use another --workdir"
        )


def read_run_config(workdir: Path) -> Config:
    """The configuration of the run in a folder.

    Raises:
      UserError: there is none, or it cannot be read.
    """
    file = workdir / "config.json"
    content = read_json(file, "the config.json in the folder of a run")
    try:
        return Config.from_dict(content)
    except UserError as error:
        raise UserError(f"{file}: not the config of a run ({error})") from None


def _differences(found: Any, wanted: Any, name: str = "") -> list[str]:
    if isinstance(found, dict) and isinstance(wanted, dict):
        return [
            difference
            for key in sorted(found.keys() | wanted.keys())
            for difference in _differences(found.get(key), wanted.get(key), f"{name}.{key}" if name else key)
        ]
    return [] if found == wanted else [f"{name} was {found!r}, is {wanted!r}"]
