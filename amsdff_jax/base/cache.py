"""Where that is kept which a run would otherwise make again: compiled steps and tokens."""

import contextlib
import os
from pathlib import Path

from amsdff_jax.base.files import user_path

VARIABLE = "AMSDFF_CACHE"


def cache_folder(kind: str) -> Path | None:
    """The folder for one kind of thing, which need not exist yet.

    It lies in the folder that the environment variable `AMSDFF_CACHE` names, by default
    `~/.cache/amsdff-jax`. None if the variable is "off".
    """
    root = os.environ.get(VARIABLE) or user_path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "amsdff-jax"
    return None if root == "off" else user_path(root) / kind


def evict_oldest(folder: Path, pattern: str, largest: int) -> None:
    """Deletes the files of `folder` with the oldest modification times, until `largest` bytes are left.

    What another process deletes meanwhile, or what may not be deleted, is left alone.
    """
    files = []
    for file in folder.glob(pattern):
        with contextlib.suppress(OSError):
            status = file.stat()
            files.append((status.st_mtime, status.st_size, file))
    kept = 0
    for _, size, file in sorted(files, reverse=True):
        kept += size
        if kept > largest:
            with contextlib.suppress(OSError):
                file.unlink()
