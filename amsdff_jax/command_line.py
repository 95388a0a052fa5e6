"""What the scripts share: flags with errors in one line, logging, exit codes."""

import logging
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from amsdff_jax.errors import UserError
from amsdff_jax.validation import nearest

EXIT_DIFFERENT = 1  # a comparison came out different
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 75  # the run was saved and the same command goes on with it (EX_TEMPFAIL)

DEFINE_CONFIG = config_flags.DEFINE_config_file


def run(main: Callable[..., int | None], commands: Mapping[str, str] | None = None) -> None:
    """Parses the flags, runs `main` and exits with its code; a `UserError` is one line and exit code 2.

    Args:
      main: called with the command and its arguments, if there are `commands`.
      commands: what the first argument may be, and the names of those that follow it, such as
        "FILE OUT_DIR"; a last one with a star may be repeated or left out. A flag whose help begins
        with a command belongs to that command.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        arguments = _parse_flags(sys.argv)
        _check_command(arguments, commands or {})
        _set_up_logging()
        sys.exit(main(*arguments) or 0)
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


def _parse_flags(arguments: list[str]) -> list[str]:
    """Sets the flags; returns what is no flag."""
    if "--config" in arguments[:-1]:  # the same in two words
        place = arguments.index("--config")
        arguments = [*arguments[:place], f"--config={arguments[place + 1]}", *arguments[place + 2 :]]
    for argument in arguments[1:]:
        _check_config_argument(argument)
    try:
        return flags.FLAGS(arguments)[1:]
    except flags.UnrecognizedFlagError as error:
        raise UserError(f"--{error.flagname}: no such flag{nearest(error.flagname, list(flags.FLAGS))}; "
                        "see --help") from None  # fmt: skip
    except flags.Error as error:
        raise UserError(" ".join(str(error).split())) from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # what ml_collections lets through
        _check_overrides(arguments)
        raise UserError(" ".join(str(error).split())) from None


def _check_command(arguments: list[str], commands: Mapping[str, str]) -> None:
    if not commands:
        if arguments:
            raise UserError(f"{arguments[0]}: expected a flag, --NAME=VALUE; see --help")
        return
    usage = "; ".join(f"{command} {names}" for command, names in commands.items())
    if not arguments or arguments[0] not in commands:
        given = f"{arguments[0]}: no such command{nearest(arguments[0], commands)}" if arguments else "no command"
        raise UserError(f"{given}; there are {usage}")
    names = commands[arguments[0]].split()
    fewest = sum(not name.startswith("*") for name in names)
    if len(arguments) - 1 < fewest or (len(arguments) - 1 > fewest == len(names)):
        raise UserError(f"{arguments[0]}: expected {commands[arguments[0]]}, got {len(arguments) - 1} arguments")
    for flag in flags.FLAGS.get_key_flags_for_module(sys.argv[0]):
        owners = [command for command in commands if f"{command}: " in flag.help]
        if flag.present and owners and arguments[0] not in owners:
            raise UserError(f"--{flag.name}: a flag of {owners[0]}, not of {arguments[0]}")


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
