"""Calibrates a trained model on labelled texts that it has not seen; predict.py and Classifier obey what is found.

python scripts/calibrate.py --model=runs/agnews/model --file=validation.csv --target_precision=0.95 --coverage=0.9
"""

from absl import flags

from amsdff_jax import command_line
from amsdff_jax.classifier import BATCH_SIZE
from amsdff_jax.config import DataConfig
from amsdff_jax.prediction.calibrate_model import calibrate_model, print_calibration

MODEL = flags.DEFINE_string("model", None, "A model folder, such as a run's model/.")
FILE = flags.DEFINE_string("file", None, "A CSV, TSV, JSONL or Parquet file, gzipped or not, of held-out texts.")
TEXT_COLUMN = flags.DEFINE_string("text_column", "text", "Column of the file with the texts.")
TEXT_PAIR_COLUMN = flags.DEFINE_string("text_pair_column", "", "Column with second texts, for a model of pairs.")
LABEL_COLUMN = flags.DEFINE_string("label_column", "label", "Column with the names of the classes.")
PRECISION = flags.DEFINE_float("target_precision", 0, "Abstain where it takes that to be right so often; 0: never.")
COVERAGE = flags.DEFINE_float("coverage", 0, "Share of label sets that are to hold the truth; 0: no label sets.")
BATCH = flags.DEFINE_integer("batch_size", BATCH_SIZE, "Texts that go through the model together.", lower_bound=1)
flags.mark_flags_as_required(["model", "file"])


def main() -> None:
    """Calibrates and tells what was found."""
    calibration = calibrate_model(
        MODEL.value, FILE.value,
        DataConfig(text_column=TEXT_COLUMN.value, text_pair_column=TEXT_PAIR_COLUMN.value,
                   label_column=LABEL_COLUMN.value),
        target_precision=PRECISION.value, coverage=COVERAGE.value, batch_size=BATCH.value,
    )  # fmt: skip
    print_calibration(calibration, MODEL.value)


if __name__ == "__main__":
    command_line.run(main)
