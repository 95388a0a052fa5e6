"""Measures how the speed of training grows with the number of devices, simulated on the CPU where there are too few.

python scripts/measure_scaling.py --config=configs/quickstart.py --devices=1,2
"""

from absl import flags

from amsdff_jax.cli import command_line
from amsdff_jax.base.errors import UserError
from amsdff_jax.benchmark.reproducibility import provide_devices
from amsdff_jax.benchmark.scaling import measure_scaling, print_scaling

command_line.DEFINE_CONFIG("config", None, "The run's settings; nothing is kept of what it trains.")
DEVICES = flags.DEFINE_list("devices", ["1", "2"], "Numbers of devices to compare, the first with the others.")
ROUNDS = flags.DEFINE_integer("rounds", 3, "How often each is measured, in turn.", lower_bound=1)
flags.mark_flag_as_required("config")


def main() -> None:
    """Measures and prints."""
    if not DEVICES.value or not all(number.isdigit() and int(number) for number in DEVICES.value):
        raise UserError(f"--devices: expected numbers such as 1,2, got {','.join(DEVICES.value)}")
    counts = list(dict.fromkeys(map(int, DEVICES.value)))
    devices = provide_devices(max(counts))
    print_scaling(measure_scaling(command_line.read_config(), devices, counts, ROUNDS.value))


if __name__ == "__main__":
    command_line.run(main)
