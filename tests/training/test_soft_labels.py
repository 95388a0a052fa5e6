"""Labels that are not certain, from the votes in a file to the report."""

import csv
import json
import random
from pathlib import Path

import jax
import numpy as np
import pytest

from amsdff_jax import Classifier, Config, TextDataset, UserError, load_data
from amsdff_jax.config import DataConfig
from amsdff_jax.data.sources import DataSplits
from amsdff_jax.experiments.frozen import run_frozen
from amsdff_jax.experiments.tfidf import run_tfidf
from amsdff_jax.prediction.calibrate_model import calibrate_model
from amsdff_jax.prediction.evaluate import evaluate_model, evaluate_run
from amsdff_jax.training.train_run import make_trainer
from tests.conftest import WORDS
from tests.training.test_step import C, make_batch, make_model, make_step

RATERS = 5


def write_votes(path: Path, number: int, seed: int) -> str:
    """Texts of six words, by the share of which from the first half of the vocabulary each rater says `high`."""
    choice, rows = random.Random(seed), []
    for _ in range(number):
        high = choice.randint(0, 6)
        words = choice.choices(WORDS[:20], k=high) + choice.choices(WORDS[20:], k=6 - high)
        choice.shuffle(words)
        votes = ["high" if choice.random() < high / 6 else "low" for _ in range(RATERS)]
        if choice.random() < 0.3:
            votes[choice.randrange(RATERS)] = ""
        rows.append([" ".join(words), *votes, str(high / 6)])
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([["text", *"vwxyz", "share"], *rows])
    return str(path)


@pytest.fixture(scope="module")
def config(tiny_encoder, tmp_path_factory) -> Config:
    folder = tmp_path_factory.mktemp("soft")
    return Config.from_dict(
        {
            "model": {"encoder": str(tiny_encoder), "name": "linear"},
            "data": {
                "max_length": 16, "num_buckets": 1, "rater_columns": "v,w,x,y,z",
                "train_file": write_votes(folder / "train.csv", 240, 1),
                "test_file": write_votes(folder / "test.csv", 60, 2),
            },
            "loss": {"class_weights": "balanced"},
            "train": {
                "epochs": 4, "batch_size": 16, "eval_batch_size": 20, "head_learning_rate": 2e-2,
                "encoder_learning_rate": 3e-3, "best_metric": "cross_entropy", "trackers": "",
            },
        }
    )  # fmt: skip


def test_a_run_learns_the_shares_and_reports_the_loss_against_them(run, config):
    test = load_data(config.data, config.seed).require_test()
    metrics = json.loads((run / "report" / "metrics.json").read_text())["test"]
    probabilities = Classifier.from_pretrained(run / "model").predict_proba(test.texts)
    cross_entropy = -(test.labels * np.log(probabilities)).sum(axis=1).mean()
    assert metrics["cross_entropy"] == metrics["log_loss"] == pytest.approx(cross_entropy, abs=1e-5)
    assert metrics["loss_ce"] == pytest.approx(cross_entropy, abs=1e-5)
    parts = (0.4 * metrics["loss_ce"], 0.4 * metrics["loss_focal"], 0.2 * metrics["loss_label_smoothing"])
    assert metrics["loss"] == pytest.approx(sum(parts))
    assert metrics["accuracy"] == pytest.approx((probabilities.argmax(axis=1) == test.classes).mean())
    with Path(config.data.test_file).open() as stream:
        shares = np.array([float(row["share"]) for row in csv.DictReader(stream)])
    assert np.abs(probabilities[:, 0] - shares).mean() < 0.2  # where 1/2 is off by 0.29, and certainty by 0.21 at best
    rows = list(csv.DictReader((run / "report" / "predictions.csv").open()))
    assert [row["truth"] for row in rows] == [test.class_names[index] for index in test.classes]
    facts = json.loads((run / "model" / "card.json").read_text())["training"]
    assert facts["class_counts"]["test"] == test.class_counts.tolist()


