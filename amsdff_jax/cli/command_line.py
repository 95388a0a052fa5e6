"""What the scripts share: flags with errors in one line, logging, exit codes."""

import dataclasses
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
from absl import flags

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.escaping import printable
from amsdff_jax.base.memory import limit_arenas
from amsdff_jax.base.validation import LONGEST, build
from amsdff_jax.cli.arguments import READER, config_given, define_config, parse_arguments
from amsdff_jax.cli.main import EXIT_INTERRUPTED, EXIT_USER_ERROR, exit_code
from amsdff_jax.config import LABEL_TYPES, QUOTING, Config, DataConfig
from amsdff_jax.config.idle_settings import find_idle_settings
from amsdff_jax.data.file_sets import name_of
from amsdff_jax.parallel.compilation import keep_compiled_steps
from amsdff_jax.parallel.hosts import (
    CONNECTION_TIMEOUT,
    HEARTBEAT_TIMEOUT,
    exit_at_once,
    is_first_host,
    join_hosts,
    lost_host_error,
)
from amsdff_jax.reporting.console import accept_every_character

EXIT_DIFFERENT = 1  # a comparison came out different

flags.disclaim_key_flags()  # what is defined here is a flag of the script, and in its help

logger = logging.getLogger(__name__)

_interrupts: list[int] = []

DEFINE_CONFIG = define_config

LESS_MEMORY = (
    "compute fewer texts at a time (--config.train.accumulation_steps or batch_size, --config.train.eval_batch_size; "
    "--batch_size of other commands), or shorter ones (--config.data.max_length)"
)
LABEL_FLAGS = ("label_column", "label_separator", "label_columns", "rater_columns")
DATA_FLAGS = ("text_column", "text_pair_column", *LABEL_FLAGS, "label_type", "column_names", "delimiter", "quoting")


