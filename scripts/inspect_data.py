"""Looks at the texts of a config: classes, lengths, duplicates and leaks, conflicts, encodings, scripts.

    python scripts/inspect_data.py reviews.csv
    python scripts/inspect_data.py --config=configs/agnews.py
    python scripts/inspect_data.py reviews.csv --labels
    python scripts/inspect_data.py reviews.csv --labels --apply=clean.csv --fraction=0.02

Prints what needs attention and writes a page. Nothing is trained, and the encoder's tokenizer is all that is
needed of it, but for --labels: which labels of the training split are probably wrong.
"""

from absl import flags

from amsdff_jax.cli import arguments, command_line
from amsdff_jax.inspection.inspect import inspect_data

command_line.DEFINE_CONFIG("config", "files", "Settings, such as configs/agnews.py or a run's config.json.")
OUTPUT = flags.DEFINE_string("output", "", "The page, an HTML file; by default runs/<config or file>/data.html.")
JSON = flags.DEFINE_string("json", "", "The same as JSON in this file.")
SIMILARITY = flags.DEFINE_float("similarity", 0.8, "Jaccard similarity from which texts are near duplicates, 0.6 to 1.")
LABELS = flags.DEFINE_bool("labels", False, "Judge the labels of the training split; ranked, beside the page.")
APPLY = flags.DEFINE_string("apply", "", "Write the training split without suspected labels: a new CSV file.")
FRACTION = flags.DEFINE_float("fraction", 0.0, "Share of rows to leave out of it; 0: all suspects.")
arguments.mark_flags_of("labels", ["apply"])
arguments.mark_flags_of("apply", ["fraction"])


def main(file: str = "") -> None:
    """Inspects and reports."""
    config, name = command_line.read_config(file), command_line.run_name(file)
    output = OUTPUT.value or f"runs/{name}/data.html"
    inspect_data(config, name, output, JSON.value, SIMILARITY.value, LABELS.value, APPLY.value, FRACTION.value)


if __name__ == "__main__":
    command_line.run(main, others="[FILE]")
