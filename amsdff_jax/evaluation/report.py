"""Writes an evaluation as files that a person or a spreadsheet can read."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix

from amsdff_jax.base.escaping import spreadsheet_cell
from amsdff_jax.base.files import write_csv, write_json
from amsdff_jax.base.records import read_log, read_record
from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.evaluation import multi_label_report, regression_report
from amsdff_jax.evaluation.calibration import calibration_table, expected_calibration_error
from amsdff_jax.evaluation.drawing import draw
from amsdff_jax.evaluation.evaluator import Evaluation
from amsdff_jax.evaluation.metrics import METRICS
from amsdff_jax.evaluation.plots import plot_confusion_matrix, plot_learning_curves, plot_reliability

MAX_ERRORS = 100  # in errors.csv


def write_metrics(directory: Path, splits: Mapping[str, Mapping[str, Any]], task: str = "single") -> None:
    """Writes `metrics.json`, an object for every split, each with what its numbers mean.

    Splits that the file already holds and `splits` does not name are kept.

    Args:
      task: the kind of task that the metrics are of.
    """
    meanings = dict(METRICS[task].meanings)
    directory.mkdir(parents=True, exist_ok=True)
    write_json(
        directory / "metrics.json",
        read_metrics(directory) | {name: {**values, "meanings": meanings} for name, values in splits.items()},
    )


def read_metrics(directory: Path) -> dict[str, Any]:
    """What `metrics.json` holds by split; nothing where there is no such file, or a damaged one has been set aside."""
    return read_record(directory / "metrics.json", "the metrics of an evaluation")


def write_report(directory: Path, dataset: TextDataset, evaluation: Evaluation, metrics: Mapping[str, Any]) -> None:
    """Writes the tables of one split.

    `confusion_matrix.csv`, `per_class.csv`, `predictions.csv` (every text's id, truth, prediction, probability) and
    `errors.csv` (the most confident mistakes; of ordered classes those that are most steps off come first). The last is
    for reading: in it, what a spreadsheet would compute as a formula stands behind an apostrophe. In the others names
    are exact. Where a text may have several classes there is no confusion matrix; where labels are numbers,
    `per_class.csv` is missing as well.
    """
    directory.mkdir(parents=True, exist_ok=True)
    TABLES[evaluation.task](directory, dataset, evaluation, metrics)


def draw_report(directory: Path, class_names: Sequence[str], evaluation: Evaluation) -> None:
    """Draws `reliability.png` of one split, and `confusion_matrix.png` where a text has one class.

    Where labels are numbers, `predicted_and_true.png`.
    """
    PICTURES[evaluation.task](directory, class_names, evaluation)


def _write_tables(directory: Path, dataset: TextDataset, evaluation: Evaluation, metrics: Mapping[str, Any]) -> None:
    names = dataset.class_names
    truth, predictions, probabilities = evaluation.classes, evaluation.predictions, evaluation.probabilities
    confidence = probabilities.max(axis=-1)

    counts = confusion_matrix(truth, predictions, labels=range(len(names)))
    rows = ([name, *map(int, row)] for name, row in zip(names, counts, strict=True))
    write_csv(directory / "confusion_matrix.csv", ["true \\ predicted", *names], rows)

    per_class = metrics["per_class"]
    write_csv(directory / "per_class.csv", list(per_class[0]), (row.values() for row in per_class))

    def answer(index: int) -> list[str]:
        return [dataset.ids[index], names[truth[index]], names[predictions[index]]]

    header = ["id", "truth", "prediction", "probability"]
    rows = ([*answer(index), f"{confidence[index]:.6f}"] for index in range(len(dataset)))
    write_csv(directory / "predictions.csv", header, rows)

    def error(index: int) -> list[str]:
        numbers = confidence[index], probabilities[index, truth[index]]
        texts = [texts[index] for texts in (dataset.texts, dataset.text_pairs) if texts is not None]
        cells = (map(spreadsheet_cell, answer(index)), (f"{number:.6f}" for number in numbers))
        return [*itertools.chain(*cells), *map(spreadsheet_cell, texts)]

    wrong = np.flatnonzero(truth != predictions)
    steps = np.abs(truth - predictions)[wrong] if evaluation.task == "ordinal" else np.zeros(len(wrong))
    wrong = wrong[np.lexsort((-confidence[wrong], -steps))][:MAX_ERRORS]
    header += ["probability_of_truth", "text", *([] if dataset.text_pairs is None else ["text_pair"])]
    write_csv(directory / "errors.csv", header, map(error, wrong.tolist()))


def _draw_pictures(directory: Path, class_names: Sequence[str], evaluation: Evaluation) -> None:
    truth, predictions, probabilities = evaluation.classes, evaluation.predictions, evaluation.probabilities
    counts = confusion_matrix(truth, predictions, labels=range(len(class_names)))
    draw(directory / "confusion_matrix.png", class_names, plot_confusion_matrix, counts, class_names)
    table = calibration_table(truth, predictions, probabilities)
    error = expected_calibration_error(truth, predictions, probabilities)
    draw(directory / "reliability.png", (), plot_reliability, table, error)


TABLES = {
    **dict.fromkeys(("single", "ordinal"), _write_tables),
    "multi_label": multi_label_report.write_tables,
    "regression": regression_report.write_tables,
}
PICTURES = {
    **dict.fromkeys(("single", "ordinal"), _draw_pictures),
    "multi_label": multi_label_report.draw_pictures,
    "regression": regression_report.draw_pictures,
}


def draw_learning_curves(directory: Path, log: Path, best_step: int, metric: str) -> None:
    """Draws `learning_curves.png` of the records of a run's `metrics.jsonl`."""
    draw(directory / "learning_curves.png", (), lambda: plot_learning_curves(read_log(log), best_step, metric))
