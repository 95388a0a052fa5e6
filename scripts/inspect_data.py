"""Looks at the texts of a config: classes, lengths, duplicates and leaks, conflicts, encodings, scripts.

    python scripts/inspect_data.py --config=configs/agnews.py

Prints what needs attention and writes a page. Nothing is trained; the encoder's tokenizer is all that is
needed of it.
"""

from absl import flags

from amsdff_jax.cli import command_line
from amsdff_jax.inspection.inspect import inspect_data

command_line.DEFINE_CONFIG("config", None, "File with the settings, such as configs/agnews.py.")
OUTPUT = flags.DEFINE_string("output", "", "The page, an HTML file; by default runs/<name of the config>/data.html.")
JSON = flags.DEFINE_string("json", "", "The same as JSON in this file.")
SIMILARITY = flags.DEFINE_float("similarity", 0.8, "Jaccard similarity from which texts are near duplicates, 0.6 to 1.")
flags.mark_flag_as_required("config")


def main() -> None:
    """Inspects and reports."""
    name = command_line.config_name()
    output = OUTPUT.value or f"runs/{name}/data.html"
    inspect_data(command_line.read_config(), name, output, JSON.value, SIMILARITY.value)


if __name__ == "__main__":
    command_line.run(main)
