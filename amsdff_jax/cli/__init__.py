"""The command line: flags, configs, exit codes.

Scripts import this before what takes them seconds, so that Ctrl-C meanwhile ends them as it ends `amsdff`.
"""

import sys
from pathlib import Path

from amsdff_jax.cli.main import answer_interrupt
from amsdff_jax.cli.packaged import SCRIPTS

if Path(sys.argv[0]).resolve().parent == SCRIPTS:  # which a program that imports this is not in
    sys.excepthook = answer_interrupt
    # Python looks for modules beside the script first, and would take `evaluate.py` for the library `evaluate`.
    sys.path[:] = [folder for folder in sys.path if Path(folder).resolve() != SCRIPTS]
