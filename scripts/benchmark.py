"""Measures this project against the PyTorch model on this machine: the same weights and batches, in turn.

    python scripts/benchmark.py
    python scripts/benchmark.py --preset=distilbert --shapes=8x128 --json=benchmark.json
    python scripts/benchmark.py --config=configs/agnews.py --config.data.data_dir=DIR --epoch_texts=1000

Needs PyTorch (`pip install torch`). With --config, one epoch of its data too. Exit code 1: the logits differ.
"""

import dataclasses
import re
import tempfile
from pathlib import Path

from absl import flags

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.files import user_path, write_json
from amsdff_jax.benchmark.compare import compare, prepare_model, print_comparison, require_torch
from amsdff_jax.cli import arguments, command_line

PRESET = flags.DEFINE_enum("preset", "minilm", ["minilm", "distilbert"], "Sizes of the encoder.")
MODEL = flags.DEFINE_string("model", "", "A model folder instead of a preset.")
SHAPES = flags.DEFINE_list("shapes", ["32x64", "16x256"], "Batches, TEXTSxTOKENS.")
ROUNDS = flags.DEFINE_integer("rounds", 3, "How often each side is run.", lower_bound=1)
STEPS = flags.DEFINE_integer("steps", 5, "Timed calls a round.", lower_bound=1)
JSON = flags.DEFINE_string("json", "", "File for all numbers.")
CONFIG = command_line.DEFINE_CONFIG("config", None, "Settings of a run, one epoch of which is measured too.")
EPOCH_TEXTS = flags.DEFINE_integer("epoch_texts", 10_000, "At most so many texts make that epoch.", lower_bound=1)
arguments.mark_flags_of("config", ["epoch_texts"])


def main() -> int:
    """Measures and prints; returns the exit code."""
    if not SHAPES.value or not all(re.fullmatch(r"[1-9]\d*x[1-9]\d*", shape) for shape in SHAPES.value):
        raise UserError(f"--shapes: expected batches such as 32x64,16x256, got {','.join(SHAPES.value)}")
    if MODEL.value and flags.FLAGS["preset"].present:
        raise UserError(f"--preset={PRESET.value}: decides nothing beside --model={MODEL.value}; give one of them")
    require_torch()
    shapes = [tuple(map(int, shape.split("x"))) for shape in SHAPES.value]
    epoch = dataclasses.asdict(command_line.read_config()) if CONFIG.value else None
    with tempfile.TemporaryDirectory(prefix="amsdff-benchmark-") as folder:
        model = user_path(MODEL.value) if MODEL.value else Path(folder) / "model"
        if not MODEL.value:
            prepare_model(PRESET.value, model)
        comparison = compare(model, shapes, ROUNDS.value, STEPS.value, epoch, EPOCH_TEXTS.value)
    print_comparison(comparison)
    if JSON.value:
        try:
            write_json(user_path(JSON.value), comparison)
        except OSError as error:
            raise UserError(f"--json={JSON.value}: cannot be written ({error.strerror})") from None
    return 0 if comparison["agree"] else command_line.EXIT_DIFFERENT


if __name__ == "__main__":
    command_line.run(main)
