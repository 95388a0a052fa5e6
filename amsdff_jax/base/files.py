"""Files: paths as users give them, writing whole or not at all, JSON within bounds, one writer at a time."""

import contextlib
import csv
import errno
import importlib.util
import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from amsdff_jax.base.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LARGEST_FILE = 1 << 24  # bytes that are read; parsed, each may take twenty
DEEPEST_NESTING = 100  # of objects and lists within each other
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
HELD = (errno.EACCES, errno.EAGAIN)  # by another; any other error is of a file system that knows no locks


def user_path(path: str | Path) -> Path:
    """`path` with a leading `~` or `~user` for the home folder; a shell leaves it alone in `--workdir=~/runs/mine`.

    As for a shell, a user that does not exist leaves the path as it is.

    Raises:
      UserError: a URL, of which a path would make a folder that is called `s3:`.
    """
    if is_url(path):
        raise UserError(f"{path}: expected a path of this machine, got a URL; files of data alone may be behind one")
    return Path(os.path.expanduser(path))


def model_name(folder: str | Path) -> str:
    """What a model folder is called: by its own name, or, where training has written RUN/model, by that of the run."""
    folder = user_path(folder).resolve()
    return folder.parent.name if folder.name == "model" else folder.name


def is_url(path: str | Path) -> bool:
    """Whether a path begins with a protocol, as s3://, gs://, hf:// or https:// do."""
    return bool(re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+://", str(path)))


@contextlib.contextmanager
def user_errors(place: str | Path, action: str, hint: str = "") -> Iterator[None]:
    """Turns an `OSError` into a `UserError`: PLACE: cannot be ACTION (REASON); HINT.

    A broken pipe stays what it is: that nobody reads any more is no mistake.

    Args:
      place: the file, folder or flag that the message names.
      action: "written" or "read".
      hint: what was expected, or the way out.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UserError(f"{place}: cannot be {action} ({error.strerror or error}){hint and f'; {hint}'}") from None


@contextlib.contextmanager
def atomic_write(file: Path, *, shared: bool = False) -> Iterator[Path]:
    """A path beside `file` to write to: it replaces `file` at the end, and is removed if anything is raised.

    Neither a reader nor a killed process finds half a file.

    Args:
      shared: other processes may write the same file at the same time.
    """
    temporary = file.with_name(f"{file.name}.{os.getpid()}.tmp" if shared else f"{file.name}.tmp")
    try:
        yield temporary
        if not shared:  # which caches are; of others a loss of power must not leave an empty file
            with temporary.open("rb") as stream:
                os.fsync(stream.fileno())
        temporary.replace(file)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


@contextlib.contextmanager
def folder_of(file: Path) -> Iterator[None]:
    """Makes the folder of a file that is yet to be written; if anything is raised while it is empty, it goes again.

    Raises:
      OSError: it cannot be made.
    """
    new = [folder for folder in file.parents if not folder.exists()]
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for folder in new:
            with contextlib.suppress(OSError):  # there is something in it by now
                folder.rmdir()
        raise


@contextlib.contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """A new folder beside `folder` to fill: it replaces `folder` at the end, and is removed if anything is raised.

    If it has been deleted by then, `folder` stays as it is.
    """
    # Names that nobody's own folders have, and that the next writer finds after one that was killed.
    partial, former = (folder.with_name(f".{folder.name}.amsdff-{kind}") for kind in ("partial", "former"))
    _bring_back(former, folder)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        if not partial.exists():
            return
        if folder.exists():
            folder.rename(former)
        partial.rename(folder)
        shutil.rmtree(former, ignore_errors=True)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        _bring_back(former, folder)
        raise


def _bring_back(former: Path, folder: Path) -> None:
    """Puts what was to be replaced into its place again, or deletes it if that is taken."""
    if former.exists() and not folder.exists():
        former.rename(folder)
    shutil.rmtree(former, ignore_errors=True)


def write_text(file: Path, content: str) -> None:
    """Writes UTF-8 whole or not at all; raises `OSError`."""
    with atomic_write(file) as temporary:
        # Half of a character cannot be encoded; in JSON the escape that it becomes stands for it.
        temporary.write_text(content, encoding="utf-8", errors="backslashreplace")


def write_json(file: Path, content: Any) -> None:
    """Writes JSON whole or not at all; raises `OSError`."""
    write_text(file, to_json(content, indent=2) + "\n")


def to_json(content: Any, *, indent: int | None = None, default: Callable[[Any], Any] | None = None) -> str:
    """JSON with null in place of NaN and infinity, which JSON has no numbers for.

    Args:
      indent: None: on one line.
      default: makes something that JSON knows of what it does not.
    """
    try:
        return json.dumps(content, allow_nan=False, ensure_ascii=False, indent=indent, default=default)
    except ValueError:  # of such a number
        content = json.loads(json.dumps(content, default=default), parse_constant=lambda _: None)
        return json.dumps(content, allow_nan=False, ensure_ascii=False, indent=indent)


def read_json(file: Path, expected: str, largest: int = LARGEST_FILE) -> dict[str, Any]:
    """The object in a JSON file, in UTF-8 with or without a byte order mark.

    Args:
      expected: what the file should be, such as "an encoder's config.json", and perhaps the way out; errors end in it.
      largest: bytes that it may have.

    Raises:
      UserError: the file is missing, no regular file, larger than that, no JSON, nested deeper than
        `DEEPEST_NESTING`, or holds anything but an object.
    """
    with user_errors(file, "read", f"expected {expected}"):
        data = _read_bytes(file, largest)
    try:
        content = json.loads(data.decode("utf-8-sig"))
        if _is_nested_deeper(content, DEEPEST_NESTING):
            raise RecursionError
    except RecursionError:
        raise UserError(f"{file}: nested more than {DEEPEST_NESTING} deep; expected {expected}") from None
    except ValueError as error:  # of JSON or UTF-8, or a number of thousands of digits
        raise UserError(f"{file}: not valid JSON ({error}); expected {expected}") from None
    if not isinstance(content, dict):
        raise UserError(f"{file}: holds no JSON object; expected {expected}")
    return content


def check_regular(file: Path) -> None:
    """Raises `OSError` unless `file` is a regular file: a named pipe may wait for ever, a device never end."""
    mode = file.stat().st_mode
    if stat.S_ISDIR(mode):
        raise OSError("it is a folder")
    if not stat.S_ISREG(mode):
        raise OSError("it is no regular file")


def import_file(file: Path) -> Any:
    """The module in a file of Python, which is run; whatever it raises is raised here."""
    specification = importlib.util.spec_from_file_location(file.stem, file)
    assert specification is not None and specification.loader is not None  # of every file that ends in .py
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def is_lfs_pointer(file: Path) -> bool:
    """Whether a file only stands for one that has yet to be fetched with `git lfs pull`."""
    with file.open("rb") as stream:
        return stream.read(len(LFS_POINTER)) == LFS_POINTER


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


def _read_bytes(file: Path, largest: int = LARGEST_FILE) -> bytes:
    check_regular(file)
    with file.open("rb") as stream:
        data = stream.read(min(largest, file.stat().st_size) + 1)
    if len(data) > largest:
        raise OSError(f"it has more than {largest >> 20} MiB")
    return data


def _is_nested_deeper(content: Any, depth: int) -> bool:
    def children(container: Any) -> Any:
        return container.values() if isinstance(container, dict) else container

    level = [[content]]
    for _ in range(depth + 1):
        level = [item for container in level for item in children(container) if isinstance(item, (dict, list))]
    return bool(level)


def write_csv(file: Path, header: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
    """Writes a table as CSV; half of a character, which cannot be encoded, becomes its escape."""
    with file.open("w", newline="", encoding="utf-8", errors="backslashreplace") as stream:
        writer = csv.writer(stream)
        writer.writerow(header)
        writer.writerows(rows)
