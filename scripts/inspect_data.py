"""Looks at the texts of a config: classes, lengths, duplicates and leaks, conflicts, encodings, scripts.

    python scripts/inspect_data.py reviews.csv
    python scripts/inspect_data.py --config=configs/agnews.py

Prints what needs attention and writes a page. Nothing is trained; the encoder's tokenizer is all that is
needed of it.
"""

from absl import flags

from amsdff_jax.cli import command_line
from amsdff_jax.inspection.inspect import inspect_data

command_line.DEFINE_CONFIG("config", "files", "Settings, such as configs/agnews.py or a run's config.json.")
OUTPUT = flags.DEFINE_string("output", "", "The page, an HTML file; by default runs/<config or file>/data.html.")
JSON = flags.DEFINE_string("json", "", "The same as JSON in this file.")
SIMILARITY = flags.DEFINE_float("similarity", 0.8, "Jaccard similarity from which texts are near duplicates, 0.6 to 1.")


def main(file: str = "") -> None:
    """Inspects and reports."""
    config, name = command_line.read_config(file), command_line.run_name(file)
    output = OUTPUT.value or f"runs/{name}/data.html"
    inspect_data(config, name, output, JSON.value, SIMILARITY.value)


if __name__ == "__main__":
    command_line.run(main, others="[FILE]")
