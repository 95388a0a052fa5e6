"""Several files that are one: those of a folder, of a pattern such as `part-*.csv`, or of a list."""

import fnmatch
import glob
import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.files import is_url, user_errors, user_path
from amsdff_jax.base.validation import first_of
from amsdff_jax.data.packed import PACKINGS
from amsdff_jax.data.remote import expand_url

logger = logging.getLogger(__name__)

FORMATS = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet")

_URL_BEHIND_COMMA = re.compile(r",\s*[A-Za-z][A-Za-z0-9+.-]*://")


def find_files(path: str) -> dict[str, str]:
    """The files that a path names, in sorted order; those of a list in its order, each once.

    Args:
      path: a file; a folder, of which those count whose names end in one of `FORMATS`, packed or not, and begin with
        neither a point nor an underscore; a pattern of `glob`; the URL of one of these, such as s3://bucket/train.csv;
        or several with commas between them. What exists under the whole name is no pattern and no list, and a pattern
        that fits is no list; but a comma before a URL always separates.

    Returns:
      For every file what messages call its rows' file: "" where the path is its own name.

    Raises:
      UserError: a folder, pattern or part of a list without files; files of more than one format, or of none of
        `FORMATS`.
    """
    files = _expand(path)
    formats: dict[str, str] = {}
    for file in files:
        ending = format_of(file)[0].replace(".ndjson", ".jsonl")  # two names of one format
        formats.setdefault(ending, os.path.basename(file))
    if len(formats) > 1:
        raise UserError(f"{path}: files of several formats ({', '.join(formats.values())}); expected one")
    if files == [path]:
        return {path: ""}
    names = first_of(list(map(os.path.basename, files)))
    logger.info("%s: %d file%s, %s", path, len(files), "s" * (len(files) > 1), names)
    places = [f"/{file.split('://')[1]}" if is_url(file) else os.path.abspath(user_path(file)) for file in files]
    folder = os.path.commonpath(list(map(os.path.dirname, places)))
    return {file: os.path.relpath(place, folder) for file, place in zip(files, places, strict=True)}


def format_of(path: str) -> tuple[str, str]:
    """The ending that says a file's format, one of `FORMATS`, and that of how it is packed, or "".

    Raises:
      UserError: the name ends otherwise.
    """
    suffixes = [suffix.lower() for suffix in Path(path).suffixes]
    packing = suffixes.pop() if suffixes and suffixes[-1] in PACKINGS else ""
    if not suffixes or suffixes[-1] not in FORMATS:
        packed = " or ".join(PACKINGS)
        raise UserError(
            f"{path}: unknown kind of file; expected a name ending in {', '.join(FORMATS)}, or one with {packed}"
        )
    return suffixes[-1], packing


def would_read(path: str, file: Path) -> bool:
    """Whether a file of this machine is one of those that `path` names, or would be if it were there."""
    file = file.resolve()
    whole = not is_url(path) and os.path.exists(user_path(path))
    parts = [] if whole else [part.strip() for part in path.split(",")]
    for part in (part for part in (path, *parts) if part and not is_url(part)):
        place = user_path(part)
        in_folder = os.path.isdir(place) and file.parent == place.resolve() and _counts(file.name)
        if place.resolve() == file or in_folder:
            return True
        steps = place.absolute().parts
        literal = next((number for number, step in enumerate(steps) if glob.has_magic(step)), len(steps))
        base = Path(*steps[:literal]).resolve()
        if file.is_relative_to(base) and _fits(file.relative_to(base).parts, steps[literal:]):
            return True
    return False


def _fits(steps: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether the folders and the name of a file are those of a pattern, in which `**` is any number of folders."""
    if not pattern:
        return not steps
    if pattern[0] == "**":
        return any(_fits(steps[number:], pattern[1:]) for number in range(len(steps) + 1))
    return bool(steps) and fnmatch.fnmatchcase(steps[0], pattern[0]) and _fits(steps[1:], pattern[1:])


def name_of(path: str) -> str:
    """The name of a file or of several as that of one file, without folders, such as `part-_.csv` for `part-*.csv`."""
    names = ",".join(Path(part.strip()).name for part in path.split(","))
    return re.sub(r"[*?\[\],]+", "_", names) or "data"


def _expand(path: str) -> list[str]:
    if _URL_BEHIND_COMMA.search(path):  # no server need be asked whether all of it is one name
        kind, names = "list", []
    else:
        kind, names = expand_url(path) if is_url(path) else _expand_local(path)
    if kind == "folder":
        wanted = [name for name in names if _counts(os.path.basename(name))]
        return _sorted(path, wanted, f"ending in {', '.join(FORMATS)}")
    if kind == "file":
        return [path]
    if "," in path and not names:
        parts = [part.strip() for part in path.split(",")]
        if not all(parts):
            raise UserError(f"{path}: nothing between two commas; expected names of files, such as a.csv,b.csv")
        files = [file for part in parts for file in _expand(part)]
        return list({file if is_url(file) else os.path.realpath(user_path(file)): file for file in files}.values())
    if glob.has_magic(path):
        return _sorted(path, names, "that fits this pattern")
    return [path]


def _expand_local(path: str) -> tuple[str, list[str]]:
    """What `expand_url` says of a URL, of a path."""
    absolute = str(user_path(path))
    if os.path.isdir(absolute):
        with user_errors(path, "read"):
            found = os.listdir(absolute)
        if {"dataset_info.json", "dataset_dict.json"} & {*found}:
            way_out = f"read it with data.source=huggingface and data.dataset={path}"
            raise UserError(f"{path}: a dataset that Hugging Face's save_to_disk wrote; {way_out}")
        files = [os.path.join(path, name) for name in found]
    elif os.path.exists(absolute):
        return "file", [path]
    else:
        files = glob.glob(absolute, recursive=True)
    kind = "folder" if os.path.isdir(absolute) else "pattern"
    return kind, [file for file in files if not os.path.isdir(user_path(file))]


def _sorted(path: str, files: list[str], expected: str) -> list[str]:
    if not files:
        raise UserError(f"{path}: no file {expected}; check the path")
    return sorted(files)


def _counts(name: str) -> bool:
    """Whether a file of this name in a folder is one of its files."""
    if name.startswith((".", "_")):
        return False
    try:
        return bool(format_of(name))
    except UserError:
        return False
