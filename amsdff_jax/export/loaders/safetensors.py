"""Runs the classifier in this folder; needs torch, transformers and safetensors, and tokenizers for texts.

python load.py "A first text." "A second text."
"""

import json
import sys
from pathlib import Path

import torch
from answers import describe
from model import TorchClassifier
from tokens import encode

FOLDER = Path(__file__).resolve().parent
config = json.loads((FOLDER / "config.json").read_text(encoding="utf-8"))
model = TorchClassifier.from_pretrained(FOLDER)


@torch.no_grad()
def logits(texts):
    """Scores of the classes, [B,C], or the number, [B,1], for B texts or pairs of texts."""
    input_ids, attention_mask = map(torch.tensor, encode(texts))  # [B,S]
    return model(input_ids, attention_mask).logits


def probabilities(texts):
    """Probabilities of the classes, [B,C], at the temperature of the model's calibration (1: none).

    Where a text may have several labels, that of each class by itself. A model of numbers has none: use `logits`.
    """
    if "number" in config:
        raise ValueError(f"the model predicts a number, {config['number']}: its logits, [B,1]")
    scores = logits(texts) / config["temperature"]
    return torch.sigmoid(scores) if "thresholds" in config else torch.softmax(scores, dim=-1)


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="backslashreplace")  # the terminal may lack characters of a text
    answer = logits if "number" in config else probabilities
    for text, row in zip(sys.argv[1:], answer(sys.argv[1:]), strict=True):
        print(f"{describe(row.tolist())}\t{text}")
