"""The arguments of a script: flags, settings of a config file, commands. Every mistake is one line."""

import dataclasses
import itertools
import re
import shlex
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from absl import flags

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.files import import_file, user_path
from amsdff_jax.base.validation import field_names, nearest, nearest_field, without_config_dict
from amsdff_jax.cli.config_file import SUFFIXES, read_settings
from amsdff_jax.cli.main import EXIT_USER_ERROR, in_own_words
from amsdff_jax.cli.packaged import CONFIGS
from amsdff_jax.config.renamed import current_name, tell

HELP = frozenset({"--help", "-help", "-h"})
MAY_BE_EMPTY = ("rivals",)  # flags whose empty list says something; so it is with settings, `--config.NAME=`

flags.disclaim_key_flags()  # what is defined here is a flag of the script, and in its help


config_given: list[int] = []  # not empty: --config was given, and its settings are not those of the default

_default_config: list[str] = []  # the file of a script that needs no --config
READER = Path(__file__).with_name("config_file.py")  # of settings that are no Python


def define_config(name: str, default: str | None, help: str) -> flags.FlagHolder:
    """The flag that names a file of settings, each of which can be changed with `--config.NAME=VALUE`.

    The default is not ml_collections' own, which is read as soon as the flag is defined.
    """
    _default_config[:] = [default] if default else []
    if find_spec("ml_collections") is None:  # a script may be of use without settings
        return flags.DEFINE_string(name, None, help)
    from ml_collections import config_flags

    try:
        return config_flags.DEFINE_config_file(name, None, help)
    except (flags.Error, UnicodeDecodeError) as error:  # ml_collections reads --flagfile now
        print(f"error: {_explained(' '.join(str(error).split()))}", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)


_owners: dict[str, str] = {}


def mark_flags_of(owner: str, names: Iterable[str]) -> None:
    """Flags that mean something beside the flag `owner`, or to that command, only: without it, they are an error."""
    _owners.update(dict.fromkeys(names, owner))


def parse_arguments(arguments: list[str], commands: Mapping[str, str], others: str = "") -> list[str]:
    """Sets the flags. Asked for help, it prints it and ends the process.

    Args:
      arguments: `sys.argv`, in which the config file is put before what overrides it, as ml_collections expects.
      commands: what the first argument may be, and the names of those that follow it.
      others: names of the arguments that are no flags and follow no command, such as "*TEXT" for any number of them, or
        "[FILE]" for one at most; "": there are none.

    Returns:
      The arguments that are no flags.

    Raises:
      UserError: an argument that is not as it should be.
    """
    if HELP.intersection(_before_texts(arguments)):
        print(in_own_words(f"{(sys.modules['__main__'].__doc__ or '').strip()}\n{flags.FLAGS.main_module_help()}"))
        sys.exit(0)
    fields = _check_config(arguments) if "config" in flags.FLAGS else []
    try:
        values = flags.FLAGS(arguments)[1:]
    except flags.UnrecognizedFlagError as error:
        has_texts = any("*TEXT" in names for names in (others, *commands.values()))
        raise UserError(_unknown_flag(error.flagname, arguments, fields, has_texts)) from None
    except (flags.Error, AttributeError, LookupError, TypeError, ValueError) as error:  # of absl and of ml_collections
        raise UserError(_explained(" ".join(str(error).split()))) from None
    _check_given()
    if commands:
        _check_command(values, commands)
    elif "*" not in others and len(values) > bool(others):
        several = "one file, or a pattern of several in quotes ('part-*.csv'), and flags" if others else "a flag"
        raise UserError(f"{values[-1]}: expected {several}, --NAME=VALUE; see --help")
    return values


def _before_texts(arguments: Iterable[str]) -> list[str]:
    return list(itertools.takewhile(lambda argument: argument != "--", arguments))


def _check_config(arguments: list[str]) -> list[str]:
    """Puts `--config=FILE` first; the dotted names of all settings in that file.

    Raises:
      UserError: no such file, nothing in it that could be settings, or an override of a setting that it does not have.
    """
    given = _before_texts(arguments)
    places = [place for place, argument in enumerate(given) if re.match(r"--?config(=|$)", argument)]
    if len(places) > 1:
        raise UserError("--config: given twice; name one file, and change its settings with --config.NAME=VALUE")
    file = "".join(_default_config)
    for place in places:
        words = 1 if "=" in given[place] else 2  # --config FILE says the same in two words
        file = "=".join(given[place : place + words]).partition("=")[2]
        del arguments[place : place + words]
    overrides = [match[1] for argument in given if (match := re.match(r"--?(?:no)?(config\.[^=]*)", argument))]
    if not file:
        if places or overrides:
            raise UserError("--config: not given; expected a file with settings, such as --config=configs/files.py")
        return []
    if find_spec("ml_collections") is None:
        raise UserError("--config: needs ml_collections, which is not installed: pip install ml-collections")
    config_given[:] = places
    file = _find_config(file)
    config = {"config": _read_config_file(file)}
    arguments.insert(1, f"--config={f'{READER}:{file}' if file.endswith(SUFFIXES) else file}")
    names = field_names(config)
    for override in overrides:
        if not _holds(config, override) and (name := current_name(override)) != override:
            _rename_flag(arguments, override, name)
        elif not _holds(config, override):
            raise UserError(f"--{override}: no such field{nearest_field(override, names)}")
    return names


