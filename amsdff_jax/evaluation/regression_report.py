"""The tables and the picture of an evaluation where labels are numbers."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from amsdff_jax.base.escaping import spreadsheet_cell
from amsdff_jax.base.files import write_csv
from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.evaluation.drawing import draw
from amsdff_jax.evaluation.evaluator import Evaluation
from amsdff_jax.evaluation.plots import plot_predicted_and_true

MAX_ERRORS = 100  # in errors.csv


def write_tables(directory: Path, dataset: TextDataset, evaluation: Evaluation, metrics: Mapping[str, Any]) -> None:
    """Writes `predictions.csv`, and `errors.csv` of the largest errors, of one split, all in the labels' unit."""
    truth, predicted = evaluation.labels, evaluation.predictions
    error = predicted - truth

    def answer(index: int) -> list[str]:
        return [dataset.ids[index], repr(float(truth[index])), f"{predicted[index]:.8g}", f"{error[index]:.8g}"]

    header = ["id", "truth", "prediction", "error"]
    write_csv(directory / "predictions.csv", header, map(answer, range(len(dataset))))

    def row(index: int) -> Iterable[str]:
        texts = [texts[index] for texts in (dataset.texts, dataset.text_pairs) if texts is not None]
        name, *numbers = answer(index)
        return [spreadsheet_cell(name), *numbers, *map(spreadsheet_cell, texts)]

    worst = np.argsort(-np.abs(error), kind="stable")[:MAX_ERRORS]
    header += ["text", *([] if dataset.text_pairs is None else ["text_pair"])]
    write_csv(directory / "errors.csv", header, map(row, worst.tolist()))


def draw_pictures(directory: Path, class_names: Sequence[str], evaluation: Evaluation) -> None:
    """Draws `predicted_and_true.png` of one split."""
    numbers = evaluation.labels, evaluation.predictions, class_names[0]
    draw(directory / "predicted_and_true.png", class_names, plot_predicted_and_true, *numbers)
