"""Exports a model folder as files that run elsewhere, and keeps them if they say the same as the model.

python scripts/export.py --model=runs/agnews/model --output=exported                       # runs with jax
python scripts/export.py --model=runs/agnews/model --output=exported --format=onnx         # onnxruntime
python scripts/export.py --model=runs/agnews/model --output=exported --format=safetensors  # torch, transformers
python scripts/export.py --model=runs/agnews/model --output=exported --format=onnx --int8 --file=labelled.csv
"""

from absl import flags

from amsdff_jax.cli import arguments, command_line
from amsdff_jax.export.exporter import describe_verification, export_model
from amsdff_jax.export.formats import FORMATS

MODEL = flags.DEFINE_string("model", None, "A model folder.")
OUTPUT = flags.DEFINE_string("output", None, "Folder to write, new or an export to replace.")
FORMAT = flags.DEFINE_enum("format", "stablehlo", list(FORMATS), "What to export as.")
FILE = flags.DEFINE_string(
    "file", "", "CSV, TSV, JSON, JSONL or Parquet of texts to verify on; by default movie snippets."
)
DATA = command_line.define_data_flags(labels=True)  # of --file
INT8 = flags.DEFINE_bool(
    "int8", False, "With --format=onnx: dense layers multiply 8-bit integers, if that costs little on labelled texts."
)
MAX_LOSS = flags.DEFINE_float(
    "max_loss", 0.005, "With --int8: what accuracy and macro F1 may lose, and the calibration error gain, as shares."
)
flags.mark_flags_as_required(["model", "output"])
OF_LABELS = [*command_line.LABEL_FLAGS, "label_type"]
arguments.mark_flags_of("file", [name for name in command_line.DATA_FLAGS if name not in OF_LABELS])
arguments.mark_flags_of("int8", [*OF_LABELS, "max_loss"])


def main() -> int:
    """Exports and verifies; returns the exit code."""
    import jax

    jax.config.update("jax_platforms", "cpu")  # the export is for all platforms, and is verified on this one
    verification = export_model(
        MODEL.value,
        OUTPUT.value,
        FORMAT.value,
        FILE.value,
        DATA(MODEL.value) if FILE.value else None,
        MAX_LOSS.value if INT8.value else None,
    )
    print(describe_verification(verification))
    return 0 if verification.accepted else command_line.EXIT_DIFFERENT


if __name__ == "__main__":
    command_line.run(main)
