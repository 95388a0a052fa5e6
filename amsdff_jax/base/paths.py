"""Paths as they are given in flags, settings and calls."""

import os
from pathlib import Path


def user_path(path: str | Path) -> Path:
    """`path` with a leading `~` or `~user` for the home folder; a shell leaves it alone in `--workdir=~/runs/mine`.

    As for a shell, a user that does not exist leaves the path as it is.
    """
    return Path(os.path.expanduser(path))
