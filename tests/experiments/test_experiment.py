"""Runs are made once each, a failing one stops no other, and the report says what is in the records."""

import csv
import dataclasses
import json
import re
from urllib.parse import unquote

import pytest

from amsdff_jax.base.errors import UserError
from amsdff_jax.experiments.experiment import run_experiment
from amsdff_jax.experiments.experiment_report import write_experiment_report
from amsdff_jax.experiments.record import RunRecord
from amsdff_jax.experiments.settings import ExperimentConfig, RunKey
from tests.conftest import write_json_lines


def key_of(name: str) -> RunKey:
    variant, seed = name.split("-seed")
    return RunKey("tiny", variant, int(seed))


def records(output) -> dict[str, RunRecord]:
    return {file.stem: RunRecord.read(file) for file in sorted((output / "runs" / "tiny").iterdir())}


def test_runs_are_made_once_and_failures_are_told(make_experiment, tmp_path):
    config = make_experiment(("linear", "reference", "tfidf"))
    assert run_experiment(config, tmp_path)
    first = records(tmp_path)
    assert set(first) == {f"{variant}-seed{seed}" for variant in config.variants for seed in (0, 1)}
    assert all(record.error.startswith("model.mask_padding") for name, record in first.items() if "reference" in name)
    assert all(len(record.correct) == 43 for name, record in first.items() if "reference" not in name)

    assert write_experiment_report(config, tmp_path) == 2
    table = (tmp_path / "README.md").read_text()
    assert "## tiny: 43 texts" in table and "| reference | failed |" in table
    assert "- failed: reference: seed 0: model.mask_padding" in table
    page = (tmp_path / "index.html").read_text()
    assert "<script" not in page and "http:" not in page and "https:" not in page and page.count("data:image/png") == 3
    with (tmp_path / "results.csv").open() as stream:
        rows = {row["model"]: row for row in csv.DictReader(stream)}
    hits = sum(first[f"linear-seed{seed}"].hits.mean() for seed in (0, 1)) / 2
    assert float(rows["linear"]["accuracy"]) == pytest.approx(hits)
    assert json.loads((tmp_path / "results.json").read_text())[0]["dataset"] == "tiny"

    times = {name: key_of(name).file(tmp_path).stat().st_mtime_ns for name in first}
    assert run_experiment(config, tmp_path)
    for name, time in times.items():  # what failed is made again, and nothing else
        again = key_of(name).file(tmp_path).stat().st_mtime_ns
        assert (again != time) == ("reference" in name), name


def test_other_settings_are_other_runs(make_experiment, tmp_path):
    run_experiment(make_experiment(("linear",)), tmp_path)
    before = records(tmp_path)["linear-seed0"]
    run_experiment(make_experiment(("linear",), epochs=1), tmp_path)
    second = records(tmp_path)["linear-seed0"]
    assert second.settings != before.settings
    assert len(second.curve) == 1
    assert RunRecord.read(tmp_path / "outdated" / "tiny" / "linear-seed0.json") == before
    run_experiment(make_experiment(("linear",), epochs=1, learning_rates=(1e-3,)), tmp_path)
    assert RunRecord.read(tmp_path / "outdated" / "tiny" / "linear-seed0.json") == before
    assert RunRecord.read(tmp_path / "outdated" / "tiny" / "linear-seed0.json1") == second


def test_a_rate_that_a_variant_has_no_use_for_fails_none(make_experiment, tiny_config, tmp_path):
    table = {"train__learning_rate_table": ((r"^classifier", 3e-3),), "train__epochs": 1, "train__batch_size": 8}
    config = make_experiment(("linear",), seeds=1, mode="finetuned")
    config = dataclasses.replace(config, datasets={"tiny": tiny_config.replace(**table)})
    run_experiment(config, tmp_path)
    assert not records(tmp_path)["linear-seed0"].error


