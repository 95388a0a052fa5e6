"""Ordered classes, from the file to the answer, here and in PyTorch."""

import csv
import dataclasses
import json
import random
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from amsdff_jax import Classifier, Config, TextDataset, UserError, load_data
from amsdff_jax.conversion.convert import from_torch, to_torch
from amsdff_jax.conversion.verify import verify
from amsdff_jax.experiments.experiment import run_experiment
from amsdff_jax.experiments.experiment_report import write_experiment_report
from amsdff_jax.experiments.frozen import run_frozen
from amsdff_jax.experiments.settings import ExperimentConfig
from amsdff_jax.experiments.tfidf import run_tfidf
from amsdff_jax.explanation.write import make_page
from amsdff_jax.export.exporter import export_model
from amsdff_jax.inspection.inspect import inspect_data
from amsdff_jax.models.last_layer import last_layer_of
from amsdff_jax.models.model_folder import read_model_config, read_model_folder
from amsdff_jax.models.registry import make_model
from amsdff_jax.models.state_dict import to_state_dict
from amsdff_jax.prediction.calibrate_model import calibrate_model
from amsdff_jax.prediction.estimator import AmsdffClassifier
from amsdff_jax.prediction.evaluate import evaluate_model, evaluate_run
from amsdff_jax.prediction.run import predict
from amsdff_jax.training.start import with_task
from amsdff_jax.training.train_run import make_trainer, train_run
from tests.conftest import TINY_HEAD, WORDS, write_json_lines

NAMES = ("poor", "fair", "good", "fine", "best")  # in no order of the alphabet


def make_rows(number: int, seed: int) -> list[tuple[str, str]]:
    """Texts whose class is by how many of six words are from the first half of the vocabulary."""
    choice, rows = random.Random(seed), []
    for _ in range(number):
        high = choice.randint(0, 6)
        words = choice.choices(WORDS[:20], k=high) + choice.choices(WORDS[20:], k=6 - high)
        choice.shuffle(words)
        rows.append((" ".join(words), NAMES[min(high, 4)]))
    return rows


@pytest.fixture(scope="module")
def config(tiny_encoder, tmp_path_factory) -> Config:
    folder = tmp_path_factory.mktemp("ordinal")
    return Config.from_dict(
        {
            "task": {"kind": "ordinal"},
            "model": {"encoder": str(tiny_encoder), "name": "linear"},
            "data": {
                "max_length": 16, "num_buckets": 1, "label_order": ",".join(NAMES),
                "train_file": write_json_lines(folder / "train.jsonl", make_rows(240, 1)),
                "test_file": write_json_lines(folder / "test.jsonl", make_rows(60, 2)),
            },
            "train": {
                "epochs": 4, "batch_size": 16, "eval_batch_size": 20, "head_learning_rate": 2e-2,
                "encoder_learning_rate": 3e-3, "trackers": "",
            },
        }
    )  # fmt: skip


def test_a_run_learns_the_order_and_reports_it_in_every_table(config, run):
    metrics = json.loads((run / "report" / "metrics.json").read_text())["test"]
    assert metrics["quadratic_weighted_kappa"] > 0.6  # that of the majority's class is 0
    assert metrics["off_by_one_accuracy"] > max(0.8, metrics["accuracy"]) and metrics["mae"] < 0.8
    assert "steps" in metrics["meanings"]["mae"] and "mape" not in metrics
    rows = list(csv.DictReader((run / "report" / "predictions.csv").open()))
    truth, predicted = ([NAMES.index(row[column]) for row in rows] for column in ("truth", "prediction"))
    assert [NAMES[label] for label in truth] == [label for _, label in make_rows(60, 2)]
    kappa = cohen_kappa_score(truth, predicted, weights="quadratic")
    assert metrics["quadratic_weighted_kappa"] == pytest.approx(kappa, abs=1e-12)
    errors = list(csv.DictReader((run / "report" / "errors.csv").open()))
    steps = [abs(NAMES.index(row["truth"]) - NAMES.index(row["prediction"])) for row in errors]
    assert steps == sorted(steps, reverse=True) and steps[-1] > 0
    with (run / "report" / "confusion_matrix.csv").open() as file:
        header, *counts = csv.reader(file)
    assert (*header[1:],) == tuple(row[0] for row in counts) == NAMES
    assert tuple(row["class"] for row in csv.DictReader((run / "report" / "per_class.csv").open())) == NAMES
    for name in ("confusion_matrix.png", "reliability.png", "learning_curves.png", "errors.csv"):
        assert (run / "report" / name).exists(), name
    saved = json.loads((run / "config.json").read_text())
    assert saved["train"]["best_metric"] == "quadratic_weighted_kappa" and saved["model"]["ordinal"]
    card = (run / "model" / "README.md").read_text()
    assert "from the lowest to the highest: poor, fair, good, fine, best" in card and "quadratic weighted kappa" in card
    assert "best validation quadratic_weighted_kappa" in card
    classes = card.split("## Per class")[1].split("## ")[0]
    assert sorted(NAMES, key=classes.index) == list(NAMES)
    again = evaluate_run(run)
    assert again["quadratic_weighted_kappa"] == metrics["quadratic_weighted_kappa"]
    own = evaluate_model(run / "model", config.data.test_file, output=run.parent / "out")
    assert own["mae"] == metrics["mae"] and own["off_by_one_accuracy"] == metrics["off_by_one_accuracy"]


