"""Means, differences and p values are those of the records, by hand."""

import dataclasses

import numpy as np
import pytest

from amsdff_jax.evaluation.significance import mcnemar, paired_bootstrap
from amsdff_jax.experiments.analysis import analyze
from amsdff_jax.experiments.record import METRICS, MULTI_LABEL_METRICS, RunRecord
from amsdff_jax.experiments.settings import RunKey
from amsdff_jax.experiments.summary import list_failures, make_summary, make_table, to_csv_rows
from amsdff_jax.reporting.table import to_markdown


def write(output, variant: str, seed: int, correct: str, fold: int = -1) -> None:
    hits = np.array(list(correct)) == "1"
    metrics = dict.fromkeys(METRICS, float(hits.mean()))
    record = RunRecord("tiny", variant, seed, fold, "", correct=correct, metrics=metrics, parameters=5, train_seconds=3)
    record.write(RunKey("tiny", variant, seed, fold).file(output))


def bits(seed: int, share: float, number: int = 60) -> str:
    return "".join(np.where(np.random.default_rng(seed).random(number) < share, "1", "0"))


def test_rows_hold_the_means_and_the_comparison_with_the_reference(make_experiment, tmp_path):
    ours, theirs = [bits(seed, 0.9) for seed in (0, 1)], [bits(seed, 0.6) for seed in (5, 6)]
    for seed in (0, 1):
        write(tmp_path, "linear", seed, ours[seed])
        write(tmp_path, "tfidf", seed, theirs[seed])
    (analysis,) = analyze(make_experiment(("linear", "tfidf")), tmp_path)
    linear, tfidf = analysis.rows
    means = [text.count("1") / 60 for text in ours]
    assert linear.metrics["accuracy"].mean == pytest.approx(np.mean(means))
    assert linear.metrics["accuracy"].standard_deviation == pytest.approx(np.std(means, ddof=1))
    assert linear.comparison is None
    one, other = (np.array([list(text) for text in side]) == "1" for side in (ours, theirs))
    assert tfidf.comparison.bootstrap == paired_bootstrap(one, other, seed=0)
    assert tfidf.comparison.bootstrap.difference == pytest.approx(one.mean() - other.mean())
    assert tfidf.comparison.mcnemar_p == mcnemar(one, other).p_value == analysis.p_values[0, 1]
    assert np.isnan(analysis.p_values[0, 0]) and analysis.texts == 60


def test_p_values_are_corrected_over_the_variants(make_experiment, tmp_path):
    for variant, share in (("linear", 0.9), ("tfidf", 0.72), ("amsdff", 0.7)):
        write(tmp_path, variant, 0, bits(len(variant), share))
    (analysis,) = analyze(make_experiment(("amsdff", "linear", "tfidf")), tmp_path)
    both = {row.variant: row.comparison for row in analysis.rows if row.comparison}
    raw = {}
    for variant, share in (("tfidf", 0.72), ("amsdff", 0.7)):
        one, other = (
            np.array(list(bits(len(name), value))) == "1" for name, value in (("linear", 0.9), (variant, share))
        )
        raw[variant] = mcnemar(one, other).p_value
    smaller = min(raw, key=raw.get)
    assert both[smaller].mcnemar_p == pytest.approx(2 * raw[smaller])
    assert all(both[name].mcnemar_p >= raw[name] for name in raw)


def test_only_runs_of_the_same_seed_and_fold_are_compared(make_experiment, tmp_path):
    write(tmp_path, "linear", 0, bits(0, 0.9))
    write(tmp_path, "tfidf", 1, bits(1, 0.5))
    (analysis,) = analyze(make_experiment(("linear", "tfidf")), tmp_path)
    assert analysis.rows[1].comparison is None
    assert np.isnan(analysis.p_values).all()


def test_records_of_seeds_that_are_not_asked_for_do_not_count(make_experiment, tmp_path):
    for seed, share in ((0, 0.9), (1, 0.1)):
        write(tmp_path, "linear", seed, bits(seed, share))
    (analysis,) = analyze(make_experiment(("linear",), seeds=1), tmp_path)
    assert analysis.rows[0].runs == 1 and analysis.rows[0].metrics["accuracy"].mean > 0.8


def test_folds_are_laid_end_to_end(make_experiment, tmp_path):
    texts = {("linear", 0): bits(0, 0.9, 31), ("linear", 1): bits(1, 0.9, 29), ("tfidf", 0): bits(2, 0.5, 31),
             ("tfidf", 1): bits(3, 0.5, 29)}  # fmt: skip
    for (variant, fold), correct in texts.items():
        write(tmp_path, variant, fold, correct, fold)
    (analysis,) = analyze(make_experiment(("linear", "tfidf"), folds=2), tmp_path)
    assert analysis.texts == 31 + 29
    hits = [np.array(list(texts[name, 0] + texts[name, 1])) == "1" for name in ("linear", "tfidf")]
    assert analysis.rows[1].comparison.bootstrap.difference == pytest.approx(hits[0].mean() - hits[1].mean())


