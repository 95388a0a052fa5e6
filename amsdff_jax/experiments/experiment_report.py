"""Writes what an experiment has found: numbers for programs, tables and pictures for people."""

import base64
import csv
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from amsdff_jax.base.files import atomic_write, user_errors, write_json, write_text
from amsdff_jax.evaluation.drawing import draw
from amsdff_jax.experiments.analysis import DatasetAnalysis, analyze, to_json
from amsdff_jax.experiments.charts import plot_accuracies, plot_curves, plot_significance
from amsdff_jax.experiments.record import HEADINGS
from amsdff_jax.experiments.settings import ExperimentConfig
from amsdff_jax.experiments.summary import list_failures, make_summary, make_table, to_csv_rows
from amsdff_jax.reporting.render import render

logger = logging.getLogger(__name__)

PICTURES = {"curves": "Learning curves", "significance": "Significance"}  # beside that of the `headline`


def write_experiment_report(config: ExperimentConfig, output: Path) -> int:
    """Writes `results.json`, `results.csv`, `README.md`, `index.html`, pictures over the runs that `config` asks for.

    Args:
      output: the experiment's folder; it holds `runs/`.

    Returns:
      How many runs have failed.

    Raises:
      UserError: something cannot be read or written.
    """
    analyses = analyze(config, output)
    if not analyses:
        logger.info("%s: no report, for no run has come to its end yet", output)
        return 0
    with user_errors(output, "written"):
        write_json(output / "results.json", to_json(analyses))
        with (
            atomic_write(output / "results.csv") as temporary,
            temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as stream,
        ):
            csv.writer(stream).writerows(to_csv_rows(analyses))
        facts = {
            "name": output.name,
            "reference": config.reference,
            "frozen": config.mode == "frozen",
            "validation": config.reported_split == "validation",
            "headlines": {analysis.headline for analysis in analyses},
            "summary": make_summary(analyses, config.reference),
        }
        datasets = [_dataset_facts(config, analysis) for analysis in analyses]
        write_text(output / "README.md", render("experiment.md.j2", **facts, datasets=datasets))
        _draw(config, analyses, output)
        for dataset in datasets:
            dataset["pictures"] = [(title, _embedded(output / file)) for title, file in dataset["pictures"]]
        write_text(output / "index.html", render("experiment.html.j2", **facts, datasets=datasets))
    logger.info("report: %s and index.html", output / "README.md")
    return sum(len(row.errors) for analysis in analyses for row in analysis.rows)


def _dataset_facts(config: ExperimentConfig, analysis: DatasetAnalysis) -> dict[str, Any]:
    """The name, table, failures and pictures (title, file) of a dataset."""
    return {
        "name": analysis.dataset,
        "table": make_table(analysis, config.reference),
        "failures": list_failures(analysis),
        "pictures": [(title, f"{analysis.dataset}_{picture}.png") for picture, title in _pictures(analysis).items()],
    }


def _pictures(analysis: DatasetAnalysis) -> dict[str, str]:
    """The names of those that have something to show, with their titles; of a single evaluation there is no curve."""
    if not any(row.metrics for row in analysis.rows):
        return {}
    pictures = {analysis.headline: HEADINGS[analysis.headline], **PICTURES}
    has_curves = any(len(curve) > 1 for row in analysis.rows for curve in row.curves)
    return {name: title for name, title in pictures.items() if has_curves or name != "curves"}


def _embedded(file: Path) -> str:
    """A picture as a URL that holds it; "" where there is none."""
    return f"data:image/png;base64,{base64.b64encode(file.read_bytes()).decode('ascii')}" if file.exists() else ""


def _draw(config: ExperimentConfig, analyses: Sequence[DatasetAnalysis], output: Path) -> None:
    plots = {
        **dict.fromkeys(HEADINGS, (plot_accuracies, config.reference)),
        "curves": (plot_curves, config.reference),
        "significance": (plot_significance,),
    }
    for analysis in analyses:
        names = (analysis.dataset, *(row.variant for row in analysis.rows))
        for picture in _pictures(analysis):
            plot, *arguments = plots[picture]
            draw(output / f"{analysis.dataset}_{picture}.png", names, plot, analysis, *arguments)