def _rename_flag(arguments: list[str], former: str, name: str) -> None:
    """Gives a flag its name of today in place.

    Raises:
      UserError: both are given, with different values.
    """
    given: dict[str, tuple[int, str]] = {}
    for place, argument in enumerate(_before_texts(arguments)):
        flag, equals, value = argument.partition("=")
        given[flag.lstrip("-")] = place, equals + value
    place, value = given[former]
    if name in given and given[name][1] != value:
        raise UserError(f"--{former}: the former name of --{name}, which is given too; leave one of them out")
    tell(former.removeprefix("config."), name.removeprefix("config."))
    arguments[place] = f"--{name}{value}"


def _holds(values: Any, name: str) -> bool:
    """Whether nested mappings have a field or section of that dotted name."""
    for key in name.split("."):
        if not isinstance(values, Mapping) or key not in values:
            return False
        values = values[key]
    return True


def _find_config(name: str) -> str:
    """The file of settings that is meant: one that comes with the package may be named without folder and ending."""
    packaged = CONFIGS / f"{name}.py"
    return str(packaged if re.fullmatch(r"\w+", name) and packaged.is_file() else user_path(name))


def _read_config_file(file: str) -> dict[str, Any]:
    """The settings in a file, of Python those that its `get_config` returns; what is behind a colon goes to it."""
    name, _, argument = (file, "", "") if file.endswith(SUFFIXES) else file.partition(":")
    path = Path(name)
    if not path.is_file():
        others = sorted(str(other) for other in path.parent.glob("*.py")) if path.parent.is_dir() else []
        names = sorted(other.stem for other in CONFIGS.glob("*.py"))
        listing = f"; {path.parent} has {', '.join(others)}" if others else f"; there are {', '.join(names)}"
        raise UserError(f"--config: no file {str(path)!r}{nearest(str(path), [*others, *names]) or listing}")
    if path.suffix in SUFFIXES:
        return dataclasses.asdict(read_settings(path))
    if path.suffix != ".py":  # which would be run as Python all the same
        raise UserError(
            f"--config: expected a file of Python with get_config, such as configs/files.py, or one of "
            f"{', '.join(SUFFIXES)}, such as a run's config.json, got {path}"
        )
    try:
        module = import_file(path)
        config = module.get_config(argument) if argument else module.get_config()
    except (Exception, SystemExit) as error:  # whatever the code of a user raises
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == path]
        line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else 0
        place = f", line {line}" if line else ""
        reason = " ".join(str(error).split())
        raise UserError(f"--config={file}{place}: {type(error).__name__}: {reason}") from None
    config = without_config_dict(config)
    if not isinstance(config, Mapping):
        raise UserError(f"--config={file}: expected get_config to return a ConfigDict, got {type(config).__name__}")
    return dict(config)


def _unknown_flag(name: str, arguments: Sequence[str], fields: Sequence[str], has_texts: bool) -> str:
    """What to say of a flag that there is not; `fields` are those of the config file."""
    given = next((each for each in arguments if each.lstrip("-").split("=")[0] == name.lstrip("-")), f"--{name}")
    flag = given.split("=")[0]
    if has_texts and not re.fullmatch(r"--?[A-Za-z]+([._][A-Za-z]+)*", flag):
        return f"{given}: no such flag; a text that begins with - comes after --, as in: -- {shlex.quote(given)}"
    text = "; a text that begins with - comes after --" if has_texts else ""
    return f"{flag}: no such flag{nearest_field(name, [*flags.FLAGS, *fields])}{text}; see --help"


def _explained(message: str) -> str:
    """An error of absl's about the value of a flag, in words that say what was expected."""
    missing = re.fullmatch("Missing value for flag --(.*)", message)
    if missing:
        return f"--{missing[1]}: expected --{missing[1]}=VALUE"
    unread = re.fullmatch("ERROR:: Unable to open flagfile: (.*)|('utf-8' codec .*)", message)
    if unread:
        return f"--flagfile: expected a text file with a flag a line ({unread[1] or unread[2]})"
    match = re.fullmatch("flag --([^=]+)=(.*?): (.*)", message)
    if not match:
        return message
    name, value, reason = match.groups()
    if reason.endswith("must have a value other than None."):
        return f"--{name}: not given ({flags.FLAGS[name].help.rstrip('.')}); see --help"
    parser: Any = flags.FLAGS[name].parser  # kinds of them have attributes of their own
    match parser.flag_type():
        case "bool":
            expected = "true or false"
        case "string enum":
            expected = f"one of {', '.join(filter(None, parser.enum_values))}"
        case "tuple":
            example = str(tuple(flags.FLAGS[name].default or (1, 2)))
            expected = f"values in brackets, the whole in quotes, such as --{name}={shlex.quote(example)}"
        case _ if "as a ConfigDict" in reason:
            expected = f"--{name}.FIELD=VALUE"
        case _:
            expected = (parser.syntactic_help or "").replace("an integer", "a whole number")
    return f"--{name}={value}: " + (f"expected {expected}" if expected else reason)


def _check_given() -> None:
    """Raises `UserError` for a flag that has an empty value, as from an unset variable, or that decides nothing."""
    for name in flags.FLAGS:
        flag, owner = flags.FLAGS[name], _owners.get(name, "")
        means_something = name.startswith("config.") or name in MAY_BE_EMPTY
        if flag.present and flag.value in ("", []) and not means_something:
            raise UserError(f"--{name}: given without a value; expected --{name}=VALUE")
        if flag.present and owner in flags.FLAGS and not flags.FLAGS[owner].value:
            raise UserError(f"--{name}: decides nothing without --{owner}; give both, or neither")


def _check_command(arguments: list[str], commands: Mapping[str, str]) -> None:
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
    for name, owner in _owners.items():
        if flags.FLAGS[name].present and owner in commands and owner != arguments[0]:
            raise UserError(f"--{name}: a flag of {owner}, not of {arguments[0]}")
