"""What the classifier in this folder says of a text, in names of classes."""

import json
from pathlib import Path

config = json.loads((Path(__file__).resolve().parent / "config.json").read_text(encoding="utf-8"))


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
