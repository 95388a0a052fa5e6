"""A number a text, from the file to the answer, which is in the unit of the file."""

import csv
import dataclasses
import json
import random
import subprocess
import sys

import jax
import numpy as np
import pytest
from scipy.stats import spearmanr

from amsdff_jax import Classifier, Config, TextDataset, Trainer, UserError, load_data
from amsdff_jax.config import LossConfig
from amsdff_jax.conversion.convert import from_torch, to_torch
from amsdff_jax.data.dataset import stratified_split
from amsdff_jax.experiments.frozen import run_frozen
from amsdff_jax.explanation.explain import Explainer
from amsdff_jax.export.exporter import export_model
from amsdff_jax.inspection.inspect import inspect_data
from amsdff_jax.models.losses import regression_loss_parts
from amsdff_jax.models.model_folder import load_model, read_model_folder
from amsdff_jax.prediction.calibrate_model import calibrate_model
from amsdff_jax.prediction.evaluate import evaluate_model, evaluate_run
from amsdff_jax.prediction.run import predict
from amsdff_jax.training.train_run import make_trainer
from tests.conftest import WORDS, write_json_lines


def make_rows(number: int, seed: int) -> list[tuple[str, float]]:
    """Texts whose number is 1000, and 7.5 more for every word of the first half of the vocabulary."""
    choice, rows = random.Random(seed), []
    for _ in range(number):
        words = choice.choices(WORDS[:13] if choice.random() < 0.5 else WORDS, k=6)
        rows.append((" ".join(words), 1000 + 7.5 * sum(word in WORDS[:13] for word in words)))
    return rows


@pytest.fixture(scope="module")
def config(tiny_encoder, tmp_path_factory) -> Config:
    folder = tmp_path_factory.mktemp("regression")
    return Config.from_dict(
        {
            "task": {"kind": "regression"},
            "model": {"encoder": str(tiny_encoder), "name": "linear"},
            "data": {
                "max_length": 16, "num_buckets": 1, "label_column": "price",
                "train_file": write_json_lines(folder / "train.jsonl", make_rows(240, 1), "price"),
                "test_file": write_json_lines(folder / "test.jsonl", make_rows(60, 2), "price"),
            },
            "train": {
                "epochs": 4, "batch_size": 16, "eval_batch_size": 20, "head_learning_rate": 2e-2,
                "encoder_learning_rate": 3e-3, "trackers": "",
            },
        }
    )  # fmt: skip


def test_numbers_far_from_0_are_no_coarser_in_bfloat16(run):
    texts = [text for text, _ in make_rows(40, 3)]
    exact, coarse = (
        np.array([each.value for each in Classifier.from_pretrained(run / "model", compute_dtype=dtype).predict(texts)])
        for dtype in ("float32", "bfloat16")
    )
    assert np.ptp(exact) > 10
    np.testing.assert_allclose(coarse, exact, atol=1)  # between 1000 and 1024 bfloat16 has but multiples of 4 and 8


def test_a_run_learns_numbers_and_reports_them_in_their_unit(config, run):
    metrics = json.loads((run / "report" / "metrics.json").read_text())["test"]
    assert metrics["r2"] > 0.5 and metrics["rmse"] < 15
    truth = [number for _, number in make_rows(60, 2)]
    rows = list(csv.DictReader((run / "report" / "predictions.csv").open()))
    assert [float(row["truth"]) for row in rows] == truth
    predicted = [float(row["prediction"]) for row in rows]
    assert metrics["spearman"] == pytest.approx(spearmanr(truth, predicted).statistic, abs=1e-3)
    for name in ("predicted_and_true.png", "learning_curves.png", "errors.csv"):
        assert (run / "report" / name).exists(), name
    assert not (run / "report" / "confusion_matrix.csv").exists()
    card = (run / "model" / "README.md").read_text()
    assert "Predicts a number for a text: price" in card and "Spearman" in card and "Per class" not in card
    assert json.loads((run / "config.json").read_text())["train"]["best_metric"] == "rmse"
    again = evaluate_run(run)
    assert again["mae"] == pytest.approx(metrics["mae"], rel=1e-5)
    assert evaluate_model(run / "model", config.data.test_file, output=run.parent / "out")["mae"] == again["mae"]


