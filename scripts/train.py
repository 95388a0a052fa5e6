"""Fine-tunes a classifier and writes its model, numbers and pictures.

    python scripts/train.py reviews.csv
    python scripts/train.py --config=configs/agnews.py --workdir=runs/agnews --config.train.epochs=3

A file of texts needs the columns `text` and `label`; `--config.data.text_column` and
`--config.data.label_column` name others.

The same command resumes an unfinished run. All GPUs of the machine are used; with several
machines, the same command on each, under SLURM or Open MPI as it is, else with the flags

    --coordinator_address=HOST:PORT --num_processes=2 --process_id=0
"""

from absl import flags

from amsdff_jax.cli import command_line
from amsdff_jax.parallel.stop import StopRequest
from amsdff_jax.training.train_run import train_run

command_line.DEFINE_CONFIG("config", "files", "Settings, such as configs/agnews.py or a run's config.json.")
WORKDIR = flags.DEFINE_string("workdir", "", "Folder of the run; by default runs/<name of the config or of the file>.")
INIT_FROM = flags.DEFINE_string(
    "init_from", "", "A .pt or .safetensors file of PyTorch to begin with; its optimizer's state is taken too."
)
command_line.define_host_flags()


def main(file: str = "") -> int:
    """Trains; returns the exit code."""
    config = command_line.read_config(file, INIT_FROM.value)
    workdir = WORKDIR.value or f"runs/{command_line.run_name(file)}"
    finished = train_run(config, workdir, StopRequest())
    return 0 if finished else command_line.EXIT_INTERRUPTED


if __name__ == "__main__":
    command_line.run(main, others="[FILE]")