def test_the_table_has_the_best_first_and_the_failures_below(make_experiment, tmp_path):
    write(tmp_path, "linear", 0, "1" * 30 + "0" * 30)
    write(tmp_path, "tfidf", 0, "1" * 57 + "0" * 3)
    RunRecord("tiny", "amsdff", 0, -1, "", error="no room").write(RunKey("tiny", "amsdff", 0).file(tmp_path))
    (analysis,) = analyze(make_experiment(("amsdff", "linear", "tfidf")), tmp_path)
    table = make_table(analysis, "linear")
    assert [row[0] for row in table.rows] == ["tfidf", "linear", "amsdff"]
    assert "95.00" in table.rows[0] and "-45.00" in table.rows[0] and "50.00" in table.rows[1]
    assert list_failures(analysis) == ["amsdff: seed 0: no room"]


def test_models_of_label_sets_are_compared_by_micro_f1(make_experiment, tmp_path):
    counts = {"linear": "1,0,1 1,0,0 1,0,0 1,1,0", "tfidf": "2,0,0 0,0,1 0,1,1 1,1,0"}
    for variant, confusion in counts.items():
        right, wrong, missed = np.array([text.split(",") for text in confusion.split()], int).sum(axis=0)
        f1 = 2 * right / (2 * right + wrong + missed)
        metrics = dict.fromkeys(MULTI_LABEL_METRICS, 0.25) | {"micro_f1": f1}
        key = RunKey("tiny", variant, 0)
        correct = {"linear": "0110", "tfidf": "1000"}[variant]
        record = RunRecord("tiny", variant, 0, -1, "", correct=correct, confusion=confusion, metrics=metrics)
        record.write(key.file(tmp_path))
    (analysis,) = analyze(make_experiment(("linear", "tfidf"), seeds=1), tmp_path)
    linear, tfidf = analysis.rows
    assert analysis.headline == "micro_f1"
    difference = linear.metrics["micro_f1"].mean - tfidf.metrics["micro_f1"].mean
    assert tfidf.comparison.bootstrap.difference == pytest.approx(difference) == pytest.approx(8 / 10 - 6 / 10)
    hits = np.array([[0, 1, 1, 0], [1, 0, 0, 0]], bool)
    assert tfidf.comparison.mcnemar_p == mcnemar(*hits).p_value
    table = make_table(analysis, "linear")
    assert [column.title for column in table.columns][:3] == ["model", "micro F1 %", "macro F1 %"]
    assert [row[:3] for row in table.rows] == [["linear", "80.00", "25.00"], ["tfidf", "60.00", "25.00"]]
    assert all(len(row) == len(table.columns) for row in table.rows)
    assert make_summary([analysis], "linear").columns[0].title == "micro F1 %"


def test_runs_that_agree_have_a_deviation_of_0_and_a_single_run_has_none(make_experiment, tmp_path):
    for variant, seed in (("linear", 0), ("linear", 1), ("tfidf", 0)):
        write(tmp_path, variant, seed, "1" * 40 + "0" * 20)
    header, linear, tfidf = to_csv_rows(analyze(make_experiment(("linear", "tfidf")), tmp_path))
    place = header.index("accuracy_std")
    assert (linear[place], tfidf[place]) == (0.0, "")


def test_the_summary_has_a_row_for_each_model_and_a_column_for_each_dataset(make_experiment, tmp_path):
    write(tmp_path, "linear", 0, "1" * 30 + "0" * 30)
    write(tmp_path, "linear", 1, "1" * 33 + "0" * 27)
    write(tmp_path, "tfidf", 0, "1" * 57 + "0" * 3)
    (tiny,) = analyze(make_experiment(("linear", "tfidf")), tmp_path)
    other = dataclasses.replace(tiny, dataset="other", rows=tiny.rows[1:])
    summary = make_summary([tiny, other], "tfidf")
    assert [column.title for column in summary.columns] == ["accuracy %", "tiny", "other"] and summary.chosen == 1
    assert summary.rows == [("linear", "52.50 ± 3.54", ""), ("tfidf", "95.00", "95.00")]
    assert make_summary([other, tiny], "linear").rows == [("linear", "", "52.50 ± 3.54"), ("tfidf", "95.00", "95.00")]
    assert to_markdown(summary).splitlines()[1:3] == ["| --- | ---: | ---: |", "| linear | 52.50 ± 3.54 |  |"]