def test_a_finished_run_gives_the_same_numbers_as_its_folder(config, run):
    data = load_data(config.data, task="regression")
    trainer = make_trainer(config, data, run)
    trainer.train()
    folder = Classifier.from_pretrained(run / "model")
    own = trainer.run_evaluation(data.test)
    np.testing.assert_allclose(own.logits, folder.logits(data.test.texts), rtol=1e-5)
    np.testing.assert_allclose(Classifier(read_model_folder(run / "model")._replace(model=trainer.model)).logits(
        data.test.texts), own.logits, rtol=1e-5)  # fmt: skip


def test_a_trained_model_is_trained_further_from_where_it_is(config, run, tmp_path):
    data = load_data(config.data, task="regression")
    model = load_model(run / "model")
    shifted = dataclasses.replace(data.train, labels=data.train.labels * 2 + 500)  # in another unit the error is large
    expected = Classifier.from_pretrained(run / "model").logits(data.test.texts)
    for name, train in (("same", data.train), ("other", shifted)):
        trainer = Trainer(model, config, train, data.validation, tmp_path / name, devices=jax.devices()[:1])
        np.testing.assert_allclose(trainer.run_evaluation(data.test).logits, expected, rtol=1e-4)
        untrained = Classifier(read_model_folder(run / "model")._replace(model=model))
        np.testing.assert_allclose(untrained.logits(data.test.texts), expected, rtol=1e-4)
        trainer.train(max_steps=0)
        expected = Classifier(read_model_folder(run / "model")._replace(model=trainer.model)).logits(data.test.texts)
    np.testing.assert_allclose(expected, Classifier.from_pretrained(run / "model").logits(data.test.texts), rtol=1e-4)


def test_answers_are_numbers_and_once_calibrated_intervals(config, run, tmp_path, capsys):
    folder = run / "model"
    texts = [text for text, _ in make_rows(5, 3)]
    values = Classifier.from_pretrained(folder).logits(texts)[:, 0]
    predict(str(folder), texts=texts)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["value"] for line in lines] == pytest.approx(values.tolist(), rel=1e-7)
    assert all(set(line) == {"row", "value", "truncated"} for line in lines)
    for flags, expected in (
        ({}, "--coverage: not given"),
        ({"coverage": 0.9, "target_precision": 0.9}, "--target_precision"),
        ({"coverage": 0.999}, "60 texts to calibrate on; a coverage of 0.999 takes at least 999"),
    ):
        with pytest.raises(UserError, match=expected):
            calibrate_model(str(folder), config.data.test_file, **flags)
    try:
        calibration = calibrate_model(str(folder), config.data.test_file, coverage=0.9)
        predict(str(folder), texts=texts, output=str(tmp_path / "out.csv"))
        predict(str(folder), texts=texts)
        line = json.loads(capsys.readouterr().out.splitlines()[0])
        rows = list(csv.DictReader((tmp_path / "out.csv").open()))
        assert list(rows[0]) == ["row", "value", "lower", "upper", "truncated", "error"]
        assert line["interval"] == [float(rows[0]["lower"]), float(rows[0]["upper"])]
        width = float(rows[0]["upper"]) - float(rows[0]["lower"])
        assert width == pytest.approx(2 * calibration.half_width, rel=1e-2)
        with pytest.raises(UserError, match="'price', and no probabilities"):
            Classifier.from_pretrained(folder).predict_proba(texts)
    finally:
        (folder / "calibration.json").unlink(missing_ok=True)


def test_pytorch_and_transformers_give_the_number(run, tmp_path):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torch")
    folder, texts = run / "model", [text for text, _ in make_rows(4, 4)]
    expected = Classifier.from_pretrained(folder, compute_dtype="float32").logits(texts)[:, 0]
    options = {"tokenizer": str(folder), "trust_remote_code": True, "device": "cpu"}
    pipe = transformers.pipeline("text-classification", str(folder), **options)
    np.testing.assert_allclose([answer["score"] for answer in pipe(texts)], expected, rtol=1e-5)
    to_torch(folder, tmp_path / "model.pt", "trainer")
    from_torch(tmp_path / "model.pt", tmp_path / "back", encoder_config=folder, tokenizer=folder)
    back = Classifier.from_pretrained(tmp_path / "back", compute_dtype="float32")
    assert back.saved.task == "regression" and back.class_names == ("price",)
    np.testing.assert_allclose(back.logits(texts)[:, 0], expected, rtol=1e-6)
    with pytest.raises(UserError, match=r"convert .*model, which answers in their unit"):
        to_torch(run, tmp_path / "run.pt")


