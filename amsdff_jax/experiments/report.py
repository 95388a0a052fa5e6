"""Writes what an experiment has found: numbers for programs, tables and pictures for people."""

import base64
import csv
import logging
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from amsdff_jax.base.escaping import escape_html, escape_markdown
from amsdff_jax.base.files import user_errors, write_json, write_text
from amsdff_jax.evaluation.drawing import draw
from amsdff_jax.experiments.analysis import DatasetAnalysis, analyze, to_json
from amsdff_jax.experiments.charts import plot_accuracies, plot_curves, plot_significance
from amsdff_jax.experiments.settings import ExperimentConfig
from amsdff_jax.experiments.tables import HEADER, NOTE, Table, make_summary, make_table, to_csv_rows, to_markdown

logger = logging.getLogger(__name__)

Rows = Sequence[tuple[str, ...]]

PICTURES = {"accuracy": "Test accuracy", "curves": "Learning curves", "significance": "Significance"}

STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2, p { overflow-wrap: anywhere; }
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
    with user_errors(output, "written"):
        write_json(output / "results.json", to_json(analyses))
        with (output / "results.csv").open("w", newline="", encoding="utf-8", errors="backslashreplace") as stream:
            csv.writer(stream).writerows(to_csv_rows(analyses))
        summary = make_summary(analyses)
        tables = {analysis.dataset: make_table(analysis) for analysis in analyses}
        frozen = ", and those of models on the encoder leave the encoder out" if config.mode == "frozen" else ""
        note = NOTE.format(reference=config.reference, frozen=frozen)
        write_text(output / "README.md", _markdown(output.name, summary, tables, note))
        _draw(config, analyses, output)
        write_text(output / "index.html", _page(config, output, summary, tables, note))
    logger.info("report: %s and index.html", output / "README.md")
    return sum(len(row.errors) for analysis in analyses for row in analysis.rows)


def _draw(config: ExperimentConfig, analyses: Sequence[DatasetAnalysis], output: Path) -> None:
    for analysis in analyses:
        if any(row.metrics for row in analysis.rows):
            names = (analysis.dataset, *(row.variant for row in analysis.rows))
            start = f"{analysis.dataset}_"
            draw(output / f"{start}accuracy.png", names, plot_accuracies, analysis, config.reference)
            draw(output / f"{start}curves.png", names, plot_curves, analysis, config.reference)
            draw(output / f"{start}significance.png", names, plot_significance, analysis)


def _markdown(name: str, summary: Rows, tables: dict[str, Table], note: str) -> str:
    parts = [f"# {escape_markdown(name)}", to_markdown(summary[0], summary[1:]), note]
    for dataset, table in tables.items():
        failures = "\n".join(f"- failed: {escape_markdown(failure)}" for failure in table.failures)
        pictures = "\n".join(f"![{title}]({quote(dataset)}_{picture}.png)" for picture, title in PICTURES.items())
        parts += [f"## {escape_markdown(table.title)}", to_markdown(HEADER, table.rows), failures, pictures]
    return "\n\n".join(filter(None, parts)) + "\n"


def _page(config: ExperimentConfig, output: Path, summary: Rows, tables: dict[str, Table], note: str) -> str:
    parts = [f"<h1>{escape_html(output.name)}</h1>", _html_table(summary[0], summary[1:], config.reference)]
    parts.append(f"<p>{escape_html(note)}</p>")
    for dataset, table in tables.items():
        parts += [f"<h2>{escape_html(table.title)}</h2>", _html_table(HEADER, table.rows, config.reference)]
        parts += [f"<p>failed: {escape_html(failure)}</p>" for failure in table.failures]
        for picture, title in PICTURES.items():
            file = output / f"{dataset}_{picture}.png"
            if file.exists():
                data = base64.b64encode(file.read_bytes()).decode("ascii")
                parts.append(f'<img alt="{title}, {escape_html(dataset)}" src="data:image/png;base64,{data}">')
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
        f'img-src data:">\n<title>{escape_html(output.name)}</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _html_table(header: Sequence[str], rows: Rows, reference: str) -> str:
    titles = "".join(f"<th>{escape_html(name)}</th>" for name in header)
    lines = "".join(
        ('<tr class="reference">' if cells[0] == reference else "<tr>")
        + "".join(f"<td>{escape_html(cell)}</td>" for cell in cells)
        + "</tr>\n"
        for cells in rows
    )
    return f"<table>\n<tr>{titles}</tr>\n{lines}</table>"
