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


def shrink(folder: Path, pattern: str, largest: int) -> None:
    """Deletes the files of `folder` that were not used for the longest time, until `largest` bytes are left."""
    kept = 0
    for file in sorted(folder.glob(pattern), key=lambda file: file.stat().st_mtime, reverse=True):
        kept += file.stat().st_size
        if kept > largest:
            file.unlink(missing_ok=True)