def test_a_run_that_stops_goes_on_with_the_same_steps(config, run, tmp_path):
    data = load_data(config.data, config.seed, "ordinal")
    steps = iter(range(100))
    first = make_trainer(config, data, tmp_path / "run", devices=jax.devices()[:1])
    first.train(should_stop=lambda: next(steps) >= 17)
    assert not first.finished and first.history
    second = make_trainer(config, data, tmp_path / "run", devices=jax.devices()[:1])
    second.train()
    whole = make_trainer(config, data, tmp_path / "whole", devices=jax.devices()[:1])
    whole.train()
    for one, other in zip(second.history, whole.history, strict=True):
        one["validation"].pop("examples_per_second"), other["validation"].pop("examples_per_second")
        assert one == other
    for name, tensor in to_state_dict(whole.model).items():
        np.testing.assert_array_equal(to_state_dict(second.model)[name], tensor, err_msg=name)


def test_answers_are_classes_with_probabilities_and_can_be_calibrated(config, run, capsys):
    folder, texts = run / "model", [text for text, _ in make_rows(30, 3)]
    classifier = Classifier.from_pretrained(folder)
    logits, probabilities = classifier.logits(texts), classifier.predict_proba(texts)
    np.testing.assert_allclose(np.exp(logits.astype(np.float64)), probabilities, atol=1e-6)
    cumulative = probabilities.cumsum(axis=1)
    assert (probabilities >= 0).all() and (np.diff(cumulative) >= 0).all()
    np.testing.assert_allclose(cumulative[:, -1], 1, atol=1e-6)
    answers = classifier.predict(texts)
    assert [answer.label for answer in answers] == [NAMES[index] for index in logits.argmax(axis=1)]
    assert classifier.saved.task == "ordinal" and classifier.class_names == NAMES
    predict(str(folder), texts=texts[:2])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["label"] for line in lines] == [answer.label for answer in answers[:2]]
    explanation = classifier.explain(texts[0])
    page = make_page([explanation], "stars").split("Probability")[1]
    assert sorted(NAMES, key=lambda name: page.index(f">{name}<")) == list(NAMES)
    assert explanation.to_dict()["label"] == answers[0].label and explanation.attributions.relative_error < 0.05
    try:
        calibration = calibrate_model(str(folder), config.data.test_file, coverage=0.8)
        calibrated = Classifier.from_pretrained(folder)
        assert calibrated.calibration == calibration and calibrated.predict(texts[0]).label_set
    finally:
        (folder / "calibration.json").unlink(missing_ok=True)


@pytest.mark.parametrize("name", ["linear", "amsdff", "bert", "cnn"])
def test_pytorch_and_transformers_give_the_same_logits_and_weights_go_both_ways(run, name, tmp_path, torch):
    transformers = pytest.importorskip("transformers")
    saved = read_model_folder(run / "model", compute_dtype="float32")
    encoder = json.loads((run / "config.json").read_text())["model"]["encoder"]
    fields = {"name": name, "encoder": encoder, "num_classes": 5, "ordinal": True, **TINY_HEAD}
    model = make_model(dataclasses.replace(saved.model.config, **fields), seed=3)
    last_layer_of(model).fit(np.array([1, 0, 9, 3, 1]))
    trained = saved._replace(model=model)
    folder = tmp_path / "model"
    Classifier(trained).save(folder)
    again = read_model_folder(folder, compute_dtype="float32")
    assert again.task == "ordinal" and read_model_config(folder).model.ordinal
    values = json.loads((folder / "config.json").read_text())
    assert values["problem_type"] == "single_label_classification" and "auto_map" in values
    texts = [text for text, _ in make_rows(7, 4)]
    expected = Classifier(again).logits(texts)
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True).eval()
    tokens = transformers.AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    inputs = {key: tokens[key] for key in ("input_ids", "attention_mask")}
    labels = torch.tensor([0, 1, 2, 3, 4, 0, 1])
    with torch.no_grad():
        output = theirs(**inputs, labels=labels)
    np.testing.assert_allclose(output.logits.numpy(), expected, atol=1e-5)
    assert output.loss.item() == pytest.approx(-expected[np.arange(7), labels.numpy()].mean(), abs=1e-5)
    assert list(theirs.state_dict()) == list(to_state_dict(model))
    for layout, file in (("trainer", "model.pt"), ("state_dict", "model.safetensors")):
        to_torch(folder, tmp_path / file, layout)
        from_torch(
            tmp_path / file, tmp_path / "back", encoder_config=folder, tokenizer=folder, class_names=NAMES,
            num_attention_heads=TINY_HEAD["num_attention_heads"], padding="masked",
        )  # fmt: skip
        back = read_model_folder(tmp_path / "back")
        assert back.task == "ordinal" and back.class_names == NAMES
        for key, tensor in to_state_dict(again.model).items():
            np.testing.assert_array_equal(to_state_dict(back.model)[key], tensor, err_msg=key)
    assert all(stage.equal for stage in verify(folder, tmp_path / "model.pt", texts[:2]))
    with pytest.raises(UserError, match="task: expected ordinal of a model with thresholds between its classes"):
        from_torch(tmp_path / "model.pt", tmp_path / "other", encoder_config=folder, tokenizer=folder, task="single")


