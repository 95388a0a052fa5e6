"""Evaluates the model of a finished run on one of its splits or on another file, or any model folder on a file.

python scripts/evaluate.py --workdir=runs/agnews --split=validation
python scripts/evaluate.py --workdir=runs/agnews --file=more.csv
python scripts/evaluate.py --model=converted --file=labelled.csv --text_column=body --output=report
"""

from absl import flags

from amsdff_jax.cli import arguments, command_line
from amsdff_jax.base.errors import UserError
from amsdff_jax.prediction.classifier import BATCH_SIZE
from amsdff_jax.prediction.evaluate import evaluate_model, evaluate_run

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a run, whose model's card is told the numbers too.")
SPLIT = flags.DEFINE_enum("split", "test", ["train", "validation", "test"], "Split of the run's own data.")
FILE = flags.DEFINE_string(
    "file", "", "A CSV, TSV, JSON, JSONL or Parquet file; of a run, with the columns of its config."
)
MODEL = flags.DEFINE_string("model", None, "A model folder instead of a run; it stays as it is.")
DATA = command_line.define_data_flags(labels=True)  # with --model
BATCH = flags.DEFINE_integer("batch_size", BATCH_SIZE, "With --model: texts that go through together.", lower_bound=1)
OUTPUT = flags.DEFINE_string(
    "output",
    "",
    "With --model: folder of the report; by default beside the model, <name of the model>-report/<name of the file>.",
)
command_line.define_host_flags()
arguments.mark_flags_of("workdir", ["split"])
arguments.mark_flags_of("model", [*command_line.DATA_FLAGS, "batch_size", "output"])


def main() -> None:
    """Evaluates and writes the report."""
    if bool(WORKDIR.value) == bool(MODEL.value):
        raise UserError("expected --workdir=FOLDER of a run or --model=FOLDER, one of them")
    if MODEL.value and not FILE.value:
        raise UserError("--file: not given; a model folder has no data of its own to be evaluated on")
    if FILE.value and flags.FLAGS["split"].present:
        raise UserError(f"--split={SPLIT.value}: decides nothing beside --file={FILE.value}; give one of them")
    if WORKDIR.value:
        evaluate_run(WORKDIR.value, split=SPLIT.value, file=FILE.value)
    else:
        evaluate_model(MODEL.value, FILE.value, DATA(MODEL.value), OUTPUT.value, BATCH.value)


if __name__ == "__main__":
    command_line.run(main)
