"""The command `amsdff`: a verb, and the flags of the script that it runs."""

import ast
import difflib
import os
import re
import runpy
import sys
from pathlib import Path
from types import TracebackType

from amsdff_jax.cli.packaged import CONFIGS, SCRIPTS

VERBS = {
    "train": "train",
    "evaluate": "evaluate",
    "predict": "predict",
    "explain": "explain",
    "serve": "serve",
    "calibrate": "calibrate",
    "export": "export",
    "convert": "convert",
    "inspect": "inspect_data",
    "prepare": "prepare_data",
    "experiments": "run_experiments",
    "verify": "verify_run",
    "benchmark": "benchmark",
    "scaling": "measure_scaling",
    "noise": "measure_label_noise",
    "plan": "plan",
}
LISTING = "configs"
HELP = ("--help", "-help", "-h", "help")
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 75  # stopped by a signal, nothing lost; the same command resumes (EX_TEMPFAIL)
EXIT_PIPE_CLOSED = 141  # 128 + SIGPIPE, as other programs end there

_called: list[str] = []  # the verb, once a script runs for it


def main() -> int:
    """Runs what the command line asks for; returns the exit code."""
    try:
        code = _run()
        sys.stdout.flush()
        return code
    except (KeyboardInterrupt, BrokenPipeError) as error:  # of a script that was still loading; else it answers itself
        return exit_code(error)


def exit_code(error: BaseException) -> int:
    """The exit code after a signal or a closed pipe, of which the first is told."""
    if isinstance(error, KeyboardInterrupt):
        print("stopped before there was anything to save; run the same command again", file=sys.stderr)
        return EXIT_INTERRUPTED
    # The reader of our output has gone, as after `| head`. Python would try again to write the rest.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return EXIT_PIPE_CLOSED


def answer_interrupt(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Ends a script that was interrupted while it was loading, as `main` does; an exception hook of Python."""
    if not isinstance(error, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    code = exit_code(error)
    sys.stderr.flush()
    os._exit(code)  # Python itself would end by the signal


def _run() -> int:
    verb, *arguments = sys.argv[1:] or ["--help"]
    if verb in HELP:
        print(_help())
        return 0
    if verb == LISTING:
        return _show_configs(arguments)
    if verb not in VERBS:
        known = [*VERBS, LISTING]
        near = "".join(f"did you mean {name}? " for name in difflib.get_close_matches(verb, known, n=1))
        print(f"error: {verb}: no such command; {near}There are {', '.join(known)}", file=sys.stderr)
        return EXIT_USER_ERROR
    _called.append(verb)
    sys.argv[1:] = arguments
    runpy.run_path(str(SCRIPTS / f"{VERBS[verb]}.py"), run_name="__main__")
    return 0


def in_own_words(text: str) -> str:
    """A script's help, which `amsdff` shows with its verbs and names of configs where a clone has paths."""
    if not _called:
        return text
    for verb, script in VERBS.items():
        text = text.replace(f"python scripts/{script}.py", f"amsdff {verb}")
    return re.sub(r"\bconfigs/(\w+)\.py", r"\1", text)


def _help() -> str:
    verbs = {verb: _first_line(SCRIPTS / f"{script}.py") for verb, script in VERBS.items()}
    verbs[LISTING] = "Lists the settings that come with the package; with a name, prints that file."
    lines = [f"  {verb:<12} {line}" for verb, line in verbs.items()]
    return "\n".join(
        [
            "Fine-tune, evaluate and use an AMSDFF text classifier.",
            "",
            "  amsdff train reviews.csv                                # columns text and label; into runs/reviews",
            "  amsdff predict --model=runs/reviews/model 'A text.'",
            "",
            *lines,
            "",
            "amsdff COMMAND --help shows the flags of a command.",
        ]
    )


def _show_configs(names: list[str]) -> int:
    files = {file.stem: file for file in sorted(CONFIGS.glob("*.py"))}
    if len(names) > 1:
        print(f"error: {names[1]}: expected one name, such as amsdff configs {names[0]}", file=sys.stderr)
        return EXIT_USER_ERROR
    if not names or names[0] in HELP:
        for name, file in files.items():
            print(f"{name:<14} {_first_line(file)}")
        return 0
    if names[0] not in files:
        print(f"error: {names[0]}: no such config; there are {', '.join(files)}", file=sys.stderr)
        return EXIT_USER_ERROR
    print(files[names[0]].read_text(encoding="utf-8"), end="")
    return 0


def _first_line(file: Path) -> str:
    """Of a file's docstring, without running it."""
    return (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").partition("\n")[0]
