"""Converts between PyTorch's files, transformers' classifiers and model folders; `verify` alone needs PyTorch.

python scripts/convert.py inspect FILE
python scripts/convert.py from-torch FILE_OR_ADAPTERS OUT_DIR --encoder_config=DIR --tokenizer=DIR --class_names=a,b,c
python scripts/convert.py from-transformers DIR_OR_HUB_ID OUT_DIR  # a fine-tuned ...ForSequenceClassification
python scripts/convert.py to-torch MODEL_DIR OUT.pt
python scripts/convert.py verify MODEL_DIR FILE "A text to compare on"
"""

from absl import flags

from amsdff_jax.cli import command_line
from amsdff_jax.cli.arguments import mark_flags_of
from amsdff_jax.config import TASKS
from amsdff_jax.conversion.convert import describe, from_torch, to_torch
from amsdff_jax.conversion.from_transformers import from_transformers
from amsdff_jax.conversion.verify import print_differences, verify

FROM_TORCH = [
    flags.DEFINE_string("encoder_config", "", "from-torch: encoder's folder, config.json, hub id or minilm-l6."),
    flags.DEFINE_string("tokenizer", "", "from-torch: folder of the tokenizer; by default the encoder's."),
    flags.DEFINE_list("class_names", [], "from-torch: names of the classes, in the order of the logits."),
    flags.DEFINE_enum("padding", "", ["", "reference", "masked"], "from-torch: semantics; by default reference."),
    flags.DEFINE_integer("num_attention_heads", 0, "from-torch: of the layers after the encoder; by default 8."),
    flags.DEFINE_integer("max_length", 0, "from-torch: tokens a text is truncated to; by default 256."),
    flags.DEFINE_enum("task", "", ["", *TASKS], "from-torch: the kind of task.kind; by default single."),
]
LAYOUT = flags.DEFINE_enum("layout", "state_dict", ["state_dict", "trainer"], "to-torch: what the file holds.")
SAVE = flags.DEFINE_string("save_reference", "", "verify: file for PyTorch's numbers, to compare with later.")
mark_flags_of("from-torch", [flag.name for flag in FROM_TORCH])
mark_flags_of("to-torch", [LAYOUT.name])
mark_flags_of("verify", [SAVE.name])


def main(command: str, *arguments: str) -> int:
    """Runs one command; returns the exit code."""
    match command:
        case "inspect":
            print(describe(*arguments))
        case "from-torch":
            from_torch(*arguments, **{flag.name: flag.value for flag in FROM_TORCH})
        case "from-transformers":
            from_transformers(*arguments)
        case "to-torch":
            to_torch(*arguments, layout=LAYOUT.value)
        case "verify":
            differences = verify(*arguments[:2], texts=arguments[2:], save_reference=SAVE.value)
            return 0 if print_differences(differences) else command_line.EXIT_DIFFERENT
    return 0


COMMANDS = {
    "inspect": "FILE",
    "from-torch": "FILE OUT_DIR",
    "from-transformers": "DIR_OR_HUB_ID OUT_DIR",
    "to-torch": "MODEL_DIR OUT",
    "verify": "MODEL_DIR FILE *TEXT",
}

if __name__ == "__main__":
    command_line.run(main, COMMANDS)
