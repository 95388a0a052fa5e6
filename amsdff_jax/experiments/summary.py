"""The tables of an experiment, for people and for programs."""

from collections.abc import Sequence

from amsdff_jax.evaluation.significance import Summary
from amsdff_jax.experiments.analysis import DatasetAnalysis, Row
from amsdff_jax.reporting.table import Column, Table, columns

COLUMNS = columns(
    "model",
    "accuracy %",
    "macro F1 %",
    "weighted F1 %",
    "MAE",
    "RMSE",
    "cross-entropy",
    "behind, points",
    "95 % interval",
    "p (bootstrap)",
    "p (McNemar)",
    "parameters",
    "training s",
    "texts/s",
    "runs",
)

KAPPA = "quadratic_weighted_kappa"  # which only runs of ordered classes have
FIRST_ERROR = [column.title for column in COLUMNS].index("MAE")


def make_table(analysis: DatasetAnalysis, reference: str) -> Table:
    """The table of a dataset, the best accuracy first; the reference stands out."""
    rows = _best_first(analysis)
    cells, titles = list(map(_cells, rows)), list(COLUMNS)
    if any(KAPPA in row.metrics for row in rows):  # in front of the errors
        titles.insert(FIRST_ERROR, Column("quadratic kappa"))
        for row, found in zip(rows, cells, strict=True):
            found.insert(FIRST_ERROR, f"{row.metrics[KAPPA].mean:.4f}" if KAPPA in row.metrics else "")
    return Table(titles, cells, f"{analysis.dataset}: {analysis.texts:,} texts", _place(reference, cells))


def list_failures(analysis: DatasetAnalysis) -> list[str]:
    """One line for each run that failed, in the order of the table."""
    return [f"{row.variant}: {error}" for row in _best_first(analysis) for error in row.errors]


def _best_first(analysis: DatasetAnalysis) -> list[Row]:
    return sorted(analysis.rows, key=lambda row: -row.metrics["accuracy"].mean if row.metrics else 1)


def make_summary(analyses: Sequence[DatasetAnalysis], reference: str) -> Table:
    """The accuracy of every variant on every dataset: a row for each variant; the reference stands out."""
    by_variant: dict[str, dict[str, str]] = {}
    # The fullest first, so that variants which a dataset lacks keep their place among the others.
    for analysis in sorted(analyses, key=lambda analysis: len(analysis.rows), reverse=True):
        for row in analysis.rows:
            accuracy = _percent(row.metrics["accuracy"]) if row.metrics else "failed"
            by_variant.setdefault(row.variant, {})[analysis.dataset] = accuracy
    datasets = [analysis.dataset for analysis in analyses]
    rows = [(variant, *(found.get(name, "") for name in datasets)) for variant, found in by_variant.items()]
    return Table(columns("accuracy %", *datasets), rows, "Accuracy", _place(reference, rows))


def _place(name: str, rows: Sequence[Sequence[str]]) -> int:
    return next((place for place, row in enumerate(rows) if row[0] == name), -1)


def _cells(row: Row) -> list[str]:
    if not row.metrics:
        return [row.variant, "failed", *[""] * (len(COLUMNS) - 3), "0"]
    percent = (_percent(row.metrics[name]) for name in ("accuracy", "macro_f1", "weighted_f1"))
    errors = (f"{row.metrics[name].mean:.3f}" for name in ("mae", "rmse", "log_loss"))
    comparison = ("", "", "", "")
    if row.comparison:
        bootstrap = row.comparison.bootstrap
        comparison = (
            f"{100 * bootstrap.difference:+.2f}",
            f"{100 * bootstrap.low:+.2f} to {100 * bootstrap.high:+.2f}",
            p_value_text(row.comparison.bootstrap_p),
            p_value_text(row.comparison.mcnemar_p),
        )
    parameters = f"{row.parameters / 1e6:.2f} M" if row.parameters >= 1e5 else f"{row.parameters / 1e3:.1f} k"
    speeds = (f"{row.train_seconds:.0f}", f"{row.texts_per_second:.0f}")
    return [row.variant, *percent, *errors, *comparison, parameters, *speeds, str(row.runs)]


def _percent(summary: Summary) -> str:
    spread = f" ± {100 * summary.standard_deviation:.2f}" if summary.standard_deviation is not None else ""
    return f"{100 * summary.mean:.2f}{spread}"


def p_value_text(value: float) -> str:
    """Three digits, or that it is smaller."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def to_csv_rows(analyses: Sequence[DatasetAnalysis]) -> list[list[object]]:
    """A header and a row of plain numbers for every dataset and variant."""
    names = sorted({name for analysis in analyses for row in analysis.rows for name in row.metrics})
    metrics = [f"{name}{kind}" for name in names for kind in ("", "_std")]
    measured = ["parameters", "train_seconds", "texts_per_second"]
    comparison = ["difference", "difference_low", "difference_high", "p_bootstrap", "p_mcnemar"]
    header: list[object] = ["dataset", "model", "runs", *metrics, *measured, *comparison]
    return [header, *(_csv_row(row, names) for analysis in analyses for row in analysis.rows)]


def _blank_if_none(value: float | None) -> float | str:
    return "" if value is None else value


def _csv_row(row: Row, names: Sequence[str]) -> list[object]:
    cells: list[object] = [row.dataset, row.variant, row.runs]
    for name in names:
        summary = row.metrics.get(name)
        cells += ["", ""] if summary is None else [summary.mean, _blank_if_none(summary.standard_deviation)]
    cells += [row.parameters, row.train_seconds, row.texts_per_second]
    if not row.comparison:
        return cells + [""] * 5
    bootstrap, comparison = row.comparison.bootstrap, row.comparison
    return [
        *cells,
        bootstrap.difference,
        bootstrap.low,
        bootstrap.high,
        comparison.bootstrap_p,
        comparison.mcnemar_p,
    ]