def test_settings_can_be_chosen_without_a_look_at_the_test_split(make_experiment, tiny_config, tmp_path):
    config = make_experiment(("linear", "tfidf"), seeds=1, reported_split="validation")
    without_test = dataclasses.replace(config, datasets={"tiny": tiny_config.replace(data__test_file="")})
    accuracies = []
    for each in (config, without_test):
        output = tmp_path / str(len(accuracies))
        assert run_experiment(each, output)
        made = records(output)
        accuracies.append({name: record.metrics["accuracy"] for name, record in made.items()})
        best = max(point["accuracy"] for point in made["linear-seed0"].curve)
        assert made["linear-seed0"].metrics["accuracy"] <= best
        write_experiment_report(each, output)
        assert ", on the validation split, by which" in (output / "README.md").read_text()
    assert accuracies[0] == accuracies[1]
    with pytest.raises(UserError, match=r"^reported_split: expected test with folds"):
        make_experiment(folds=3, reported_split="validation")


def test_all_seeds_report_the_same_validation_texts(make_experiment, tiny_config):
    from amsdff_jax.experiments.experiment import _prepare

    config = make_experiment(("linear",), seeds=2, mode="finetuned", reported_split="validation")
    config = dataclasses.replace(config, datasets={"tiny": tiny_config.replace(data__validation_file="")})
    keys = config.run_keys("tiny", "linear")
    first, second = (_prepare(config, key) for key in keys)
    assert first[0].seed != second[0].seed
    assert first[1].test.texts == second[1].test.texts
    assert first[1].train.fingerprint == second[1].train.fingerprint


def test_another_task_is_another_run(make_experiment, tiny_config):
    from amsdff_jax.experiments.experiment import _prepare

    config = make_experiment(("tfidf",), seeds=1)
    single = dataclasses.replace(config, datasets={"tiny": tiny_config.replace(data__label_order="low,high")})
    ordinal = tiny_config.replace(task__kind="ordinal", data__label_order="low,high")
    digests = {
        _prepare(each, each.run_keys("tiny", "tfidf")[0])[2]
        for each in (single, dataclasses.replace(config, datasets={"tiny": ordinal}))
    }
    assert len(digests) == 2


def test_several_labels_a_text_are_compared_in_both_modes(make_experiment, tiny_config, tmp_path):
    files = {}
    for split in ("train", "validation", "test"):
        with open(getattr(tiny_config.data, f"{split}_file")) as stream:
            rows = [(row["text"], [row["label"], "any"]) for row in csv.DictReader(stream)]
        files[f"data__{split}_file"] = write_json_lines(tmp_path / f"{split}.jsonl", rows)
    settings = tiny_config.replace(train__epochs=2, train__batch_size=8, **files)
    accuracies = {}
    for mode in ("frozen", "finetuned"):
        config = make_experiment(("linear", "tfidf"), seeds=1, mode=mode)
        config = dataclasses.replace(config, datasets={"tiny": settings})
        assert run_experiment(config, tmp_path / mode)
        made = records(tmp_path / mode)
        for variant in ("linear", "tfidf"):
            record = made[f"{variant}-seed0"]
            right, wrong, missed = record.counts.sum(axis=0)
            assert record.metrics["micro_f1"] == pytest.approx(2 * right / (2 * right + wrong + missed))
            assert record.hits.mean() == pytest.approx(record.metrics["accuracy"]) and right + missed == 2 * 43
        assert len(made["linear-seed0"].curve) == 2
        assert write_experiment_report(config, tmp_path / mode) == 0
        report = (tmp_path / mode / "README.md").read_text()
        assert '"Behind" is the micro F1 of linear minus' in report and "MAE" not in report
        assert "![Micro F1](tiny_micro_f1.png)" in report and (tmp_path / mode / "tiny_micro_f1.png").exists()
        accuracies[mode] = made["tfidf-seed0"].metrics
    assert accuracies["frozen"] == accuracies["finetuned"]


