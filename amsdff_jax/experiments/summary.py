"""The tables of an experiment, for people and for programs."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from amsdff_jax.evaluation.significance import Summary
from amsdff_jax.experiments.analysis import DatasetAnalysis, Row
from amsdff_jax.experiments.record import HEADINGS, TITLES
from amsdff_jax.reporting.table import Table, columns


def _percent(summary: Summary) -> str:
    spread = f" ± {100 * summary.standard_deviation:.2f}" if summary.standard_deviation is not None else ""
    return f"{100 * summary.mean:.2f}{spread}"


def _three_digits(summary: Summary) -> str:
    return f"{summary.mean:.3f}"


def _four_digits(summary: Summary) -> str:
    return f"{summary.mean:.4f}"


class Score(NamedTuple):
    """A column of a metric."""

    title: str
    metric: str
    write: Callable[[Summary], str]


KAPPA = Score("quadratic kappa", "quadratic_weighted_kappa", _four_digits)  # which only runs of ordered classes have
SCORES = (
    Score("accuracy %", "accuracy", _percent),
    Score("macro F1 %", "macro_f1", _percent),
    Score("weighted F1 %", "weighted_f1", _percent),
    KAPPA,
    Score("MAE", "mae", _three_digits),
    Score("RMSE", "rmse", _three_digits),
    Score("cross-entropy", "log_loss", _three_digits),
)
# Where texts may have several labels.
MULTI_LABEL_SCORES = (
    Score("micro F1 %", "micro_f1", _percent),
    Score("macro F1 %", "macro_f1", _percent),
    Score("average precision %", "average_precision", _percent),
    Score("all labels right %", "accuracy", _percent),
    Score("Hamming loss", "hamming_loss", _four_digits),
    Score("cross-entropy", "log_loss", _four_digits),
)
COMPARISON = ("behind, points", "95 % interval", "p (bootstrap)", "p (McNemar)")
COSTS = ("parameters", "training s", "texts/s", "runs")


def make_table(analysis: DatasetAnalysis, reference: str) -> Table:
    """The table of a dataset, the best first; the reference stands out."""
    rows = _best_first(analysis)
    scores = list(MULTI_LABEL_SCORES if analysis.headline == "micro_f1" else SCORES)
    if not any(KAPPA.metric in row.metrics for row in rows):
        scores = [score for score in scores if score is not KAPPA]
    cells = [_cells(row, scores) for row in rows]
    titles = columns("model", *(score.title for score in scores), *COMPARISON, *COSTS)
    return Table(titles, cells, f"{analysis.dataset}: {analysis.texts:,} texts", _place(reference, cells))


def list_failures(analysis: DatasetAnalysis) -> list[str]:
    """One line for each run that failed, in the order of the table."""
    return [f"{row.variant}: {error}" for row in _best_first(analysis) for error in row.errors]


def _best_first(analysis: DatasetAnalysis) -> list[Row]:
    return sorted(analysis.rows, key=lambda row: -row.metrics[analysis.headline].mean if row.metrics else 1)


def make_summary(analyses: Sequence[DatasetAnalysis], reference: str) -> Table:
    """What every variant reaches on every dataset: a row for each variant; the reference stands out."""
    by_variant: dict[str, dict[str, str]] = {}
    # The fullest first, so that variants which a dataset lacks keep their place among the others.
    for analysis in sorted(analyses, key=lambda analysis: len(analysis.rows), reverse=True):
        for row in analysis.rows:
            value = _percent(row.metrics[analysis.headline]) if row.metrics else "failed"
            by_variant.setdefault(row.variant, {})[analysis.dataset] = value
    datasets = [analysis.dataset for analysis in analyses]
    rows = [(variant, *(found.get(name, "") for name in datasets)) for variant, found in by_variant.items()]
    compared_by = sorted({analysis.headline for analysis in analyses})
    first = " or ".join(TITLES[metric] for metric in compared_by)
    title = ", ".join(HEADINGS[metric] for metric in compared_by)
    return Table(columns(f"{first} %", *datasets), rows, title, _place(reference, rows))


def _place(name: str, rows: Sequence[Sequence[str]]) -> int:
    return next((place for place, row in enumerate(rows) if row[0] == name), -1)


def _cells(row: Row, scores: Sequence[Score]) -> list[str]:
    if not row.metrics:
        return [row.variant, "failed", *[""] * (len(scores) + len(COMPARISON) + len(COSTS) - 2), "0"]
    values = (score.write(row.metrics[score.metric]) if score.metric in row.metrics else "" for score in scores)
    comparison = ("",) * len(COMPARISON)
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
    return [row.variant, *values, *comparison, parameters, *speeds, str(row.runs)]


def p_value_text(value: float) -> str:
    """Three digits, or that it is smaller."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def to_csv_rows(analyses: Sequence[DatasetAnalysis]) -> list[list[object]]:
    """A header and a row of plain numbers for every dataset and variant."""
    names = sorted({name for analysis in analyses for row in analysis.rows for name in row.metrics})
    metrics = [f"{name}{kind}" for name in names for kind in ("", "_std")]
    measured = ["parameters", "train_seconds", "texts_per_second"]
    comparison = ["difference", "difference_low", "difference_high", "p_bootstrap", "p_mcnemar"]
    header: list[object] = ["dataset", "model", "runs", *metrics, *measured, "compared_by", *comparison]
    return [header, *(_csv_row(row, names, analysis.headline) for analysis in analyses for row in analysis.rows)]


def _blank_if_none(value: float | None) -> float | str:
    return "" if value is None else value


def _csv_row(row: Row, names: Sequence[str], headline: str) -> list[object]:
    cells: list[object] = [row.dataset, row.variant, row.runs]
    for name in names:
        summary = row.metrics.get(name)
        cells += ["", ""] if summary is None else [summary.mean, _blank_if_none(summary.standard_deviation)]
    cells += [row.parameters, row.train_seconds, row.texts_per_second, headline]
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
