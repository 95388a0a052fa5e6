"""Memory of the process, and what glibc's allocator keeps of it though nobody uses it.

The figures in the comments: two cores of an Intel Xeon with AMX, in float32, resident memory as /proc says it during
`amsdff train --config=quickstart --config.train.max_steps=3`, with nothing in the cache.
"""

import ctypes
import os
import sys

ARENA_MAX = -8  # M_ARENA_MAX of glibc's malloc.h


def limit_arenas() -> None:
    """Lets the threads of this process share as many heaps as there are cores; glibc would make eight times as many.

    Each keeps what a compilation has freed in it. (The first run of the quickstart held 2,649 MB, with two 2,097.)
    """
    if "MALLOC_ARENA_MAX" not in os.environ and (libc := _glibc()):
        libc.mallopt(ARENA_MAX, os.cpu_count() or 1)


def release_free_memory() -> None:
    """Gives back to the system what is free within the heaps: after a compilation 407 MB of 1,339."""
    if libc := _glibc():
        libc.malloc_trim(0)


def peak_memory() -> int:
    """Bytes that this process has had resident at most; 0 where the system does not say, as on Windows."""
    try:
        import resource
    except ImportError:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "malloc_trim") else None
