"""Runs the classifier in this folder; needs torch, transformers and safetensors, and tokenizers for texts.

python load.py "A first text." "A second text."     # of a model of pairs, two arguments are a pair
"""

import json
from pathlib import Path

import torch
from answers import answer_arguments, to_probabilities
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
    """Probabilities of the classes, [B,C] in float64, at the temperature of the model's calibration (1: none).

    Where a text may have several labels, that of each class by itself. A model of numbers has none: use `logits`.
    """
    scores = logits(texts)
    return torch.from_numpy(to_probabilities(scores.cpu().numpy())).to(scores.device)


if __name__ == "__main__":
    answer_arguments(logits if "number" in config else probabilities)
