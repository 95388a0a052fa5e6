"""Files behind a URL, such as s3://bucket/train.csv: what fsspec and its packages for each protocol can open."""

import contextlib
import glob
import io
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

from amsdff_jax.base.errors import UserError

BLOCK = 1 << 20  # bytes that are asked for at once, so that a reader of lines makes few requests


def expand_url(url: str) -> tuple[str, list[str]]:
    """What a URL names.

    Args:
      url: of a file, of a folder, or a pattern of `glob`.

    Returns:
      "file" and itself, "folder" and the URLs of the files in it, or "pattern" and those that fit it, perhaps none.

    Raises:
      UserError: an unknown protocol, one whose package is not installed, or what its server says, such as that nobody
        may read this.
    """
    with _user_errors(url):
        system, place = _open_system(url)
        if _is_file(system, place):
            return "file", [url]
        if system.isdir(place):
            names = [file["name"] for file in system.ls(place, detail=True) if file["type"] == "file"]
            return "folder", list(map(system.unstrip_protocol, names))
        if system.exists(place):  # a page without a suffix
            return "file", [url]
        names = system.glob(place) if glob.has_magic(place) else []
        return "pattern", [system.unstrip_protocol(name) for name in names if system.isfile(name)]


def _is_file(system: Any, place: str) -> bool:
    """Whether it is certainly a file. It is asked first, for some may read a file whose folder they may not list.

    fsspec looks for links in all that a web server sends, and takes what has some for a folder.
    """
    protocols = [system.protocol] if isinstance(system.protocol, str) else system.protocol
    if {"http", "https"} & {*protocols}:
        return bool(PurePosixPath(urlsplit(place).path).suffix) and system.exists(place)
    return system.isfile(place)


@contextlib.contextmanager
def open_url(url: str) -> Iterator[io.BufferedReader]:
    """The bytes behind a URL.

    Raises:
      UserError: as for `expand_url`; also for whatever goes wrong while they are read.
    """
    with _user_errors(url):
        system, place = _open_system(url)
        with cast(BinaryIO, system.open(place, "rb")) as stream:
            yield io.BufferedReader(cast(io.RawIOBase, stream), BLOCK)


def _open_system(url: str) -> tuple[Any, str]:
    import fsspec

    return fsspec.core.url_to_fs(url)


@contextlib.contextmanager
def _user_errors(url: str) -> Iterator[None]:
    """What goes wrong behind a URL, in one line: each package has exceptions of its own."""
    try:
        yield
    except (UserError, EOFError):
        raise
    except ImportError as error:
        raise UserError(f"{url}: {error}") from None
    except FileNotFoundError:
        raise UserError(f"{url}: no such file; check the URL") from None
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{url}: cannot be read ({reason}); check the URL, the network and your credentials") from None