def run(main: Callable[..., int | None], commands: Mapping[str, str] | None = None, others: str = "") -> None:
    """Parses the flags, runs `main` and exits with its code; a `UserError` is one line and exit code 2.

    Args:
      main: called with the command and its arguments, if there are `commands`.
      commands: what the first argument may be, and the names of those that follow it, such as
        "FILE OUT_DIR"; a last one with a star may be repeated or left out.
      others: without commands, the names of the arguments that are no flags, as for `parse_arguments`; `main` is
        called with them.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    accept_every_character()
    try:
        arguments = parse_arguments(sys.argv, commands or {}, others)
        _set_up_logging()
        limit_arenas()
        keep_compiled_steps()
        _join_hosts()
        sys.unraisablehook = _report_unraisable
        signal.signal(signal.SIGTERM, _interrupt)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a shell may have it ignored
            signal.signal(signal.SIGINT, _interrupt)
        code = main(*arguments) or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        code = EXIT_USER_ERROR
    except (KeyboardInterrupt, BrokenPipeError) as error:
        code = exit_code(error)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" in str(error):
            message = f"out of memory on the device ({str(error).splitlines()[0]:.{LONGEST}}); {LESS_MEMORY}"
        elif jax.process_count() == 1:
            raise
        else:
            message = str(lost_host_error(error))
        print(f"error: {message}", file=sys.stderr)
        code = EXIT_USER_ERROR
    except Exception:
        if jax.process_count() == 1:
            raise
        traceback.print_exc()
        exit_at_once(1)
    if code and jax.distributed.is_initialized() and code != EXIT_INTERRUPTED:
        exit_at_once(code)
    sys.exit(code)


def interrupted() -> bool:
    """Whether SIGINT or SIGTERM has come.

    Both raise a KeyboardInterrupt, but that is lost if it comes while Python calls something by itself, such as what
    JAX has it do after collecting garbage.
    """
    return bool(_interrupts)


def _interrupt(number: int, _frame: object) -> None:
    _interrupts.append(number)
    raise KeyboardInterrupt


def _report_unraisable(error: Any) -> None:
    if not issubclass(error.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(error)


def define_host_flags() -> None:
    """The flags of a script that runs on several hosts."""
    flags.DEFINE_string("coordinator_address", "", "HOST:PORT of process 0; needless under SLURM and Open MPI.")
    flags.DEFINE_integer("num_processes", 0, "How many processes share the run.")
    flags.DEFINE_integer("process_id", -1, "Which of them this is, from 0.")
    flags.DEFINE_integer("heartbeat_timeout", HEARTBEAT_TIMEOUT, "Seconds of silence that mean a process is dead.")
    flags.DEFINE_integer("connection_timeout", CONNECTION_TIMEOUT, "Seconds to wait for the others at the start.")


def read_config(train_file: str = "", init_from: str = "") -> Config:
    """The settings of `--config` and of the flags that override them.

    Args:
      train_file: takes the place of the data that the settings name; "": it does not.
      init_from: likewise of `train.init_from`.

    Raises:
      UserError: neither settings nor a file, a setting that is wrong, or one that was given as a flag and decides
        nothing because of another.
    """
    if not (train_file or config_given):
        raise UserError(
            "--config: not given; expected settings, such as --config=configs/agnews.py, or a file with "
            "texts and labels, such as reviews.csv"
        )
    flag: Any = flags.FLAGS["config"]  # of ml_collections, with attributes of its own
    config, given = Config.from_dict(flag.value), flag.override_values
    if train_file and "data.train_file" in given:
        raise UserError(f"{train_file}: given beside --config.data.train_file; give one of them")
    if train_file:
        config = config.replace(data__source="files", data__train_file=train_file)
    if init_from:
        config = config.replace(train__init_from=init_from)
    for name, reason in find_idle_settings(config).items():
        if name in given:
            raise UserError(f"--config.{name}={given[name]}: decides nothing, because {reason}; leave one of them out")
    return config


def define_data_flags(labels: bool = False) -> Callable[[str], DataConfig]:
    """The flags of a script that reads a file of texts, named as in `DataConfig`.

    Args:
      labels: the file has labels.

    Returns:
      What gives their values, for a model folder: a column that is not given is the one that the model was trained on.
    """
    trained = "by default as the model was trained with."
    quoting = "How a CSV or TSV file writes quotes in quoted fields; none: quotes are letters."
    holders = [
        flags.DEFINE_string("text_column", None, f"Column of the texts, or several, as in title,body; {trained}"),
        flags.DEFINE_string("text_pair_column", None, f"Column with second texts, for a model of pairs; {trained}"),
        flags.DEFINE_list("column_names", [], "Columns of a CSV or TSV file without a header, in order."),
        flags.DEFINE_string("delimiter", "", "Of a CSV or TSV file, such as ';'; by default as ending and header say."),
        flags.DEFINE_enum("quoting", "auto", QUOTING, quoting),
    ]
    if labels:
        holders += [
            flags.DEFINE_string("label_column", None, f"Column with the names of the classes; {trained}"),
            flags.DEFINE_string("label_separator", None, f"Between several labels of a text, as in a|b; {trained}"),
            flags.DEFINE_string("label_columns", None, f"Columns that hold a label each, such as a,b,c; {trained}"),
            flags.DEFINE_string("rater_columns", None, f"Columns that hold a rater's class each; {trained}"),
            flags.DEFINE_enum("label_type", None, LABEL_TYPES, f"name: every label as it is written; {trained}"),
        ]

    def read(model: str) -> DataConfig:
        from amsdff_jax.evaluation.model_card import recorded_columns  # loads Flax, which not every command needs

        given = {holder.name: holder.value for holder in holders if holder.present}
        recorded = dataclasses.asdict(recorded_columns(model))
        if given.keys() & set(LABEL_FLAGS):  # they say together how a file has its labels
            recorded |= dict.fromkeys(LABEL_FLAGS[1:], "")
        for name, default in dataclasses.asdict(DataConfig()).items():
            if name not in given and recorded[name] != default:
                logger.info("--%s=%s, as the model was trained with", name, recorded[name])
        return build(DataConfig, recorded | given, "--")

    return read


def run_name(train_file: str) -> str:
    """The name of the file or files of texts, without folder and endings, or where there is none that of the config."""
    return name_of(train_file).split(".")[0] if train_file else config_name()


def config_name(flag: str = "config") -> str:
    """The name of the config file, without folder and ending: `agnews` for `configs/agnews.py`.

    For the settings of a run, `runs/reviews/config.json`, the name of the run.
    """
    given: Any = flags.FLAGS[flag]  # of ml_collections, with attributes of its own
    name, _, argument = given.config_filename.partition(":")
    path = Path(argument if Path(name).name == READER.name else name)
    return path.absolute().parent.name if path.name == "config.json" else path.stem


class _OneLine(logging.Formatter):
    """Lines in which names and texts cannot reach the terminal's controls."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = printable(record.message)
        return super().formatMessage(record)


def _set_up_logging() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
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
