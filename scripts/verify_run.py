"""Checks on this machine that a run gives the same numbers when it is interrupted and on any number of devices.

    python scripts/verify_run.py --config=configs/quickstart.py

Trains the first steps of the run on one device; stops half-way and resumes; then on eight devices, in every mode of
`parallel.mode`. Where the machine has fewer, the CPU simulates them. Exit code 1: something is different.
"""

from absl import flags

from amsdff_jax.cli import command_line
from amsdff_jax.benchmark.reproducibility import print_comparisons, provide_devices, verify_run

command_line.DEFINE_CONFIG("config", None, "The run's settings; nothing is kept of what it trains.")
STEPS = flags.DEFINE_integer("steps", 10, "How many steps to train.", lower_bound=2)
DEVICES = flags.DEFINE_integer("devices", 8, "How many devices to compare one with.", lower_bound=2)
flags.mark_flag_as_required("config")


def main() -> int:
    """Trains and compares; returns the exit code."""
    devices = provide_devices(DEVICES.value)
    results = verify_run(command_line.read_config(), STEPS.value, devices)
    return 0 if print_comparisons(*results) else command_line.EXIT_DIFFERENT


if __name__ == "__main__":
    command_line.run(main)
