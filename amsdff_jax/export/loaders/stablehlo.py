"""Runs the classifier in this folder; needs jax and flatbuffers, and tokenizers for texts.

python load.py "A first text." "A second text."     # of a model of pairs, two arguments are a pair
"""

import json
from pathlib import Path

import jax
import jax.export
import numpy as np
from answers import answer_arguments, to_probabilities

FOLDER = Path(__file__).resolve().parent
config = json.loads((FOLDER / "config.json").read_text(encoding="utf-8"))
weights = jax.device_put(dict(np.load(FOLDER / "weights.npz")))
model = jax.jit(jax.export.deserialize(bytearray((FOLDER / "model.stablehlo").read_bytes())).call)


def logits(texts):
    """Scores of the classes, [B,C], or the number, [B,1], for B texts or pairs of texts."""
    from tokens import encode

    input_ids, attention_mask = (np.array(rows, np.int32) for rows in encode(texts))  # [B,S]
    return np.asarray(model(weights, input_ids, attention_mask))


def probabilities(texts):
    """Probabilities of the classes, [B,C] in float64, at the temperature of the model's calibration (1: none).

    Where a text may have several labels, that of each class by itself. A model of numbers has none: use `logits`.
    """
    return to_probabilities(logits(texts))


if __name__ == "__main__":
    answer_arguments(logits if "number" in config else probabilities)
