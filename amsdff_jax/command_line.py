"""What the scripts share: flags with errors in one line, logging, exit codes."""

import itertools
import logging
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
from absl import flags
from ml_collections import ConfigDict, config_flags

from amsdff_jax.errors import UserError
from amsdff_jax.parallel.compilation import keep_compiled_steps
from amsdff_jax.parallel.hosts import (
    CONNECTION_TIMEOUT,
    HEARTBEAT_TIMEOUT,
    exit_at_once,
    is_first_host,
    join_hosts,
    lost_host_error,
)
from amsdff_jax.paths import user_path
from amsdff_jax.validation import nearest

EXIT_DIFFERENT = 1  # a comparison came out different
EXIT_USER_ERROR = 2
EXIT_PIPE_CLOSED = 141  # 128 + SIGPIPE, as other programs end there
EXIT_INTERRUPTED = 75  # stopped by a signal, nothing lost; the same command goes on (EX_TEMPFAIL)

HELP = frozenset({"--help", "-help", "-h"})

DEFINE_CONFIG = config_flags.DEFINE_config_file


def run(main: Callable[..., int | None], commands: Mapping[str, str] | None = None, takes_texts: bool = False) -> None:
    """Parses the flags, runs `main` and exits with its code; a `UserError` is one line and exit code 2.

    Args:
      main: called with the command and its arguments, if there are `commands`.
      commands: what the first argument may be, and the names of those that follow it, such as
        "FILE OUT_DIR"; a last one with a star may be repeated or left out. A flag whose help begins
        with a command belongs to that command.
      takes_texts: without commands, `main` is called with all arguments that are no flags.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        arguments = _parse_flags(sys.argv)
        if not takes_texts:
            _check_command(arguments, commands or {})
        _set_up_logging()
        keep_compiled_steps()
        _join_hosts()
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # both signals raise KeyboardInterrupt
        code = main(*arguments) or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        code = EXIT_USER_ERROR
    except KeyboardInterrupt:
        print("stopped before there was anything to save; run the same command again", file=sys.stderr)
        code = EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone, as after `| head`
        code = EXIT_PIPE_CLOSED
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python would try again to write the rest
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1:
            raise
        print(f"error: {lost_host_error(error)}", file=sys.stderr)
        code = EXIT_USER_ERROR
    except Exception:
        if jax.process_count() == 1:
            raise
        traceback.print_exc()
        exit_at_once(1)
    if code and jax.distributed.is_initialized() and code != EXIT_INTERRUPTED:
        exit_at_once(code)
    sys.exit(code)


def stop_signal() -> Callable[[], bool]:
    """From now on the first SIGINT or SIGTERM only answers this question; a second one ends the process at once."""
    received = []

    def remember(number: int, _frame: object) -> None:
        received.append(number)
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, signal.SIG_DFL)

    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, remember)
    return lambda: bool(received)


def define_host_flags() -> None:
    """The flags of a script that runs on several hosts."""
    flags.DEFINE_string("coordinator_address", "", "HOST:PORT of process 0; needless under SLURM and Open MPI.")
    flags.DEFINE_integer("num_processes", 0, "How many processes share the run.")
    flags.DEFINE_integer("process_id", -1, "Which of them this is, from 0.")
    flags.DEFINE_integer("heartbeat_timeout", HEARTBEAT_TIMEOUT, "Seconds of silence that mean a process is dead.")
    flags.DEFINE_integer("connection_timeout", CONNECTION_TIMEOUT, "Seconds to wait for the others at the start.")


def config_name(flag: str = "config") -> str:
    """The name of the config file, without folder and ending: `agnews` for `configs/agnews.py`."""
    return Path(flags.FLAGS[flag].config_filename.split(":")[0]).stem


def _set_up_logging() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", force=True)
    for noisy in ("absl", "jax", "orbax", "etils", "httpx", "huggingface_hub", "tensorflow_datasets"):
        logging.getLogger(noisy).setLevel(logging.ERROR)


def _join_hosts() -> None:
    values = flags.FLAGS.flag_values_dict()
    if "num_processes" not in values:
        return
    names = ("coordinator_address", "num_processes", "process_id", "heartbeat_timeout", "connection_timeout")
    join_hosts(*(values[name] for name in names))
    if not is_first_host():
        logging.getLogger().setLevel(logging.WARNING)


def _parse_flags(arguments: list[str]) -> list[str]:
    """Sets the flags; returns what is no flag. Asked for help, it prints it and ends the process."""
    if HELP.intersection(itertools.takewhile(lambda argument: argument != "--", arguments)):
        print(sys.modules["__main__"].__doc__.strip(), flags.FLAGS.main_module_help(), sep="\n")
        sys.exit(0)
    if "--config" in arguments[:-1]:  # the same in two words
        place = arguments.index("--config")
        arguments = [*arguments[:place], f"--config={arguments[place + 1]}", *arguments[place + 2 :]]
    arguments = [re.sub(r"^--?config=(~.*)$", lambda match: f"--config={user_path(match[1])}", argument)
                 for argument in arguments]  # fmt: skip
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
    usage = "; ".join(f"{command} {names}".strip() for command, names in commands.items())
    if not arguments or arguments[0] not in commands:
        given = f"{arguments[0]}: no such command{nearest(arguments[0], commands)}" if arguments else "no command"
        raise UserError(f"{given}; there are {usage}")
    names = commands[arguments[0]].split()
    fewest = sum(not name.startswith("*") for name in names)
    if len(arguments) - 1 < fewest or (len(arguments) - 1 > fewest == len(names)):
        raise UserError(
            f"{arguments[0]}: expected {commands[arguments[0]] or 'nothing more'}, got {len(arguments) - 1} arguments"
        )
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
    if path.suffix != ".py":  # which would be run as Python all the same
        raise UserError(f"--config: expected a file of Python with get_config, such as configs/files.py, got {path}")


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
