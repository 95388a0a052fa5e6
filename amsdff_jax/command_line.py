"""What the scripts share: flags with errors in one line, logging, exit codes."""

import logging
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from amsdff_jax.errors import UserError
from amsdff_jax.validation import nearest

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 75  # the run was saved and the same command goes on with it (EX_TEMPFAIL)

DEFINE_CONFIG = config_flags.DEFINE_config_file


def run(main: Callable[[], int | None]) -> None:
    """Parses the flags, runs `main` and exits with its code; a `UserError` is one line and exit code 2."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        _parse_flags(sys.argv)
        _set_up_logging()
        sys.exit(main() or 0)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)
    except BrokenPipeError:  # the reader of our output has gone, as after `| head`
        sys.exit(EXIT_USER_ERROR)


def config_name(flag: str = "config") -> str:
    """The name of the config file, without folder and ending: `agnews` for `configs/agnews.py`."""
    return Path(flags.FLAGS[flag].config_filename.split(":")[0]).stem


def _set_up_logging() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", force=True)
    for noisy in ("absl", "jax", "orbax", "etils", "httpx", "huggingface_hub", "tensorflow_datasets"):
        logging.getLogger(noisy).setLevel(logging.ERROR)


def _parse_flags(arguments: list[str]) -> None:
    for argument in arguments[1:]:
        _check_config_argument(argument)
    try:
        rest = flags.FLAGS(arguments)[1:]
    except flags.UnrecognizedFlagError as error:
        raise UserError(f"--{error.flagname}: no such flag{nearest(error.flagname, list(flags.FLAGS))}; "
                        "see --help") from None  # fmt: skip
    except flags.Error as error:
        raise UserError(" ".join(str(error).split())) from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # what ml_collections lets through
        _check_overrides(arguments)
        raise UserError(" ".join(str(error).split())) from None
    if rest:
        raise UserError(f"{rest[0]}: expected a flag, --NAME=VALUE; see --help")


def _check_config_argument(argument: str) -> None:
    """Raises `UserError` unless a `--config=FILE` names a file; ml_collections would answer much later."""
    match = re.match(r"--?config=(.*)$", argument)
    if not match:
        return
    path = Path(match[1].split(":")[0])
    if not path.is_file():
        others = sorted(str(file) for file in path.parent.glob("*.py")) if path.parent.is_dir() else []
        listing = f"; {path.parent} has {', '.join(others)}" if others else ""
        raise UserError(f"--config: no file {str(path)!r}{nearest(str(path), others) or listing}")


def _check_overrides(arguments: list[str]) -> None:
    """Raises `UserError` for the first `--config.NAME=` that the config does not have."""
    file = next(match[1] for argument in arguments if (match := re.match(r"--?config=(.*)$", argument)))
    config = config_flags.config_flags.ConfigFileFlagParser("config").parse(file)
    names = _dotted_names(config, "config.")
    for argument in arguments:
        match = re.match(r"--?(?:no)?(config\.[^=]*)", argument)
        if match and match[1] not in names:
            raise UserError(f"--{match[1]}: no such field{nearest(match[1], names)}")


def _dotted_names(config: ConfigDict, prefix: str) -> list[str]:
    names = []
    for name, value in config.items():
        names += _dotted_names(value, f"{prefix}{name}.") if isinstance(value, ConfigDict) else [prefix + name]
    return names
