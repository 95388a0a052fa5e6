"""Model cards say what the files of a model folder say, and their commands run."""

import json
import re

import numpy as np
import pytest
from huggingface_hub import ModelCard

from amsdff_jax import EnhancedAMSDFF, load_data
from amsdff_jax.config import DataConfig
from amsdff_jax.conversion.convert import from_torch, to_torch
from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.data.tokenization import load_tokenizer
from amsdff_jax.evaluation.evaluator import Evaluation
from amsdff_jax.evaluation.metrics import compute_metrics
from amsdff_jax.evaluation.model_card import (
    record_conversion,
    record_metrics,
    record_training,
    recorded_columns,
    write_model_card,
)
from amsdff_jax.models.model_folder import SavedModel, read_model_folder, save_model
from tests.conftest import TINY_HEAD

ENVIRONMENT = {"num_parameters": 12345, "device": "1 x abacus", "versions": {"amsdff-jax": "0.9", "jax": "7.8"}}


@pytest.fixture
def folder(tiny_encoder, tmp_path):
    model = EnhancedAMSDFF.from_pretrained(str(tiny_encoder), 2, **TINY_HEAD)
    save_model(tmp_path / "model", SavedModel(model, load_tokenizer(tiny_encoder), ("high", "low|er"), 24))
    return tmp_path / "model"


def measure(config, labels, seed, truncated=3, names=("high", "low|er")):
    """Metrics of random logits, as a report has them."""
    labels = np.array(labels)
    logits = np.random.default_rng(seed).normal(size=(len(labels), len(names))).astype(np.float32)
    evaluation = Evaluation(labels, logits, truncated, 1.0)
    return compute_metrics(evaluation, names, config.loss) | {"truncated": truncated} | ENVIRONMENT


def train(folder, config):
    data = load_data(config.data)
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    metrics = {name: measure(config, splits[name].labels, seed) for seed, name in enumerate(("validation", "test"))}
    record_training(folder, config, splits, metrics, steps=27, best_step=18)
    return metrics


def read(folder):
    return (folder / "README.md").read_text(encoding="utf-8")


def test_card_of_a_trained_model(folder, tiny_config):
    metrics = train(folder, tiny_config)
    card = read(folder)
    test = metrics["test"]
    assert re.search(rf"\| test \| 43 \| {test['accuracy']:.4f} \| {test['macro_f1']:.4f} \|", card)
    assert card.index("| test | 43 |") < card.index("| validation | 37 |", card.index("## Metrics"))
    row = test["per_class"][1]
    assert rf"| low\|er | {row['precision']:.4f} | {row['recall']:.4f} | {row['f1']:.4f} | {row['support']} |" in card
    assert "3 of 43 texts (test) were longer" in card
    assert f"expected calibration error {test['ece']:.3f}, test" in card
    for fact in (
        "12,345",
        "1 x abacus",
        "jax 7.8",
        "| seed | 0 |",
        "step 18, best validation",
        "| `train.head_learning_rate` | `0.006` |",
    ):
        assert fact in card
    train(folder, tiny_config.replace(train__keep_best=False))
    assert "| kept | step 18, the last |" in read(folder)
    assert str(folder.parent) not in card + (folder / "card.json").read_text()  # no path of this machine
    metadata = ModelCard.load(folder / "README.md").data
    assert metadata.pipeline_tag == "text-classification"
    assert metadata.library_name == "amsdff-jax"
    results = {(result.dataset_split, result.metric_type): result.metric_value for result in metadata.eval_results}
    assert results["test", "accuracy"] == pytest.approx(test["accuracy"], abs=1e-6)
    assert len(results) == 4


def test_what_was_trained_is_read_again_as_it_was(folder, tiny_config):
    train(folder, tiny_config.replace(data__label_type="name", train__best_metric="macro_f1"))
    assert recorded_columns(folder) == DataConfig(label_type="name")
    assert "`data.label_type`" in read(folder) and "`train.best_metric`" not in read(folder)


HOSTILE = ("<script>alert(1)</script>", "a|b\n| c | `d` $e$ *f*", "[x](javascript:alert(1))\x1b\u202e")