def test_numbers_are_refused(make_experiment, tiny_config, tmp_path):
    rows = [(f"w{number % 7}", number / 2) for number in range(30)]
    file = write_json_lines(tmp_path / "numbers.jsonl", rows)
    files = {f"data__{split}_file": file for split in ("train", "validation", "test")}
    settings = tiny_config.replace(task__kind="regression", **files)
    config = dataclasses.replace(make_experiment(("tfidf",), seeds=1), datasets={"tiny": settings})
    run_experiment(config, tmp_path)
    assert "has a number a text; amsdff experiments takes classes" in records(tmp_path)["tfidf-seed0"].error


def test_records_of_other_settings_are_never_reported_beside_new_ones(make_experiment, tmp_path):
    run_experiment(make_experiment(("linear", "tfidf")), tmp_path)
    changed = make_experiment(("linear", "tfidf"), epochs=1)
    assert not run_experiment(changed, tmp_path, should_stop=lambda: True)
    assert set(records(tmp_path)) == {"tfidf-seed0", "tfidf-seed1"}  # which the number of epochs does not concern
    write_experiment_report(changed, tmp_path)
    assert "linear" not in (tmp_path / "results.csv").read_text()


def test_the_report_is_over_all_models_though_some_were_not_asked_for(make_experiment, tmp_path):
    config = make_experiment(("linear", "tfidf"), seeds=1)
    run_experiment(config, tmp_path, variants=["tfidf"])
    assert set(records(tmp_path)) == {"tfidf-seed0"}
    run_experiment(config, tmp_path, variants=["linear"])
    write_experiment_report(config, tmp_path)
    with (tmp_path / "results.csv").open() as stream:
        rows = {row["model"]: row for row in csv.DictReader(stream)}
    assert set(rows) == {"linear", "tfidf"} and rows["tfidf"]["p_mcnemar"]


def test_records_outlive_data_that_is_away_for_a_while(make_experiment, tmp_path, caplog):
    config = make_experiment(("tfidf",), seeds=1)
    run_experiment(config, tmp_path)
    before = records(tmp_path)
    (settings,) = config.datasets.values()
    config.datasets["tiny"] = settings.replace(data__train_file=str(tmp_path / "away.csv"))
    run_experiment(config, tmp_path)
    assert records(tmp_path) == before
    assert "tiny: its records stay, and cannot be told from those of other settings (" in caplog.text
    assert "away.csv" in caplog.text


def test_a_dataset_that_is_not_asked_for_is_left_alone(make_experiment, tmp_path):
    config = make_experiment(("tfidf",), seeds=1)
    config.datasets["other"] = config.datasets["tiny"]
    run_experiment(config, tmp_path)
    before = records(tmp_path)
    config.datasets["tiny"] = config.datasets["tiny"].replace(data__max_length=7)
    run_experiment(config, tmp_path, datasets=["other"])
    assert records(tmp_path) == before
    run_experiment(config, tmp_path, datasets=["tiny"])
    assert records(tmp_path) != before and (tmp_path / "outdated" / "tiny" / "tfidf-seed0.json").exists()


def test_a_damaged_record_is_made_again(make_experiment, tmp_path):
    config = make_experiment(("tfidf",))
    run_experiment(config, tmp_path)
    before = records(tmp_path)
    key_of("tfidf-seed1").file(tmp_path).write_text("{")
    assert run_experiment(config, tmp_path)
    after = records(tmp_path)
    assert after["tfidf-seed0"] == before["tfidf-seed0"] and after["tfidf-seed1"].correct


