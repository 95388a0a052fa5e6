"""What must hold of a file before it is read whole."""

import stat
from pathlib import Path

LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def check_regular(file: Path) -> None:
    """Raises `OSError` unless `file` is a regular file: a named pipe may wait for ever, a device never end."""
    mode = file.stat().st_mode
    if stat.S_ISDIR(mode):
        raise OSError("it is a folder")
    if not stat.S_ISREG(mode):
        raise OSError("it is no regular file")


def is_lfs_pointer(file: Path) -> bool:
    """Whether a file only stands for one that has yet to be fetched with `git lfs pull`."""
    with file.open("rb") as stream:
        return stream.read(len(LFS_POINTER)) == LFS_POINTER
