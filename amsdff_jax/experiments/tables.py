"""The tables of an experiment: rows of strings, and these as Markdown."""

from collections.abc import Sequence
from typing import NamedTuple

from amsdff_jax.base.escaping import escape_markdown
from amsdff_jax.evaluation.significance import Summary
from amsdff_jax.experiments.analysis import DatasetAnalysis, Row

HEADER = (
    "model", "accuracy %", "macro F1 %", "weighted F1 %", "MAE", "RMSE", "behind, points", "95 % interval",
    "p (bootstrap)", "p (McNemar)", "parameters", "training s", "texts/s", "runs",
)  # fmt: skip
NOTE = (
    'Means over the runs with their standard deviation. "Behind" is the accuracy of {reference} minus that of the '
    "row, over the same texts and seeds, with its bootstrap interval over the texts, for the seeds at hand and not "
    "corrected; the p values are two-sided and corrected after Holm over the rows of a dataset. MAE and RMSE are taken "
    "over class numbers, as in the published table, and mean little where classes have no order. Parameters are those "
    "that are trained; seconds and texts per second are medians, measured on a machine that did other work too{frozen}."
)


class Table(NamedTuple):
    """One dataset's table.

    Attributes:
      title: such as "r8: 2,189 texts".
      rows: strings under `HEADER`.
      failures: one line for each run that failed.
    """

    title: str
    rows: list[tuple[str, ...]]
    failures: list[str]


def make_table(analysis: DatasetAnalysis) -> Table:
    """The table of a dataset, the best accuracy first."""
    rows = sorted(analysis.rows, key=lambda row: -row.metrics["accuracy"].mean if row.metrics else 1)
    failures = [f"{row.variant}: {error}" for row in rows for error in row.errors]
    return Table(f"{analysis.dataset}: {analysis.texts:,} texts", [_cells(row) for row in rows], failures)


def _cells(row: Row) -> tuple[str, ...]:
    if not row.metrics:
        return (row.variant, "failed", *[""] * (len(HEADER) - 3), "0")
    percent = (_percent(row.metrics[name]) for name in ("accuracy", "macro_f1", "weighted_f1"))
    errors = (f"{row.metrics[name].mean:.3f}" for name in ("mae", "rmse"))
    comparison = ("", "", "", "")
    if row.comparison:
        low, high = row.comparison.bootstrap.low, row.comparison.bootstrap.high
        comparison = (
            f"{100 * row.comparison.bootstrap.difference:+.2f}", f"{100 * low:+.2f} to {100 * high:+.2f}",
            p_value_text(row.comparison.bootstrap_p), p_value_text(row.comparison.mcnemar_p),
        )  # fmt: skip
    parameters = f"{row.parameters / 1e6:.2f} M" if row.parameters >= 1e5 else f"{row.parameters / 1e3:.1f} k"
    speeds = (f"{row.train_seconds:.0f}", f"{row.texts_per_second:.0f}")
    return (row.variant, *percent, *errors, *comparison, parameters, *speeds, str(row.runs))


def _percent(summary: Summary) -> str:
    spread = f" ± {100 * summary.standard_deviation:.2f}" if summary.standard_deviation is not None else ""
    return f"{100 * summary.mean:.2f}{spread}"


def p_value_text(value: float) -> str:
    """Three digits, or that it is smaller."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def make_summary(analyses: Sequence[DatasetAnalysis]) -> list[tuple[str, ...]]:
    """The accuracy of every variant on every dataset: a header and a row for each variant, as strings."""
    by_variant: dict[str, dict[str, str]] = {}
    # The fullest first, so that variants which a dataset lacks keep their place among the others.
    for analysis in sorted(analyses, key=lambda analysis: len(analysis.rows), reverse=True):
        for row in analysis.rows:
            accuracy = _percent(row.metrics["accuracy"]) if row.metrics else "failed"
            by_variant.setdefault(row.variant, {})[analysis.dataset] = accuracy
    datasets = [analysis.dataset for analysis in analyses]
    rows = [(variant, *(found.get(name, "") for name in datasets)) for variant, found in by_variant.items()]
    return [("accuracy %", *datasets), *rows]


def to_markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as GitHub shows it, with names in the header and in the first column."""
    named = ((escape_markdown(name), *numbers) for name, *numbers in rows)
    lines = [map(escape_markdown, header), ["---"] + ["---:"] * (len(header) - 1), *named]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def to_csv_rows(analyses: Sequence[DatasetAnalysis]) -> list[list[object]]:
    """A header and a row of plain numbers for every dataset and variant."""
    names = sorted({name for analysis in analyses for row in analysis.rows for name in row.metrics})
    header = ["dataset", "model", "runs", *(f"{name}{kind}" for name in names for kind in ("", "_std")),
              "parameters", "train_seconds", "texts_per_second", "difference", "difference_low", "difference_high",
              "p_bootstrap", "p_mcnemar"]  # fmt: skip
    rows: list[list[object]] = [header]
    for analysis in analyses:
        for row in analysis.rows:
            metrics = [value for name in names for value in (
                _numbers(row.metrics[name]) if row.metrics else ("", "")
            )]  # fmt: skip
            comparison: list[object] = [""] * 5
            if row.comparison:
                bootstrap = row.comparison.bootstrap
                comparison = [bootstrap.difference, bootstrap.low, bootstrap.high, row.comparison.bootstrap_p,
                              row.comparison.mcnemar_p]  # fmt: skip
            rows.append([analysis.dataset, row.variant, row.runs, *metrics, row.parameters, row.train_seconds,
                         row.texts_per_second, *comparison])  # fmt: skip
    return rows


def _numbers(summary: Summary) -> tuple[object, object]:
    """Mean and standard deviation, empty where there is one run only."""
    return summary.mean, "" if summary.standard_deviation is None else summary.standard_deviation
