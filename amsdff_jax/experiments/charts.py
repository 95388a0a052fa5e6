"""The pictures of an experiment, as figures."""

import matplotlib
import numpy as np
from cycler import cycler
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from amsdff_jax.evaluation.drawing import picture_name, room_for
from amsdff_jax.evaluation.plots import BLUE, GREY
from amsdff_jax.experiments.analysis import DatasetAnalysis
from amsdff_jax.experiments.record import TITLES
from amsdff_jax.experiments.summary import p_value_text


def plot_accuracies(analysis: DatasetAnalysis, reference: str) -> Figure:
    """A bar for every variant, with its standard deviation over the runs if it has several."""
    metric = analysis.headline
    rows = sorted((row for row in analysis.rows if row.metrics), key=lambda row: row.metrics[metric].mean)
    means = np.array([row.metrics[metric].mean for row in rows])
    deviations = np.array([row.metrics[metric].standard_deviation for row in rows], float)  # NaN for a single run
    spreads = np.nan_to_num(deviations)
    names = [picture_name(row.variant) for row in rows]
    figure = Figure(figsize=(6.5 + room_for(names, 10), 0.36 * len(rows) + 1.2), layout="constrained")
    axes = figure.add_subplot()
    colors = [BLUE if row.variant == reference else GREY for row in rows]
    axes.barh(range(len(rows)), 100 * means, xerr=100 * deviations, color=colors, capsize=3)
    axes.set_yticks(range(len(rows)), names)
    lowest, highest = (means - spreads).min(), (means + spreads).max()
    margin = max(0.25 * (highest - lowest), 0.002)
    axes.set_xlim(100 * max(lowest - 2 * margin, 0), 100 * min(highest + 2 * margin, 1))
    for place, mean in enumerate(means):
        axes.text(100 * (means + spreads)[place] + 30 * margin, place, f"{100 * mean:.2f}", va="center", fontsize=8)
    axes.set_xlabel(f"{TITLES[metric]}, % (the axis does not begin at 0)")
    axes.set_title(picture_name(analysis.dataset))
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def plot_curves(analysis: DatasetAnalysis, reference: str) -> Figure:
    """Accuracy or micro F1 on the validation split over the epochs, the mean of the runs of every variant."""
    extra = room_for([row.variant for row in analysis.rows], 8)
    figure = Figure(figsize=(8 + extra, 3.8), layout="constrained")
    axes = figure.add_subplot()
    axes.set_prop_cycle(cycler(linestyle=["-", "--", ":"]) * cycler(color=matplotlib.color_sequences["tab10"]))
    metric = analysis.headline
    for row in analysis.rows:
        curves = [curve for curve in row.curves if curve]
        if not curves:
            continue
        length = min(len(curve) for curve in curves)
        epochs = [point["epoch"] for point in curves[0][:length]]
        values = np.mean([[point[metric] for point in curve[:length]] for curve in curves], axis=0)
        width = 2.5 if row.variant == reference else 1.2
        axes.plot(epochs, 100 * values, marker="o", markersize=3, linewidth=width, label=picture_name(row.variant))
    axes.set_xlabel("epoch")
    axes.set_ylabel(f"validation {TITLES[metric]}, %")
    axes.set_title(picture_name(analysis.dataset))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    if axes.lines:
        figure.legend(fontsize=8, loc="outside right upper")
    return figure


def plot_significance(analysis: DatasetAnalysis) -> Figure:
    """The corrected p value of every pair of variants."""
    names = [picture_name(row.variant) for row in analysis.rows]
    size = max(0.62 * len(names) + 1.8, 4.2) + room_for(names, 10)
    figure = Figure(figsize=(size, size * 0.85), layout="constrained")
    axes = figure.add_subplot()
    shades = np.ma.masked_invalid(np.log10(np.maximum(analysis.p_values, 1e-4)))
    axes.imshow(shades, cmap="Blues_r", vmin=-4, vmax=0)
    for (row, column), value in np.ndenumerate(analysis.p_values):
        if np.isfinite(value):
            color = "white" if value < 0.01 else "black"
            axes.text(column, row, p_value_text(value), ha="center", va="center", fontsize=7, color=color)
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right")
    axes.set_yticks(range(len(names)), names)
    title = f"{picture_name(analysis.dataset)}\np of no difference (exact McNemar, Holm over all pairs)"
    axes.set_title(title, fontsize=9)
    return figure
