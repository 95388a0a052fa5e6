"""A file that one process at a time may write."""

import errno
from typing import IO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

HELD = (errno.EACCES, errno.EAGAIN)  # by another; any other error is of a file system that knows no locks


def try_lock(stream: IO) -> bool:
    """Locks an open file until it is closed, or until the process has ended, in whatever way.

    Where the system or the file system knows no locks, nobody is kept out.

    Returns:
      False if somebody else has the lock, who opened the file on their own.
    """
    try:
        if fcntl is not None:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in HELD
    return True
