"""Where that is kept which a run would otherwise make again: compiled steps, tokens, texts too many for memory."""

import contextlib
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from amsdff_jax.base.files import atomic_write, try_lock, user_path

VARIABLE = "AMSDFF_CACHE"
LARGEST_FOLDERS = 1 << 35  # bytes in folders of one kind; beyond it, what was not used for the longest time goes
LOCK = "lock"  # a file that whoever fills a folder has locked

_used: set[Path] = set()  # folders that this process reads: nobody gains if it makes room by what it needs itself


def cache_folder(kind: str) -> Path | None:
    """The folder for one kind of thing, which need not exist yet.

    It lies in the folder that the environment variable `AMSDFF_CACHE` names, by default
    `~/.cache/amsdff-jax`. None if the variable is "off".
    """
    root = os.environ.get(VARIABLE) or user_path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "amsdff-jax"
    return None if root == "off" else user_path(root) / kind


def evict_oldest(folder: Path, pattern: str, largest: int) -> None:
    """Deletes the files or folders in `folder` with the oldest modification times, until `largest` bytes are left.

    What another process deletes meanwhile, what may not be deleted, or what `use_folder` has named, is left alone.
    """
    found = []
    for path in folder.glob(pattern):
        with contextlib.suppress(OSError):
            status = path.stat()
            parts = (part.stat().st_size for part in path.iterdir()) if path.is_dir() else (status.st_size,)
            found.append((path in _used, status.st_mtime, sum(parts), path))
    kept = 0
    for used, _, size, path in sorted(found, reverse=True):
        kept += size
        if kept > largest and not used:
            with contextlib.suppress(OSError):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def use_folder(folder: Path) -> None:
    """Says that this process reads a folder of the cache, which is kept the longer for it."""
    _used.add(folder)
    with contextlib.suppress(OSError):  # a folder that may only be read
        os.utime(folder)


@contextlib.contextmanager
def filled_folder(folder: Path | None, resumable: bool = False) -> Iterator[Path | None]:
    """A folder beside `folder` to fill, which becomes `folder` at the end.

    Nobody finds half of it: until then it has another name. Processes that fill the same one at the same time have one
    each, of which that of the first to end stays; what the others have mapped of theirs they can still read.

    Args:
      folder: that is not there, or is by the end, by another that was sooner; None: there is no cache.
      resumable: what a killed process, or an error, has left is given to the next that asks for the same `folder`;
        otherwise it is removed.

    Yields:
      The folder; None: there is no cache, or it cannot be written.
    """
    try:
        opened = None if folder is None else _open_partial(folder, resumable)
    except OSError:
        opened = None
    if folder is None or opened is None:
        yield None
        return
    partial, lock = opened
    with lock:
        try:
            yield partial
        except BaseException:
            if not resumable:
                shutil.rmtree(partial, ignore_errors=True)
            raise
        try:
            partial.rename(folder)
        except OSError:
            # Another was sooner. Its folder stays: not every file system leaves a map of a file that is gone.
            shutil.rmtree(partial, ignore_errors=True)
    use_folder(folder)
    evict_oldest(folder.parent, "*/", LARGEST_FOLDERS)


def remembered(folder: Path | None, question: str, answer: Callable[[], str]) -> str:
    """What `answer` says, kept in a folder of the cache for the next that asks the same of what lies there.

    Args:
      folder: None: nothing is kept.
      question: tells all that the answer depends on, but for the folder.
    """
    if folder is None:
        return answer()
    file = folder / f"{hashlib.blake2b(question.encode(), digest_size=16).hexdigest()}.answer"
    with contextlib.suppress(OSError, UnicodeDecodeError):
        known, _, check = file.read_text().partition(" ")
        if check == _checksum(known):
            return known
    known = answer()
    with contextlib.suppress(OSError), atomic_write(file, shared=True) as temporary:
        temporary.write_text(f"{known} {_checksum(known)}")
    return known


def _open_partial(folder: Path, resumable: bool) -> tuple[Path, IO[bytes]]:
    """A folder to fill and its lock; one that nobody fills any more is taken over, or removed."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for partial in sorted(folder.parent.glob(f"{folder.name}.*.partial")):
        with contextlib.suppress(OSError):
            lock = (partial / LOCK).open("ab")
            if try_lock(lock):
                if resumable:
                    return partial, lock
                shutil.rmtree(partial, ignore_errors=True)
            lock.close()
    partial = folder.with_name(f"{folder.name}.{secrets.token_hex(4)}.partial")
    partial.mkdir()
    lock = (partial / LOCK).open("ab")
    try_lock(lock)
    return partial, lock


def _checksum(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
