"""Where the scripts and configs lie: in the package when it is installed, beside it in a clone."""

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]


def _folder(name: str) -> Path:
    installed = _PACKAGE / name
    return installed if installed.is_dir() else _PACKAGE.parent / name


SCRIPTS, CONFIGS = _folder("scripts"), _folder("configs")