def test_a_model_is_evaluated_and_calibrated_on_votes_probabilities_and_classes(run, config, tmp_path):
    again, votes = evaluate_run(run), load_data(config.data, config.seed).require_test()
    own = evaluate_model(run / "model", config.data.test_file, output=tmp_path / "votes")
    names = ("loss", "cross_entropy", "accuracy", "ece")
    assert [own[name] for name in names] == pytest.approx([again[name] for name in names], rel=1e-5)
    shares = tmp_path / "shares.csv"
    rows = [[text, *map(float, row)] for text, row in zip(votes.texts, votes.labels, strict=True)]
    certain = [[text, *map(int, np.eye(2)[label])] for text, label in zip(votes.texts, votes.classes, strict=True)]
    found = []
    for content in (rows, certain):
        with shares.open("w", newline="") as stream:
            csv.writer(stream).writerows([["text", "high", "low"], *content])
        data = DataConfig(label_columns="low,high")
        found.append(evaluate_model(run / "model", str(shares), data, output=tmp_path / "shares"))
    assert found[0]["loss"] == pytest.approx(own["loss"], rel=1e-5)
    assert found[1]["accuracy"] == own["accuracy"] and found[1]["loss"] != pytest.approx(own["loss"], rel=1e-3)
    Classifier.from_pretrained(run / "model").save(tmp_path / "model")
    calibrations = [
        calibrate_model(str(tmp_path / "model"), file, data, coverage=0.8)
        for file, data in ((config.data.test_file, config.data), (str(shares), data))
    ]
    assert calibrations[0].temperature == calibrations[1].temperature


def test_a_model_of_votes_is_explained_as_one_of_classes(run):
    explanation = Classifier.from_pretrained(run / "model").explain(" ".join(WORDS[:6]))
    assert explanation.class_names[explanation.winner] == "high"
    assert explanation.attributions.relative_error < 0.01


def test_what_stands_on_a_frozen_encoder_and_words_alone_learn_too(config):
    data = load_data(config.data, config.seed)
    frozen, words = run_frozen(config, data, (0,), (0.1,), epochs=4)[0], run_tfidf(config, data)
    assert frozen.metrics["loss_ce"] < np.log(2) and words.metrics["accuracy"] > 0.6
    for outcome in (frozen, words):
        assert outcome.evaluation.labels.dtype == np.float32


@pytest.mark.expensive
def test_a_stopped_run_and_other_devices_make_the_same_steps(config, tmp_path):
    data = load_data(config.data, config.seed)
    pieces = {"train__accumulation_steps": 2, "loss__contrastive": 0.2}
    settings = config.replace(train__epochs=1, train__epsilon=1e-3, **pieces)

    def trained(name, devices, stop=0, **changes):
        for steps in (stop, None) if stop else (None,):
            trainer = make_trainer(settings.replace(**changes), data, tmp_path / name, jax.devices()[:devices])
            trainer.train(max_steps=steps)
        return trainer.history[-1]["train"]

    whole = trained("whole", 1)
    assert trained("stopped", 1, stop=5) == whole
    split = trained("split", 4, parallel__mode="pmap")
    assert split["loss"] == pytest.approx(whole["loss"], rel=1e-3)


def test_distributions_that_are_certain_make_the_step_of_classes():
    weights, steps = (0.5, 2.0, 1.0), []
    batch = make_batch(6, filler=2)
    labels = np.eye(C, dtype=np.float32)[batch.labels]
    labels[6:] = 0
    for each in (batch, batch._replace(labels=labels)):
        step, state = make_step(make_model("linear"), weights)
        steps.append(step(state, each, jax.random.key(0))[1])
    assert {name: float(value) for name, value in steps[0].items()} == pytest.approx(
        {name: float(value) for name, value in steps[1].items()}, rel=1e-5
    )


def test_ordered_classes_learn_from_votes(config, tmp_path):
    changes = {"task": {"kind": "ordinal"}, "data": {"label_order": "low,high"}, "train__best_metric": "macro_f1"}
    ordered = config.replace(**changes)
    data = load_data(ordered.data, ordered.seed, "ordinal")
    trainer = make_trainer(ordered, data, tmp_path, jax.devices()[:1])
    trainer.train()
    metrics = trainer.evaluate(data.require_test())
    assert metrics["quadratic_weighted_kappa"] > 0.3
    assert metrics["cross_entropy"] == pytest.approx(metrics["loss_ce"], rel=1e-5)


def test_what_takes_certain_classes_says_so(config, tmp_path):
    data = load_data(config.data, config.seed)
    with pytest.raises(UserError, match="has a distribution over the classes a text; amsdff noise takes one class"):
        data.train.require_single("amsdff noise")
    several = TextDataset(["w1", "w2"], np.eye(2), data.train.class_names, name="several.csv")
    with pytest.raises(UserError, match=r"several\.csv: has any number of labels a text, but .* one label a text"):
        make_trainer(config, DataSplits(data.train, several, None), tmp_path)
    with pytest.raises(UserError, match=r"task\.kind: multi_label, but .* has one label a text"):
        make_trainer(config.replace(task__kind="multi_label"), data, tmp_path)
