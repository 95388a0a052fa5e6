"""Fine-tunes a classifier and writes its model, numbers and pictures.

    python scripts/train.py --config=configs/agnews.py --workdir=runs/agnews --config.train.epochs=3

The same command goes on with an unfinished run.
"""

import signal

from absl import flags

from amsdff_jax import command_line
from amsdff_jax.config import Config
from amsdff_jax.runs import train_run

CONFIG = command_line.DEFINE_CONFIG("config", None, "File with the settings, such as configs/agnews.py.")
WORKDIR = flags.DEFINE_string("workdir", "", "Folder of the run; by default runs/<name of the config>.")
INIT_FROM = flags.DEFINE_string(
    "init_from", "", "A .pt or .safetensors file of PyTorch to begin with; its optimizer's state is taken too."
)
flags.mark_flag_as_required("config")


def main() -> int:
    """Trains; returns the exit code."""
    workdir = WORKDIR.value or f"runs/{command_line.config_name()}"

    def stop_on_signal(request_stop):
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, lambda *_: request_stop())

    config = Config.from_dict(CONFIG.value)
    if INIT_FROM.value:
        config = config.replace(train__init_from=INIT_FROM.value)
    finished = train_run(config, workdir, on_start=stop_on_signal)
    return 0 if finished else command_line.EXIT_INTERRUPTED


if __name__ == "__main__":
    command_line.run(main)
