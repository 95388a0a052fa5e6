"""JSON and other text files: written whole or not at all, read within bounds."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.regular_file import check_regular

LARGEST_FILE = 1 << 24  # bytes that are read; parsed, each may take twenty
DEEPEST_NESTING = 100  # of objects and lists within each other


def read_json(file: Path, expected: str) -> dict[str, Any]:
    """The object in a JSON file, in UTF-8 with or without a byte order mark.

    Args:
      expected: what the file should be, such as "an encoder's config.json", and perhaps the way out; errors end in it.

    Raises:
      UserError: the file is missing, no regular file, larger than `LARGEST_FILE`, no JSON, nested deeper than
        `DEEPEST_NESTING`, or holds anything but an object.
    """
    try:
        content = json.loads(_read_bytes(file).decode("utf-8-sig"))
        if _is_nested_deeper(content, DEEPEST_NESTING):
            raise RecursionError
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror or error}); expected {expected}") from None
    except RecursionError:
        raise UserError(f"{file}: nested more than {DEEPEST_NESTING} deep; expected {expected}") from None
    except ValueError as error:  # of JSON or UTF-8, or a number of thousands of digits
        raise UserError(f"{file}: not valid JSON ({error}); expected {expected}") from None
    if not isinstance(content, dict):
        raise UserError(f"{file}: holds no JSON object; expected {expected}")
    return content


def write_json(file: Path, content: Any) -> None:
    """Writes JSON through a temporary file, so that neither a reader nor a killed process leaves half of it."""
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


def write_text(file: Path, content: str) -> None:
    """Writes UTF-8 through a temporary file, as `write_json` does."""
    temporary = file.with_name(file.name + ".tmp")
    try:
        # Half of a character cannot be encoded; in JSON the escape that it becomes stands for it.
        temporary.write_text(content, encoding="utf-8", errors="backslashreplace")
        temporary.replace(file)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _read_bytes(file: Path) -> bytes:
    check_regular(file)
    with file.open("rb") as stream:
        data = stream.read(LARGEST_FILE + 1)
    if len(data) > LARGEST_FILE:
        raise OSError(f"it has more than {LARGEST_FILE >> 20} MiB")
    return data


def _is_nested_deeper(content: Any, depth: int) -> bool:
    level = [[content]]
    for _ in range(depth + 1):
        items = [item for part in level for item in (part.values() if isinstance(part, dict) else part)]
        level = [item for item in items if isinstance(item, (dict, list))]
    return bool(level)
