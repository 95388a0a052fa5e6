"""Writes what an experiment has found: numbers for programs, tables and pictures for people."""

import base64
import csv
import html
import logging
from collections.abc import Sequence
from pathlib import Path

from amsdff_jax.errors import UserError
from amsdff_jax.experiments.analysis import DatasetAnalysis, analyze, to_json
from amsdff_jax.experiments.charts import plot_accuracies, plot_curves, plot_significance
from amsdff_jax.experiments.settings import ExperimentConfig
from amsdff_jax.experiments.tables import HEADER, NOTE, Table, make_summary, make_table, to_csv_rows, to_markdown
from amsdff_jax.json_file import write_json

logger = logging.getLogger(__name__)

Rows = Sequence[tuple[str, ...]]

PICTURES = {"accuracy": "Test accuracy", "curves": "Learning curves", "significance": "Significance"}

STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; font-size: 13px; display: block; overflow-x: auto; }
th, td { padding: .25rem .4rem; border-bottom: 1px solid #8886; text-align: right; white-space: nowrap; }
th { white-space: normal; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; }
tr.reference { font-weight: 600; }
img { max-width: 100%; background: white; border-radius: 4px; margin: .5rem .5rem 0 0; vertical-align: top; }
"""


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
    try:
        _draw(config, analyses, output)
        write_json(output / "results.json", to_json(analyses))
        with (output / "results.csv").open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows(to_csv_rows(analyses))
        summary = make_summary(analyses)
        tables = {analysis.dataset: make_table(analysis) for analysis in analyses}
        frozen = ", and those of models on the encoder leave the encoder out" if config.mode == "frozen" else ""
        note = NOTE.format(reference=config.reference, frozen=frozen)
        (output / "README.md").write_text(_markdown(output.name, summary, tables, note), encoding="utf-8")
        (output / "index.html").write_text(_page(config, output, summary, tables, note), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{output}: cannot be written ({error.strerror})") from None
    logger.info("report: %s and index.html", output / "README.md")
    return sum(len(row.errors) for analysis in analyses for row in analysis.rows)


def _draw(config: ExperimentConfig, analyses: Sequence[DatasetAnalysis], output: Path) -> None:
    for analysis in analyses:
        if any(row.metrics for row in analysis.rows):
            plot_accuracies(analysis, config.reference, output / f"{analysis.dataset}_accuracy.png")
            plot_curves(analysis, config.reference, output / f"{analysis.dataset}_curves.png")
            plot_significance(analysis, output / f"{analysis.dataset}_significance.png")


def _markdown(name: str, summary: Rows, tables: dict[str, Table], note: str) -> str:
    parts = [f"# {name}", to_markdown(summary[0], summary[1:]), note]
    for dataset, table in tables.items():
        failures = "\n".join(f"- failed: {failure}" for failure in table.failures)
        pictures = "\n".join(f"![{title}]({dataset}_{picture}.png)" for picture, title in PICTURES.items())
        parts += [f"## {table.title}", to_markdown(HEADER, table.rows), failures, pictures]
    return "\n\n".join(filter(None, parts)) + "\n"


def _page(config: ExperimentConfig, output: Path, summary: Rows, tables: dict[str, Table], note: str) -> str:
    parts = [f"<h1>{html.escape(output.name)}</h1>", _html_table(summary[0], summary[1:], config.reference)]
    parts.append(f"<p>{html.escape(note)}</p>")
    for dataset, table in tables.items():
        parts += [f"<h2>{html.escape(table.title)}</h2>", _html_table(HEADER, table.rows, config.reference)]
        parts += [f"<p>failed: {html.escape(failure)}</p>" for failure in table.failures]
        for picture, title in PICTURES.items():
            file = output / f"{dataset}_{picture}.png"
            if file.exists():
                data = base64.b64encode(file.read_bytes()).decode("ascii")
                parts.append(f'<img alt="{title}, {html.escape(dataset)}" src="data:image/png;base64,{data}">')
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width">\n<title>{html.escape(output.name)}</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _html_table(header: Sequence[str], rows: Rows, reference: str) -> str:
    titles = "".join(f"<th>{html.escape(name)}</th>" for name in header)
    lines = "".join(
        ('<tr class="reference">' if cells[0] == reference else "<tr>")
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
        + "</tr>\n"
        for cells in rows
    )
    return f"<table>\n<tr>{titles}</tr>\n{lines}</table>"
