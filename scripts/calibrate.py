"""Calibrates a trained model on labelled texts that it has not seen; `predict` and Classifier obey what is found.

python scripts/calibrate.py --model=runs/agnews/model --file=validation.csv --target_precision=0.95 --coverage=0.9
"""

from absl import flags

from amsdff_jax.cli import command_line
from amsdff_jax.prediction.calibrate_model import calibrate_model, print_calibration
from amsdff_jax.prediction.classifier import BATCH_SIZE

MODEL = flags.DEFINE_string("model", None, "A model folder, such as a run's model/.")
FILE = flags.DEFINE_string(
    "file", None, "A CSV, TSV, JSON, JSONL or Parquet file, or several as in part-*.csv, of held-out texts."
)
DATA = command_line.define_data_flags(labels=True)
PRECISION = flags.DEFINE_float("target_precision", 0, "Abstain where it takes that to be right so often; 0: never.")
MISSED = flags.DEFINE_float(
    "false_negative_rate", 0, "Share of a text's several labels that its label set may lack; 0: no label sets."
)
COVERAGE = flags.DEFINE_float("coverage", 0, "Share of label sets, or of intervals, to hold the truth; 0: none.")
BATCH = flags.DEFINE_integer("batch_size", BATCH_SIZE, "Texts that go through the model together.", lower_bound=1)
flags.mark_flags_as_required(["model", "file"])


def main() -> None:
    """Calibrates and tells what was found."""
    calibration = calibrate_model(
        MODEL.value,
        FILE.value,
        DATA(MODEL.value),
        target_precision=PRECISION.value,
        coverage=COVERAGE.value,
        false_negative_rate=MISSED.value,
        batch_size=BATCH.value,
    )
    print_calibration(calibration, MODEL.value)


if __name__ == "__main__":
    command_line.run(main)
