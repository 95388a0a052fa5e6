"""Plans a run for TPUs that are not here: compiles its train step for them; memory, work and time of a chip.

    python scripts/plan.py --config=configs/agnews.py --config.model.num_classes=4 --topology=v5e:2x2,v5e:4x4

Needs libtpu (`pip install libtpu`), and neither data nor weights. A slice takes minutes. --config.train.batch_size
counts the texts over all chips.
"""

from absl import flags

from amsdff_jax.cli import command_line
from amsdff_jax.base.files import user_path
from amsdff_jax.benchmark.plan import plan_run
from amsdff_jax.benchmark.plan_report import report_plan

command_line.DEFINE_CONFIG("config", None, "The run's settings.")
TOPOLOGY = flags.DEFINE_list("topology", None, "Slices, such as v5e:2x2,v5e:16x16; also v5p:2x2x2, v6e:2x4.")
MODES = flags.DEFINE_list("modes", [], "Of parallel.mode, such as sharded,fsdp, to compare; none: that of the run.")
OUTPUT = flags.DEFINE_string("output", "", "Folder for the tables, a picture and plan.json.")
flags.mark_flags_as_required(["config", "topology"])


def main() -> int:
    """Plans and reports; returns the exit code, 1 if a slice was left out."""
    import jax

    jax.config.update("jax_platforms", "cpu")  # what is not compiled for a slice needs no accelerator
    plans = plan_run(command_line.read_config(), TOPOLOGY.value, MODES.value)
    complete = len(plans) == len(TOPOLOGY.value) * max(len(MODES.value), 1)
    report_plan(plans, command_line.config_name(), user_path(OUTPUT.value) if OUTPUT.value else None)
    return 0 if complete else command_line.EXIT_DIFFERENT


if __name__ == "__main__":
    command_line.run(main)
