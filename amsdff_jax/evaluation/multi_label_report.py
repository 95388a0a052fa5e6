"""The tables and pictures of an evaluation where a text may have any number of classes."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from amsdff_jax.base.escaping import spreadsheet_cell
from amsdff_jax.base.files import to_json, write_csv
from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.evaluation.drawing import draw
from amsdff_jax.evaluation.evaluator import Evaluation
from amsdff_jax.evaluation.multi_label_metrics import reliability
from amsdff_jax.evaluation.plots import plot_reliability

MAX_ERRORS = 100  # in errors.csv


def write_tables(directory: Path, dataset: TextDataset, evaluation: Evaluation, metrics: Mapping[str, Any]) -> None:
    """Writes `per_class.csv`, `predictions.csv` and `errors.csv` of one split; lists of labels are JSON."""
    names = np.array(dataset.class_names, object)
    truth, predictions, probabilities = evaluation.labels, evaluation.predictions, evaluation.probabilities

    per_class = metrics["per_class"]
    write_csv(directory / "per_class.csv", list(per_class[0]), (row.values() for row in per_class))

    def answer(index: int) -> list[str]:
        return [dataset.ids[index], *(to_json(names[row[index]].tolist()) for row in (truth, predictions))]

    header = ["id", "truth", "prediction"]
    write_csv(directory / "predictions.csv", header, map(answer, range(len(dataset))))

    # Of wrong answers alone: below or above a threshold that is not 1/2 a right one may be farther from the truth.
    distance = np.where(truth != predictions, np.abs(truth - probabilities), -1)
    wrong = np.flatnonzero((truth != predictions).any(axis=1))
    wrong = wrong[np.argsort(-distance[wrong].max(axis=1), kind="stable")][:MAX_ERRORS]

    def error(index: int) -> Iterable[str]:
        worst = int(distance[index].argmax())
        texts = [texts[index] for texts in (dataset.texts, dataset.text_pairs) if texts is not None]
        cells = [*answer(index), names[worst], f"{probabilities[index, worst]:.6f}", *texts]
        return map(spreadsheet_cell, cells)

    header += ["worst_class", "probability", "text", *([] if dataset.text_pairs is None else ["text_pair"])]
    write_csv(directory / "errors.csv", header, map(error, wrong.tolist()))


def draw_pictures(directory: Path, class_names: Sequence[str], evaluation: Evaluation) -> None:
    """Draws `reliability.png` of one split, of all answers whether a text has a class."""
    draw(directory / "reliability.png", (), plot_reliability, *reliability(evaluation), "answers")
