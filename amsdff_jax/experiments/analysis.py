"""From the records of an experiment to its numbers: means, intervals, differences and their significance."""

import dataclasses
import itertools
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from amsdff_jax.evaluation.significance import (
    Bootstrap,
    Summary,
    holm,
    mcnemar,
    paired_bootstrap,
    paired_bootstrap_micro_f1,
    summarize,
)
from amsdff_jax.experiments.record import RunRecord, headline
from amsdff_jax.experiments.settings import ExperimentConfig


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A variant against the reference, on the same texts and seeds."""

    bootstrap: Bootstrap  # the difference of the `headline`, reference minus variant, with its interval
    bootstrap_p: float  # two-sided, after Holm's correction over the variants of a dataset, as is the next
    mcnemar_p: float


@dataclasses.dataclass(frozen=True)
class Row:
    """All runs of a variant on a dataset."""

    dataset: str
    variant: str
    runs: int  # how many have come to their end
    errors: tuple[str, ...]  # one line for each that has not
    metrics: Mapping[str, Summary]  # by name, over the runs
    parameters: int  # trainable numbers
    train_seconds: float  # median over the runs
    texts_per_second: float  # the same
    # those that were chosen on the validation split, in the order of the runs; 0 without a choice
    learning_rates: tuple[float, ...]
    curves: tuple[Sequence[Mapping[str, float]], ...]  # of the runs, as in `RunRecord`
    comparison: Comparison | None = None  # with the reference; None for itself and where they have no run in common


@dataclasses.dataclass(frozen=True)
class DatasetAnalysis:
    """One dataset."""

    dataset: str
    texts: int  # how many are reported, in a run or in all folds
    rows: tuple[Row, ...]  # one for each variant that has a record, in the order of the config
    # [V,V] of McNemar's exact test between the rows, after Holm's correction over all pairs of the dataset; NaN where
    # there is none
    p_values: np.ndarray

    @property
    def headline(self) -> str:
        """The metric by which the rows are compared, which all have."""
        known = {headline(row.metrics) for row in self.rows if row.metrics}
        return known.pop() if len(known) == 1 else "accuracy"


def analyze(config: ExperimentConfig, output: Path) -> list[DatasetAnalysis]:
    """The numbers of all datasets that have a record in `output`.

    Raises:
      UserError: a record that cannot be read.
    """
    analyses = (
        _analyze_dataset(config, dataset, {name: _records(config, output, dataset, name) for name in config.variants})
        for dataset in config.datasets
    )
    return [analysis for analysis in analyses if analysis.rows]


def _records(config: ExperimentConfig, output: Path, dataset: str, variant: str) -> list[RunRecord]:
    """Those of the runs that `config` asks for; records of other seeds or folds may be of other settings."""
    records = (RunRecord.read(key.file(output)) for key in config.run_keys(dataset, variant))
    return [record for record in records if record is not None]


def _analyze_dataset(
    config: ExperimentConfig, dataset: str, records: Mapping[str, Sequence[RunRecord]]
) -> DatasetAnalysis:
    done = {name: [record for record in own if not record.error] for name, own in records.items()}
    comparisons = _compare(config.reference, done)
    rows = tuple(
        _row(dataset, name, records[name], done[name], comparisons.get(name)) for name in records if records[name]
    )
    # Of a run, or of all folds, whose texts are different ones.
    counts = ({record.fold: len(record.correct) for record in own}.values() for own in done.values())
    texts = max(map(sum, counts), default=0)
    return DatasetAnalysis(dataset, texts, rows, _p_values([done[row.variant] for row in rows]))


def _row(
    dataset: str, variant: str, records: Sequence[RunRecord], done: Sequence[RunRecord], comparison: Comparison | None
) -> Row:
    def median(field: str) -> float:
        return statistics.median(getattr(record, field) for record in done) if done else 0.0

    names = [name for name in (done[0].metrics if done else ()) if all(name in record.metrics for record in done)]
    return Row(
        dataset=dataset,
        variant=variant,
        runs=len(done),
        errors=tuple(f"seed {record.seed}: {record.error}" for record in records if record.error),
        metrics={name: summarize([record.metrics[name] for record in done]) for name in names},
        parameters=done[0].parameters if done else 0,
        train_seconds=median("train_seconds"),
        texts_per_second=median("texts_per_second"),
        learning_rates=tuple(record.learning_rate for record in done),
        curves=tuple(record.curve for record in done),
        comparison=comparison,
    )


def _compare(reference: str, done: Mapping[str, Sequence[RunRecord]]) -> dict[str, Comparison]:
    """Every variant against the reference, over the runs that both have."""
    bootstraps, exact = {}, {}
    for name, own in done.items():
        pairs = _pairs(done.get(reference, ()), own) if name != reference else []
        if not pairs:
            continue
        bootstraps[name] = _bootstrap(pairs)
        exact[name] = mcnemar(*_both(pairs, "hits")).p_value
    corrected = (holm([bootstraps[name].p_value for name in bootstraps]), holm(list(exact.values())))
    return {
        name: Comparison(bootstraps[name], float(bootstrap_p), float(mcnemar_p))
        for name, bootstrap_p, mcnemar_p in zip(bootstraps, *corrected, strict=True)
    }


def _p_values(runs: Sequence[Sequence[RunRecord]]) -> np.ndarray:
    p_values = np.full((len(runs), len(runs)), np.nan)
    found = {}
    for (one, ours), (other, theirs) in itertools.combinations(enumerate(runs), 2):
        pairs = _pairs(ours, theirs)
        if pairs:
            found[one, other] = mcnemar(*_both(pairs, "hits")).p_value
    for (one, other), p_value in zip(found, holm(list(found.values())), strict=True):
        p_values[one, other] = p_values[other, one] = p_value
    return p_values


def _pairs(ours: Sequence[RunRecord], theirs: Sequence[RunRecord]) -> list[tuple[RunRecord, RunRecord]]:
    """The runs of the same seed and fold, over the same number of texts."""
    by_place = {(record.fold, record.seed): record for record in theirs}
    pairs = ((record, by_place.get((record.fold, record.seed))) for record in ours)
    return [(one, other) for one, other in pairs if other is not None and len(one.correct) == len(other.correct)]


def _bootstrap(pairs: Sequence[tuple[RunRecord, RunRecord]]) -> Bootstrap:
    if all(record.confusion for pair in pairs for record in pair):
        return paired_bootstrap_micro_f1(*_both(pairs, "counts"), seed=0)
    return paired_bootstrap(*_both(pairs, "hits"), seed=0)


def _both(pairs: Sequence[tuple[RunRecord, RunRecord]], field: str) -> list[np.ndarray]:
    """Both sides' `field`: [seeds,N,...], for all seeds read the same texts, or [N,...] over the texts of all folds."""
    arrange = np.concatenate if pairs[0][0].fold >= 0 else np.stack
    return [arrange([getattr(pair[side], field) for pair in pairs]) for side in (0, 1)]


def to_json(analyses: Sequence[DatasetAnalysis]) -> list[dict[str, Any]]:
    """The analyses as nested dicts and lists."""
    return [
        {
            "dataset": analysis.dataset,
            "compared_by": analysis.headline,
            "texts": analysis.texts,
            "variants": [dataclasses.asdict(row) for row in analysis.rows],
            "p_values": [[None if np.isnan(value) else value for value in line] for line in analysis.p_values.tolist()],
        }
        for analysis in analyses
    ]
