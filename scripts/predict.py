"""Labels texts with a trained model.

python scripts/predict.py --model=runs/agnews/model "Stocks fell on Monday" "The striker scored twice"
cat texts.txt | python scripts/predict.py --model=runs/agnews/model --top_k=3 > out.jsonl
python scripts/predict.py --model=runs/agnews/model --file=big.csv --text_column=body --output=out.jsonl --resume
"""

from absl import flags

from amsdff_jax.cli import arguments, command_line
from amsdff_jax.prediction.classifier import BATCH_SIZE
from amsdff_jax.prediction.lines import FORMATS
from amsdff_jax.prediction.run import predict

MODEL = flags.DEFINE_string("model", None, "A model folder, such as a run's model/.")
FILE = flags.DEFINE_string(
    "file",
    "",
    "A CSV, TSV, JSON, JSONL or Parquet file, or several as in part-*.csv; without, and without "
    "texts, every line of the standard input is a text.",
)
DATA = command_line.define_data_flags()
KEEP_COLUMNS = flags.DEFINE_list("keep_columns", [], "Columns of the input to write beside the prediction.")
OUTPUT = flags.DEFINE_string("output", "", "A .jsonl or .csv file; by default the standard output.")
FORMAT = flags.DEFINE_enum("format", "", ["", *FORMATS], "By default as the output's ending says, else jsonl.")
RESUME = flags.DEFINE_bool("resume", False, "Continue an output that was begun by the same command.")
TOP_K = flags.DEFINE_integer("top_k", 1, "As many of the most likely classes are written.", lower_bound=1)
BATCH = flags.DEFINE_integer("batch_size", BATCH_SIZE, "Texts that go through the model together.", lower_bound=1)
DTYPE = flags.DEFINE_enum("compute_dtype", "", ["", "auto", "float32", "bfloat16"], "By default as saved.")
flags.mark_flag_as_required("model")
arguments.mark_flags_of("file", command_line.DATA_FLAGS)


def main(*texts: str) -> int:
    """Labels and writes; returns the exit code."""
    finished = predict(
        MODEL.value,
        texts,
        FILE.value,
        DATA(MODEL.value) if FILE.value else None,
        keep_columns=KEEP_COLUMNS.value,
        output=OUTPUT.value,
        format=FORMAT.value,
        resume=RESUME.value,
        top_k=TOP_K.value,
        batch_size=BATCH.value,
        compute_dtype=DTYPE.value,
        interrupted=command_line.interrupted,
    )
    return 0 if finished else command_line.EXIT_INTERRUPTED


if __name__ == "__main__":
    command_line.run(main, others="*TEXT")
