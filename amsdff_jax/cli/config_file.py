"""Settings in JSON or YAML, such as a run's `config.json`, where ml_collections expects a file of Python.

ml_collections is told this file, with the other behind a colon.
"""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.files import read_json
from amsdff_jax.config import Config

if TYPE_CHECKING:
    from ml_collections import ConfigDict

SUFFIXES = (".json", ".yaml", ".yml")


def get_config(file: str) -> "ConfigDict":
    """The settings in `file`, and the defaults of those that it leaves out, to be changed by flags."""
    from ml_collections import ConfigDict

    return ConfigDict(dataclasses.asdict(read_settings(Path(file))))


def read_settings(file: Path) -> Config:
    """The settings in a file of JSON or YAML: nested names and values, as many as differ from the defaults.

    Raises:
      UserError: no such settings, or a file that cannot be read.
    """
    values = read_json(file, "settings such as a run's config.json") if file.suffix == ".json" else _read_yaml(file)
    try:
        return Config.from_dict(values)
    except UserError as error:
        raise UserError(f"--config={file}: {error}") from None


def _read_yaml(file: Path) -> dict:
    try:
        values = yaml.safe_load(file.read_bytes())
    except OSError as error:
        raise UserError(f"--config={file}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: 2024-02-30
        raise UserError(f"--config={file}: not valid YAML ({' '.join(str(error).split())})") from None
    if not isinstance(values, dict):
        raise UserError(f"--config={file}: expected names and values, such as train: {{epochs: 3}}")
    return values
