"""Runs the classifier in this folder; needs onnxruntime, and tokenizers for texts.

python load.py "A first text." "A second text."     # of a model of pairs, two arguments are a pair
"""

import json
from pathlib import Path

import numpy as np
import onnxruntime
from answers import answer_arguments, to_probabilities
from tokens import encode

FOLDER = Path(__file__).resolve().parent
config = json.loads((FOLDER / "config.json").read_text(encoding="utf-8"))
session = onnxruntime.InferenceSession(FOLDER / "model.onnx", providers=onnxruntime.get_available_providers())


def logits(texts):
    """Scores of the classes, [B,C], or the number, [B,1], for B texts or pairs of texts."""
    input_ids, attention_mask = (np.array(rows, np.int64) for rows in encode(texts))  # [B,S]
    return session.run(["logits"], {"input_ids": input_ids, "attention_mask": attention_mask})[0]


def probabilities(texts):
    """Probabilities of the classes, [B,C] in float64, at the temperature of the model's calibration (1: none).

    Where a text may have several labels, that of each class by itself. A model of numbers has none: use `logits`.
    """
    return to_probabilities(logits(texts))


if __name__ == "__main__":
    answer_arguments(logits if "number" in config else probabilities)
