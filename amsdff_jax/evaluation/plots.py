"""The report's pictures, as figures that need no display."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from amsdff_jax.evaluation.drawing import picture_name, room_for

BLUE, ORANGE, GREY = "#2f6db5", "#d9792b", "#9a9a9a"


def plot_confusion_matrix(counts: np.ndarray, class_names: Sequence[str]) -> Figure:
    """Draws [C,C] counts, truth down and prediction across, shaded by the share of each true class."""
    number = len(class_names)
    size = 9 if number <= 12 else 6
    side = float(np.clip(2.6 + 0.42 * number, 4.2, 18)) + room_for(class_names, size)
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.add_subplot()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names = list(map(picture_name, class_names))
    tilt = {"rotation": 45, "ha": "right"} if number <= 12 else {"rotation": 90, "ha": "center"}
    axes.set_xticks(range(number), names, fontsize=size, **tilt)
    axes.set_yticks(range(number), names, fontsize=size)
    for row, column in zip(*np.nonzero(counts), strict=True):
        color = "white" if shares[row, column] > 0.5 else "black"
        shown = axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=color, fontsize=size)
        shown.set_in_layout(False)  # it lies inside; measuring thousands of them would take a minute
    axes.set(xlabel="predicted", ylabel="true", title="Confusion matrix (texts)")
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
    return figure


def plot_learning_curves(records: Sequence[Mapping[str, Any]], best_step: int, metric: str) -> Figure:
    """Draws loss and quality against the step, the kept checkpoint marked.

    Args:
      records: of `metrics.jsonl`, of the kinds `train` and `validation`.
      best_step: of the kept checkpoint.
      metric: what it was chosen by, drawn as well.
    """
    figure = Figure(figsize=(9.5, 3.8), layout="constrained")
    train = [record for record in records if record["kind"] == "train"]
    validation = [record for record in records if record["kind"] == "validation"]
    quality = "accuracy" if any("accuracy" in record for record in records) else metric  # numbers have none
    for axes, name in zip(figure.subplots(1, 2), ("loss", quality), strict=True):
        line = "-" if len(train) > 1 else "o"
        lines = [(train, name, GREY, line, "training, with dropout"), (validation, name, BLUE, "o-", "validation")]
        if name == "accuracy" and metric not in ("accuracy", "loss"):
            lines.append((validation, metric, ORANGE, "o--", f"validation {metric}"))
        for source, key, color, style, label in lines:
            steps = [record["step"] for record in source]
            axes.plot(steps, [record.get(key) for record in source], style, color=color, label=label)
        axes.axvline(best_step, color="black", linewidth=0.8, linestyle=":", label="kept checkpoint")
        axes.set(xlabel="step", title=name)
        axes.set_xlim(left=0)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    return figure


def plot_predicted_and_true(truth: np.ndarray, predicted: np.ndarray, name: str) -> Figure:
    """Draws predicted numbers against true ones, both [N], and the line on which they are equal; `name` is theirs."""
    figure = Figure(figsize=(5.2, 5.2), layout="constrained")
    axes = figure.add_subplot()
    both = np.concatenate([truth, predicted])
    ends = float(both.min()), float(both.max())
    axes.plot(ends, ends, color=GREY, linestyle="--", linewidth=1, label="predicted = true")
    axes.plot(truth, predicted, "o", color=BLUE, markersize=3, alpha=float(np.clip(300 / len(truth), 0.1, 0.8)))
    axes.set(xlabel="true", ylabel="predicted", title=picture_name(name))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure


def plot_reliability(table: np.ndarray, error: float, counted: str = "texts") -> Figure:
    """Draws accuracy against confidence from `metrics.calibration_table`, over a histogram.

    Args:
      table: a row for each bin.
      error: the expected calibration error.
      counted: what is counted: "texts", or "answers" where a text has one for each class, whether it has it or not.
    """
    figure = Figure(figsize=(4.8, 5.2), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    counts, confidence, accuracy = table.T
    edges = np.linspace(0, 1, len(table) + 1)
    full = counts > 0
    upper.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, label="perfectly calibrated")
    upper.plot(confidence[full], accuracy[full], "o-", color=BLUE, label="model")
    upper.set(
        ylabel="accuracy", title=f"Reliability, expected calibration error {error:.3f}", xlim=(0, 1), ylim=(0, 1.02)
    )
    upper.grid(alpha=0.3)
    upper.legend(fontsize=8)
    lower.bar(edges[:-1], counts, width=np.diff(edges), align="edge", color=BLUE, edgecolor="white")
    lower.set(xlabel=f"probability of the {'predicted class' if counted == 'texts' else 'answer'}", ylabel=counted)
    return figure