@pytest.mark.parametrize("format", ["stablehlo", "onnx", pytest.param("safetensors", marks=pytest.mark.expensive)])
def test_an_export_says_the_same(config, run, tmp_path, format):
    if format != "stablehlo":
        pytest.importorskip("torch")
        pytest.importorskip("onnxruntime" if format == "onnx" else "transformers")
    verification = export_model(run / "model", tmp_path / "export", format, config.data.test_file)
    assert verification.equal
    text = make_rows(1, 5)[0][0]
    command = [sys.executable, "load.py", text]
    out = subprocess.run(command, cwd=tmp_path / "export", capture_output=True, text=True, check=True).stdout
    answer = Classifier.from_pretrained(run / "model", compute_dtype="float32").predict(text)
    label, probability, _ = out.rstrip("\n").split("\t")
    assert label == answer.label and float(probability.rstrip("%")) > 0


def test_the_run_converts_with_its_optimizer_and_begins_another(config, run, tmp_path):
    to_torch(run, tmp_path / "run.pt", "trainer")
    data = load_data(config.data, config.seed, "ordinal")
    more = config.replace(train__init_from=str(tmp_path / "run.pt"), train__epochs=5)
    trainer = make_trainer(more, data, tmp_path / "more", devices=jax.devices()[:1])
    assert int(trainer.state.step) == 4 * trainer.steps_per_epoch
    thresholds = trainer.state.variables.trainable["classifier"]["thresholds"]
    assert thresholds.shape == (4,)


def test_adapters_of_ordered_classes_convert_too(config, tmp_path):
    assert train_run(config.replace(model__lora_rank=2, train__epochs=1), tmp_path / "run")
    whole = Classifier.from_pretrained(tmp_path / "run" / "model", compute_dtype="float32")
    from_torch(
        tmp_path / "run" / "adapter", tmp_path / "back", encoder_config=config.model.encoder, padding="masked",
        tokenizer=config.model.encoder, max_length=16, class_names=NAMES,
    )  # fmt: skip
    back = Classifier.from_pretrained(tmp_path / "back", compute_dtype="float32")
    assert back.saved.task == "ordinal"
    texts = [text for text, _ in make_rows(7, 4)]
    np.testing.assert_allclose(back.logits(texts), whole.logits(texts), atol=1e-5)


def test_thresholds_begin_at_the_shares_of_the_classes(config, tmp_path):
    data = load_data(config.data, config.seed, "ordinal")
    for name in ("linear", "amsdff"):
        changes = {f"model__{field}": value for field, value in TINY_HEAD.items()}
        trainer = make_trainer(config.replace(model__name=name, **changes), data, tmp_path / name)
        last = last_layer_of(trainer.model)
        shares = np.exp(np.asarray(last(jnp.zeros((1, last.in_features)))))[0]
        counts = data.train.class_counts + 1
        np.testing.assert_allclose(shares, counts / counts.sum(), rtol=1e-4)
    even = make_trainer(config.replace(train__data_dependent_init=False), data, tmp_path / "even")
    last = last_layer_of(even.model)
    np.testing.assert_allclose(np.exp(np.asarray(last(jnp.zeros((1, last.in_features))))), 0.2, rtol=1e-4)


