"""Flips labels, looks for them, and trains again without the suspects: tables beside cleanlab, where it is installed.

    python scripts/measure_label_noise.py
    python scripts/measure_label_noise.py --datasets=r8 --output=results/mine

The report is in results/label-noise. The same command makes what is missing, and leaves the rest as it is.
"""

from absl import flags

from amsdff_jax.cli import command_line
from amsdff_jax.base.files import user_path
from amsdff_jax.experiments.label_noise import measure_label_noise
from amsdff_jax.experiments.settings import ExperimentConfig

CONFIG = command_line.DEFINE_CONFIG("config", "experiments", "Datasets; models decide nothing here.")
DATASETS = flags.DEFINE_list("datasets", ["snippets", "r8", "agnews"], "Of those of the config.")
OUTPUT = flags.DEFINE_string("output", "results/label-noise", "Folder of the numbers and the report.")


def main() -> None:
    """Measures what is missing and writes the report."""
    config = ExperimentConfig.from_dict(CONFIG.value).select(DATASETS.value, [])
    measure_label_noise(config, user_path(OUTPUT.value))


if __name__ == "__main__":
    command_line.run(main)