def test_an_exports_loader_says_the_number(config, run, tmp_path):
    verification = export_model(run / "model", tmp_path / "export", "stablehlo", config.data.test_file)
    assert verification.equal
    text = make_rows(1, 5)[0][0]
    command = [sys.executable, "load.py", text]
    out = subprocess.run(command, cwd=tmp_path / "export", capture_output=True, text=True, check=True).stdout
    name, value, said = out.rstrip("\n").split("\t")
    expected = Classifier.from_pretrained(run / "model", compute_dtype="float32").logits([text])[0, 0]
    assert (name, said) == ("price", text) and float(value) == pytest.approx(float(expected), rel=1e-4)


def test_what_takes_classes_refuses_in_a_line(config, run, tmp_path):
    with pytest.raises(UserError, match="only models of classes can be explained"):
        Explainer(read_model_folder(run / "model"))
    with pytest.raises(UserError, match="amsdff inspect takes one class a text"):
        inspect_data(config, str(tmp_path), "page")
    data = load_data(config.data, task="regression")
    with pytest.raises(UserError, match="the frozen mode takes classes"):
        run_frozen(config, data, (0,), (1e-3,), 1)
    for changed, expected in (
        ({"loss__contrastive": 0.1}, "loss.contrastive"),
        ({"train__init_from": "x.pt"}, "train.init_from"),
        ({"train__best_metric": "accuracy"}, "no metric 'accuracy'"),
        ({"train__best_metric": "macro_f1"}, "no metric 'macro_f1'"),
    ):
        with pytest.raises(UserError, match=expected):
            make_trainer(config.replace(**changed), data, tmp_path / "run")
    same = data._replace(train=dataclasses.replace(data.train, labels=np.ones(len(data.train))))
    with pytest.raises(UserError, match="all labels are 1; expected several numbers"):
        make_trainer(config, same, tmp_path / "run")


@pytest.mark.parametrize(
    "values", [["1.5", "x"], [1.5, None], [1.5, True], [1.5, "nan"], [1.5, "1e999"], [1.5, "1_5"], [2.5, 2.5]]
)
def test_labels_that_are_no_numbers_or_all_the_same_name_their_place(values):
    from amsdff_jax.config import DataConfig
    from amsdff_jax.data.labelled_rows import column_rows, label_rows

    columns = {"text": ["a", "b"], "label": values}
    with pytest.raises(UserError, match=r"row 1, column 'label'|all labels are 2\.5"):
        label_rows(column_rows(columns, ["text", "label"], "data"), DataConfig(), (), "data", "regression")


def test_many_fractions_as_classes_name_the_way_out():
    columns = {"text": ["a"] * 60, "label": [row / 4 for row in range(60)]}
    with pytest.raises(
        UserError, match=r"60 different numbers, not all whole; to predict a number set task\.kind=regression"
    ):
        TextDataset.from_dict(columns)
    assert len(TextDataset.from_dict(columns, label_type="name").class_names) == 60


def test_a_split_keeps_the_range_of_the_numbers():
    data = TextDataset(["a"] * 97, np.random.default_rng(0).normal(size=97), ("x",))
    train, part = stratified_split(data, 0.2, seed=1)
    assert len(part) == 19 and data.task == train.task == part.task == "regression"
    assert abs(np.median(part.labels) - np.median(data.labels)) < 0.3
    assert sorted([*train.labels, *part.labels]) == sorted(data.labels)
    with pytest.raises(UserError, match=r"labels\[1\]: expected a finite number"):
        TextDataset(["a", "b"], np.array([1.0, np.inf]), ("x",))


def test_the_bundled_snippets_have_ratings():
    data = load_data(Config.from_dict({"data": {"source": "bundled"}}).data, task="regression")
    assert data.train.class_names == ("rating",)
    assert -4 <= data.train.labels.min() < -2 and 2 < data.train.labels.max() <= 4


def test_the_loss_is_that_of_pytorch():
    torch = pytest.importorskip("torch")
    rng, config = np.random.default_rng(0), LossConfig(huber_delta=0.7)
    logits, labels = rng.normal(size=(13, 1)).astype(np.float32), rng.normal(size=13).astype(np.float32)
    parts = regression_loss_parts(logits, labels, config)
    ours, theirs = torch.tensor(logits[:, 0]), torch.tensor(labels)
    expected = torch.nn.functional.huber_loss(ours, theirs, delta=0.7, reduction="none")
    np.testing.assert_allclose(parts["huber"], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(parts["mse"], (ours - theirs) ** 2, rtol=1e-5, atol=1e-6)
