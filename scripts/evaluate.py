"""Evaluates the model of a finished run on one of its splits, or on another file.

python scripts/evaluate.py --workdir=runs/agnews --split=validation
python scripts/evaluate.py --workdir=runs/agnews --file=more.csv
"""

from absl import flags

from amsdff_jax import command_line
from amsdff_jax.runs import evaluate_run

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.")
SPLIT = flags.DEFINE_enum("split", "test", ["train", "validation", "test"], "Split of the run's own data.")
FILE = flags.DEFINE_string("file", "", "A CSV, TSV, JSONL or Parquet file instead, with the columns of the config.")
command_line.define_host_flags()
flags.mark_flag_as_required("workdir")


def main() -> None:
    """Evaluates and writes the report."""
    evaluate_run(WORKDIR.value, split=SPLIT.value, file=FILE.value)


if __name__ == "__main__":
    command_line.run(main)