def test_what_a_failed_run_has_left_does_not_stand_in_the_way_of_other_settings(make_experiment, tmp_path):
    config = make_experiment(("linear",), mode="finetuned", seeds=1)
    (settings,) = config.datasets.values()
    fast = settings.replace(
        train__batch_size=16, train__head_learning_rate=1e37, train__encoder_learning_rate=1e37, train__warmup_ratio=0.0
    )
    config.datasets["tiny"] = fast
    run_experiment(config, tmp_path)
    assert "not finite" in records(tmp_path)["linear-seed0"].error
    config.datasets["tiny"] = fast.replace(train__head_learning_rate=1e-3, train__encoder_learning_rate=0.0)
    run_experiment(config, tmp_path)
    record = records(tmp_path)["linear-seed0"]
    assert not record.error
    assert record.parameters == 24 * 2 + 2  # the encoder is frozen
    assert not any((tmp_path / "unfinished").rglob("*.json"))


def test_an_interrupted_experiment_goes_on(make_experiment, tmp_path):
    config = make_experiment(("tfidf", "linear"))
    asked = []
    assert not run_experiment(config, tmp_path, should_stop=lambda: bool(asked.append(1)) or len(asked) > 4)
    assert set(records(tmp_path)) == {"tfidf-seed0", "tfidf-seed1"}
    assert run_experiment(config, tmp_path)
    assert len(records(tmp_path)) == 4


def test_a_finetuned_run_goes_on_where_it_was_stopped(make_experiment, tmp_path):
    config = make_experiment(("linear",), mode="finetuned", seeds=1)
    (settings,) = config.datasets.values()
    config.datasets["tiny"] = settings.replace(train__batch_size=16)  # for the eight devices of the tests
    asked = []
    assert not run_experiment(config, tmp_path, should_stop=lambda: bool(asked.append(1)) or len(asked) > 11)
    assert list((tmp_path / "unfinished").rglob("metrics.jsonl"))
    assert run_experiment(config, tmp_path)
    assert not list((tmp_path / "unfinished").rglob("metrics.jsonl"))
    record = records(tmp_path)["linear-seed0"]
    assert [point["epoch"] for point in record.curve] == [1, 2, 3] and record.parameters > 1000


def test_every_fold_is_trained_and_every_text_is_reported_once(make_experiment, tmp_path):
    config = make_experiment(("tfidf",), folds=3, reference="tfidf")
    assert run_experiment(config, tmp_path)
    found = records(tmp_path)
    assert set(found) == {f"tfidf-seed{fold}-fold{fold}" for fold in range(3)}
    assert sum(len(record.correct) for record in found.values()) == 101 + 37  # training and validation texts
    assert len({record.settings for record in found.values()}) == 3


def test_folds_and_shots_are_one_line(make_experiment, tmp_path, caplog):
    config = make_experiment(("tfidf",), folds=2, reference="tfidf")
    config.datasets["tiny"] = config.datasets["tiny"].replace(data__shots=4)
    run_experiment(config, tmp_path)
    assert "datasets.tiny.data.shots: 4, but folds take all training and validation texts" in caplog.text


def test_names_are_shown_as_they_are(make_experiment, tmp_path):
    name = "<script>|$A$ [x](y) \u202e"
    config = make_experiment(("tfidf",), seeds=1, reference="tfidf")
    config.datasets[name] = config.datasets.pop("tiny")
    run_experiment(config, tmp_path)
    assert write_experiment_report(config, tmp_path) == 0
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "<script" not in page and "\u202e" not in page and page.count("data:image/png") == 2
    table = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert r"## \<script\>\|\$A\$ \[x\](y) \\u202e: 43 texts" in table
    pictures = re.findall(r"!\[[\w ]+\]\(([^()\s]+)\)", table)
    assert len(pictures) == 2 and all((tmp_path / unquote(picture)).is_file() for picture in pictures)
    with pytest.raises(UserError, match="datasets: expected names without a slash, got 'a/b'"):
        ExperimentConfig(datasets={"a/b": None}, variants={})


def test_without_any_record_there_is_no_report(make_experiment, tmp_path):
    assert write_experiment_report(make_experiment(), tmp_path / "results") == 0
    assert not (tmp_path / "results").exists()
