"""Where that is kept which a run would otherwise make again: compiled steps and tokens."""

import os
from pathlib import Path

VARIABLE = "AMSDFF_CACHE"


def cache_folder(kind: str) -> Path | None:
    """The folder for one kind of thing, which need not exist yet.

    It lies in the folder that the environment variable `AMSDFF_CACHE` names, by default
    `~/.cache/amsdff-jax`. None if the variable is "off".
    """
    root = os.environ.get(VARIABLE) or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "amsdff-jax"
    return None if root == "off" else Path(root).expanduser() / kind