def test_names_of_others_are_text_in_the_card(tiny_encoder, tiny_config, tmp_path):
    folder = tmp_path / "model"
    model = EnhancedAMSDFF.from_pretrained(str(tiny_encoder), 3, **TINY_HEAD)
    save_model(folder, SavedModel(model, load_tokenizer(tiny_encoder), HOSTILE, 24))
    assert read_model_folder(folder).class_names == HOSTILE
    config = tiny_config.replace(data__train_file="<b>x</b>/---|`.csv", data__text_column="a`b|c")
    data = {"train": TextDataset(["x"] * 4, [0, 1, 2, 2], HOSTILE, name="data")}
    metrics = {"<i>|.csv": measure(config, [0, 1, 2, 2], 0, names=HOSTILE)}
    record_training(folder, config, data, metrics, steps=3, best_step=2)
    (folder / "calibration.json").write_text('{"file": "<u>|x"}')
    write_model_card(folder)
    card = read(folder)
    assert not re.search(r"(?<!\\)(<script|<b>|<i>|<u>|\[x\])", re.sub(r"(`+).+?\1", "", card))
    assert not {"\x1b", "\u202e", "\ud800"} & set(card)
    tables = re.findall(r"(?:^\|.*\n)+", card, re.M)
    assert len(tables) == 5
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}) == 1, table
    assert ModelCard.load(folder / "README.md").data.pipeline_tag == "text-classification"


def test_evaluating_again_changes_that_row_alone(folder, tiny_config):
    train(folder, tiny_config)
    before = read(folder)
    again = measure(tiny_config, [0, 1, 1, 0, 1, 0, 0], 9)
    record_metrics(folder, {"more": again})
    added = [line for line in read(folder).splitlines() if line not in before.splitlines()]
    assert len(added) == 1
    assert added[0].startswith(f"| more | 7 | {again['accuracy']:.4f} |")
    record_metrics(folder, {"more": again})
    assert read(folder).count("| more |") == 1


def test_calibration_is_shown_once_it_is_there(folder, tiny_config):
    train(folder, tiny_config)
    assert "have not been calibrated" in read(folder)
    (folder / "calibration.json").write_text('{"temperature": 1.625, "after": {"ece": 0.0125}, "list": [1, 2]}')
    write_model_card(folder)
    card = read(folder)
    assert "| temperature | 1.6250 |" in card
    assert "| after.ece | 0.0125 |" in card
    assert "have not been calibrated" not in card


def test_the_card_tells_the_thresholds_of_several_labels(folder):
    config = json.loads((folder / "config.json").read_text())
    config["amsdff"]["task"] = "multi_label"
    (folder / "config.json").write_text(json.dumps(config | {"problem_type": "multi_label_classification"}))
    (folder / "calibration.json").write_text('{"thresholds": [0.25, 2.0], "texts": 50}')
    write_model_card(folder)
    card = read(folder)
    assert "| threshold of high | 0.2500 |" in card
    assert "never given |" in card
    assert "temperature" not in card


@pytest.mark.expensive
@pytest.mark.slow
@pytest.mark.parametrize("language", [0, 1], ids=["jax", "pytorch"])
def test_what_the_card_says_to_run_runs(language, folder, tiny_config, monkeypatch):
    train(folder, tiny_config)
    monkeypatch.chdir(folder)
    names = {}
    exec(re.findall(r"```python\n(.*?)```", read(folder), re.S)[language], names)
    assert names["logits"].shape == (1, 2)


def test_card_of_a_converted_model_is_shorter_and_says_so(folder, tiny_encoder, tmp_path):
    to_torch(folder, tmp_path / "weights.pt")
    options = {"encoder_config": str(tiny_encoder / "config.json"), "num_attention_heads": 4}
    from_torch(tmp_path / "weights.pt", tmp_path / "converted", **options)
    card = read(tmp_path / "converted")
    assert "Converted from `weights.pt` (bare state dict)" in card
    assert "## Metrics" not in card
    assert "## Training" not in card
    assert "which holds no tokenizer" in card
    assert "padded to 40 tokens" in card  # reference semantics
    ModelCard.load(tmp_path / "converted" / "README.md")
    from_torch(tmp_path / "weights.pt", tmp_path / "converted", **options)  # may be replaced, card and all


def test_damaged_facts_are_set_aside(folder, tiny_config, caplog):
    record_conversion(folder, "/some/where/x.pt", "file")
    assert json.loads((folder / "card.json").read_text())["conversion"]["file"] == "x.pt"
    for number, damaged in enumerate(
        ("{", "[]", '{"metrics": 3}', '{"metrics": {"test": {}}}', '{"training": {"data": 1}}')
    ):
        (folder / "card.json").write_text(damaged)
        record_metrics(folder, {"test": measure(tiny_config, [0, 1, 1], 4)})
        assert list(json.loads((folder / "card.json").read_text())["metrics"]) == ["test"]
        assert "| test | 3 |" in read(folder)
        assert (folder / f"card.json.damaged{number or ''}").read_text() == damaged
        assert "card.json.damaged" in caplog.messages[-1]
    save_model(folder, read_model_folder(folder))  # what was set aside does not stand in the way
