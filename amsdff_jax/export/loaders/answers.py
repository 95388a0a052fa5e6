"""What the classifier in this folder says of a text, in names of classes."""

import json
import sys
from pathlib import Path

import numpy as np

config = json.loads((Path(__file__).resolve().parent / "config.json").read_text(encoding="utf-8"))


def to_probabilities(logits):
    """Of scores [B,C], as float64, in which a probability near 1 is still below 1.

    Raises:
      ValueError: the model predicts a number.
    """
    if "number" in config:
        raise ValueError(f"the model predicts a number, {config['number']}: its logits, [B,1]")
    scores = np.asarray(logits, np.float64) / config["temperature"]
    if "thresholds" in config:
        return np.exp(-np.logaddexp(0, -scores))
    exponentials = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def labels(probabilities):
    """Pairs of name and probability, given those of all classes, [C].

    The most likely class; or, where a text may have several labels, all classes that reach their threshold, the most
    likely first.
    """
    found = sorted(zip(config["class_names"], probabilities, strict=True), key=lambda pair: -pair[1])
    if "thresholds" not in config:
        return found[:1]
    least = dict(zip(config["class_names"], config["thresholds"], strict=True))
    return [(name, probability) for name, probability in found if probability >= least[name]]


def describe(probabilities):
    """The labels as a line: names with commas between them, and behind a tab their probabilities.

    Of a model of numbers, given its number, [1], that one.
    """
    if "number" in config:
        return f"{config['number']}\t{probabilities[0]:.8g}"
    pairs = labels(probabilities)
    names, numbers = ", ".join(name for name, _ in pairs), ", ".join(f"{number:.4f}" for _, number in pairs)
    return f"{names}\t{numbers}"


def answer_arguments(answer):
    """Prints a line for each text, or pair of texts, of the command line; `answer` gives a row of numbers for each."""
    sys.stdout.reconfigure(errors="backslashreplace")  # the terminal may lack characters of a text
    texts = sys.argv[1:]
    if config["reads_pairs"]:
        if len(texts) % 2:
            sys.exit("error: expected the two texts of every pair, one after the other")
        texts = list(zip(texts[::2], texts[1::2], strict=True))
    if not texts:
        sys.exit("error: expected texts, each in quotes")
    for text, row in zip(texts, answer(texts), strict=True):
        print(describe(row.tolist()), *([text] if isinstance(text, str) else text), sep="\t")