def test_experiments_and_baselines_add_the_metrics(config):
    data = load_data(config.data, config.seed, "ordinal")
    (outcome,) = run_frozen(config, data, (0,), (1e-1,), 6)
    assert outcome.metrics["quadratic_weighted_kappa"] > 0.3
    assert run_tfidf(config, data).metrics["quadratic_weighted_kappa"] > 0.6


def test_inspect_keeps_the_order(config, tmp_path):
    assert inspect_data(config, "stars", str(tmp_path / "page.html")).classes.class_names == NAMES


def test_two_classes_are_a_logistic_regression(config, tmp_path):
    rows = [(text, "yes" if NAMES.index(label) > 1 else "no") for text, label in make_rows(200, 6)]
    file = write_json_lines(tmp_path / "two.jsonl", rows)
    two = config.replace(data={"train_file": file, "test_file": "", "label_order": "no,yes"}, train__epochs=2)
    assert train_run(two, tmp_path / "run")
    classifier = Classifier.from_pretrained(tmp_path / "run" / "model")
    texts = [text for text, _ in rows]
    hits = [answer.label == label for answer, (_, label) in zip(classifier.predict(texts), rows, strict=True)]
    assert np.mean(hits) > 0.8
    last = last_layer_of(classifier.saved.model)
    assert last.thresholds.shape == (1,) and last.kernel.shape[1] == 1


def test_an_estimator_learns_numbers_in_their_order(config):
    rows = make_rows(120, 7)
    settings = {"task": {"kind": "ordinal"}, "data": {"max_length": 16, "num_buckets": 1}, "train": {"trackers": ""}}
    estimator = AmsdffClassifier(
        config.model.encoder, model="linear", epochs=3, batch_size=16, head_learning_rate=2e-2,
        encoder_learning_rate=3e-3, config=settings,
    )  # fmt: skip
    texts, stars = [text for text, _ in rows], np.array([NAMES.index(label) + 8 for _, label in rows])
    estimator.fit(texts, stars)
    assert estimator.classes_.tolist() == [8, 9, 10, 11, 12] and estimator.classifier_.saved.task == "ordinal"
    assert cohen_kappa_score(stars, estimator.predict(texts), weights="quadratic") > 0.3
    with pytest.raises(UserError, match=r"y: with task\.kind=ordinal expected numbers, whose order is known, got"):
        estimator.fit(texts, [label for _, label in rows])


def test_what_does_not_go_together_says_so_in_a_line(config, run, tmp_path):
    data = load_data(config.data, config.seed, "ordinal")
    with pytest.raises(UserError, match="the model has no thresholds between ordered classes; make it with ordinal"):
        from amsdff_jax import Trainer

        model = make_model(dataclasses.replace(config.model, ordinal=False, num_classes=5))
        Trainer(model, config, data.train, data.validation, tmp_path / "run")
    with pytest.raises(UserError, match=r"task\.kind: expected ordinal with model\.ordinal"):
        make_trainer(config, data, tmp_path / "run").config.replace(task__kind="single")
    assert with_task(config.replace(train__best_metric="macro_f1"), data.train).train.best_metric == "macro_f1"
    with pytest.raises(UserError, match="no metric 'r2'"):
        make_trainer(config.replace(train__best_metric="r2"), data, tmp_path / "run")
    with pytest.raises(UserError, match=r"model\.num_classes: expected at least 2"):
        config.replace(model__num_classes=1)
    several = TextDataset(["a", "b"], np.eye(2), ("x", "y"))
    with pytest.raises(UserError, match=r"task\.kind: ordinal, but data has any number of labels a text"):
        make_trainer(config, data._replace(train=several, validation=several), tmp_path / "run")
    single = config.replace(task__kind="single", model__ordinal=False)
    trainer = make_trainer(single, data, tmp_path / "single")
    assert not trainer.model.config.ordinal and trainer.config.train.best_metric == "macro_f1"


def test_an_experiment_reports_the_kappa_beside_what_has_none(config, tmp_path):
    variants = {"ordinal": {}, "single": {"task": {"kind": "single"}, "model": {"ordinal": False}}, "tfidf": {}}
    settings = {"seeds": 1, "mode": "frozen", "epochs": 2, "learning_rates": (1e-1,), "reference": "ordinal"}
    experiment = ExperimentConfig(datasets={"stars": config}, variants=variants, **settings)
    assert run_experiment(experiment, tmp_path) and write_experiment_report(experiment, tmp_path) == 0
    table = next(line for line in (tmp_path / "README.md").read_text().splitlines() if "weighted F1" in line)
    assert table.index("quadratic kappa") < table.index("MAE")
    rows = {row["model"]: row for row in csv.DictReader((tmp_path / "results.csv").open())}
    assert float(rows["ordinal"]["off_by_one_accuracy"]) > 0 and rows["single"]["quadratic_weighted_kappa"] == ""
