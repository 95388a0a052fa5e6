"""The folder of an export: whole or not there."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.json_file import read_json

CONFIG = "config.json"
MARK = "export_format"  # a key of `config.json` that only exports have


def check_replaceable(folder: Path) -> None:
    """Raises `UserError` unless there is nothing at `folder`, or an empty folder, or an export."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(f"{folder}: is a file; choose a folder")
    if not any(folder.iterdir()):
        return
    try:
        is_export = MARK in read_json(folder / CONFIG, "the config.json of an export")
    except UserError:
        is_export = False
    if not is_export:
        raise UserError(f"{folder}: holds something that is no export, and is left alone; choose another folder")


@contextlib.contextmanager
def partial_folder(folder: Path) -> Iterator[Path]:
    """A new folder beside `folder`, for `complete` to move there; else it is gone at the end, whatever happens.

    Raises:
      UserError: something cannot be written.
    """
    partial = folder.with_name(f"{folder.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be written ({error.strerror or error}); make room or choose another folder"
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def complete(partial: Path, folder: Path) -> None:
    """Puts a partial folder in the place of `folder`."""
    former = folder.with_name(f"{folder.name}.former")
    shutil.rmtree(former, ignore_errors=True)
    if folder.exists():
        folder.rename(former)
    partial.rename(folder)
    shutil.rmtree(former, ignore_errors=True)
