"""Writes a page that shows why a model gives texts their labels.

python scripts/explain.py --model=runs/agnews/model --output=explain.html "Stocks fell on Monday"
python scripts/explain.py --model=runs/agnews/model --compare "Stocks fell on Monday" "The striker fell on Monday"
"""

from absl import flags

from amsdff_jax.cli import command_line
from amsdff_jax.explanation.write import write_explanations

MODEL = flags.DEFINE_string("model", None, "Model folder.")
OUTPUT = flags.DEFINE_string("output", "explain.html", "The page, a file of HTML.")
JSON = flags.DEFINE_string("json", "", "A file for the same numbers as JSON.")
CLASS_NAME = flags.DEFINE_string("class_name", "", "Class to explain; by default the one that wins.")
COMPARE = flags.DEFINE_bool("compare", False, "Put two texts side by side.")
flags.mark_flag_as_required("model")


def main(*texts: str) -> None:
    """Explains the texts."""
    write_explanations(
        MODEL.value, texts, OUTPUT.value, numbers=JSON.value, class_name=CLASS_NAME.value, compare=COMPARE.value
    )


if __name__ == "__main__":
    command_line.run(main, others="*TEXT")
