"""Measures this project against PyTorch and ONNX Runtime on this machine: the same weights and batches, in turn.

    python scripts/benchmark.py
    python scripts/benchmark.py --preset=distilbert --dtypes=bfloat16 --shapes=256x128 --output=distilbert.json
    python scripts/benchmark.py --config=configs/agnews.py --config.data.data_dir=DIR --epoch_texts=1000

Rivals that are not installed, or fail, are named in the table. On a GPU the PyTorch must be one for GPUs. With
--config, one epoch of its data too. Stopped by Ctrl-C, it shows and keeps what it has measured. Exit code 1: the logits
differ.
"""

import dataclasses

from absl import flags

from amsdff_jax.cli import arguments, command_line
from amsdff_jax.base.errors import UserError
from amsdff_jax.base.files import user_errors, user_path, write_json
from amsdff_jax.benchmark.compare import RIVALS, Plan, check_writable, compare, read_shapes
from amsdff_jax.benchmark.presets import PRESETS
from amsdff_jax.benchmark.summary import print_comparison

PRESET = flags.DEFINE_enum("preset", "minilm", list(PRESETS), "Sizes of the encoder, whose weights are random.")
MODEL = flags.DEFINE_string("model", "", "A model folder instead of a preset.")
SHAPES = flags.DEFINE_list(
    "shapes", [], "Batches, TEXTSxTOKENS; by default 32x64,16x256, on GPUs 32x128,256x128,32x512."
)
DTYPES = flags.DEFINE_list(
    "dtypes", [], "Of float32, tf32 (NVIDIA's GPUs) and bfloat16; by default all that there are."
)
RIVAL_NAMES = flags.DEFINE_list("rivals", list(RIVALS), "Who is compared with; empty: nobody.")
ROUNDS = flags.DEFINE_integer("rounds", 3, "How often each side is run.", lower_bound=1)
STEPS = flags.DEFINE_integer("steps", 0, "Timed train steps a round; by default 5, on GPUs 20.", lower_bound=0)
OUTPUT = flags.DEFINE_string("output", "benchmark.json", "File for all numbers.")
CONFIG = command_line.DEFINE_CONFIG("config", None, "Settings of a run, one epoch of which is measured too.")
EPOCH_TEXTS = flags.DEFINE_integer("epoch_texts", 10_000, "At most so many texts make that epoch.", lower_bound=1)
arguments.mark_flags_of("config", ["epoch_texts"])


def main() -> int:
    """Measures and prints; returns the exit code."""
    if MODEL.value and flags.FLAGS["preset"].present:
        raise UserError(f"--preset={PRESET.value}: decides nothing beside --model={MODEL.value}; give one of them")
    model = str(user_path(MODEL.value)) if MODEL.value else ""
    names = (read_shapes(SHAPES.value), tuple(DTYPES.value), tuple(RIVAL_NAMES.value))
    epoch = dataclasses.asdict(command_line.read_config()) if CONFIG.value else {}
    plan = Plan(PRESET.value, model, *names, ROUNDS.value, STEPS.value, epoch, EPOCH_TEXTS.value)
    output = user_path(OUTPUT.value)
    check_writable(output)  # before it takes its time
    comparison = compare(plan)
    print_comparison(comparison)
    with user_errors(output, "written"):
        write_json(output, comparison)
    if comparison["stopped"]:
        return command_line.EXIT_INTERRUPTED
    return 0 if comparison["agree"] else command_line.EXIT_DIFFERENT


if __name__ == "__main__":
    command_line.run(main)
