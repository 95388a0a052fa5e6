"""JSON and text files that are whole or not there."""

import json
from pathlib import Path
from typing import Any


def write_json(file: Path, content: Any) -> None:
    """Writes JSON through a temporary file, so that neither a reader nor a killed process leaves half of it."""
    write_text(file, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_text(file: Path, text: str) -> None:
    """The same with any text, as UTF-8."""
    temporary = file.with_name(file.name + ".tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(file)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
