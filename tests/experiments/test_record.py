"""Records hold what a run found, and know when they are out of date."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from amsdff_jax import Config, TextDataset
from amsdff_jax.config import LossConfig
from amsdff_jax.data.sources import DataSplits
from amsdff_jax.evaluation.evaluator import Evaluation
from amsdff_jax.evaluation.metrics import compute_metrics
from amsdff_jax.experiments.record import METRICS, Outcome, RunRecord, curve_point, headline, settings_digest
from amsdff_jax.experiments.settings import RunKey


def make_record(**fields) -> RunRecord:
    values = {"dataset": "r8", "variant": "gru", "seed": 2, "fold": -1, "settings": "abc", "correct": "10110",
              "metrics": dict.fromkeys(METRICS, 0.6),
              "curve": ({"epoch": 1, "accuracy": 0.5, "loss": 2.0},)}  # fmt: skip
    return RunRecord(**values | fields)


def test_a_record_is_read_as_it_was_written(tmp_path):
    file = RunKey("r8", "gru", 2).file(tmp_path)
    assert RunRecord.read(file) is None
    make_record().write(file)
    assert RunRecord.read(file) == make_record()
    assert make_record().hits.tolist() == [True, False, True, True, False]


def test_every_run_has_a_file_of_its_own(tmp_path):
    keys = [RunKey(dataset, variant, seed, fold) for dataset in ("a", "b") for variant in ("x", "y")
            for seed in (0, 1) for fold in (-1, 0, 1)]  # fmt: skip
    assert len({key.file(tmp_path) for key in keys}) == len(keys)


def test_a_record_of_label_sets_counts_labels(tmp_path):
    labels = np.array([[1, 1, 0], [0, 0, 0], [1, 0, 1], [0, 1, 0]], bool)
    answers = np.array([[1, 0, 0], [0, 0, 0], [1, 0, 1], [1, 1, 1]], bool)
    evaluation = Evaluation(labels, np.where(answers, 2.0, -2.0).astype(np.float32), 0, 1.0, "multi_label")
    metrics = compute_metrics(evaluation, ("a", "b", "c"), LossConfig())
    curve = (curve_point(1, metrics, "multi_label"),)
    record = RunRecord.of(RunKey("r8", "gru", 2), "abc", Outcome(evaluation, metrics, 5, 1.0, curve))
    assert record.confusion == "1,0,1 0,0,0 2,0,0 1,2,0" and record.correct == "0110"
    assert record.counts.tolist() == [[1, 0, 1], [0, 0, 0], [2, 0, 0], [1, 2, 0]]
    assert record.metrics["micro_f1"] == pytest.approx(8 / 11) and record.metrics["accuracy"] == 0.5
    assert headline(record.metrics) == headline(record.curve[0]) == "micro_f1" != headline(make_record().metrics)
    file = tmp_path / "record.json"
    record.write(file)
    assert RunRecord.read(file) == record
    for damage in (
        "1,0,1 0,0,0",
        "1,0,1 0,0,0 2,0,0 1,2",
        "many",
        "1,0,1 0,0,0 2,0,0 -1,2,0",
        f"1,0,1 0,0,0 2,0,0 {10**20},2,0",
    ):
        dataclasses.replace(record, confusion=damage).write(file)
        assert RunRecord.read(file) is None, damage


@pytest.mark.parametrize("damage", [
    {"dataset": 3}, {"unknown": 1}, {"correct": "10x"}, {"metrics": {"accuracy": 1}}, {"curve": [{"epoch": 1}]},
    {"metrics": dict.fromkeys(METRICS, "high")}, "", "[]",
])  # fmt: skip
def test_a_damaged_record_is_set_aside(tmp_path, damage, caplog):
    file = tmp_path / "record.json"
    whole = dataclasses.asdict(make_record())
    content = json.dumps(whole | damage) if isinstance(damage, dict) else damage
    file.write_text(content)
    assert RunRecord.read(file) is None
    assert not file.exists()
    assert file.with_name("record.json.damaged").read_text() == content
    assert "record.json" in caplog.text and "now called record.json.damaged" in caplog.text


def test_records_outlive_new_fields():
    # A new field that leaves old runs as they were belongs in `field_roles.NEWER_THAN_RECORDS`,
    # or all committed records are out of date.
    data = TextDataset(["w1", "w2"], np.array([0, 1]), ("a", "b"))
    digest = settings_digest(dataclasses.asdict(Config()), DataSplits(data, data, None))
    assert digest == "390baffd6ee08829c4423ab7"


@pytest.mark.parametrize(("kind", "differs"), [("single", False), ("multi_label", False), ("ordinal", True)])
def test_the_metric_counts_where_it_is_not_the_default(kind, differs):
    data = TextDataset(["w1", "w2"], np.array([0, 1]), ("a", "b"))
    auto, given, other = (
        settings_digest(
            dataclasses.asdict(Config().replace(task__kind=kind, train__best_metric=metric)),
            DataSplits(data, data, None),
        )
        for metric in ("auto", "macro_f1", "accuracy")
    )
    assert (given != auto) == differs
    assert other not in (auto, given)


def test_the_digest_depends_on_settings_and_texts_and_not_on_their_place(tiny_config):
    def digest(config, text="w1", label=0):
        train = TextDataset([text, "w2"], np.array([label, 1]), ("a", "b"))
        return settings_digest(dataclasses.asdict(config), DataSplits(train, train, None))

    first = digest(tiny_config)
    assert digest(tiny_config.replace(data__train_file="elsewhere.csv")) == first
    assert digest(tiny_config.replace(train__trackers="")) == first
    changed = [
        digest(tiny_config.replace(train__epochs=4)), digest(tiny_config.replace(data__max_length=23)),
        digest(tiny_config.replace(train__max_steps=4)), digest(tiny_config, text="w3"), digest(tiny_config, label=1),
    ]  # fmt: skip
    assert len({first, *changed}) == 6


def test_the_digest_depends_on_the_content_of_an_encoder_that_lies_here(tiny_config, tiny_encoder, tmp_path):
    data = TextDataset(["w1", "w2"], np.array([0, 1]), ("a", "b"))
    folder = shutil.copytree(tiny_encoder, tmp_path / "encoder")
    config = tiny_config.replace(model__encoder=str(folder), data__tokenizer=str(folder))

    def digest():
        return settings_digest(dataclasses.asdict(config), DataSplits(data, data, None))

    first = digest()
    (folder / "README.md").write_text("what it is")
    (folder / "checkpoint-5" / "tokenizer").mkdir(parents=True)
    (folder / "checkpoint-5" / "model.safetensors").write_bytes(b"others")
    (folder / "tokenizer-of-old").mkdir()
    assert digest() == first
    for name in ("model.safetensors", "tokenizer.json"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content + b" ")
        assert digest() != first
        (folder / name).write_bytes(content)
        assert digest() == first
