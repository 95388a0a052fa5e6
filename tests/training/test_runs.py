"""Any model folder is evaluated on any labelled file, and stays as it is."""

import csv
import json
import math

import pytest

from amsdff_jax import Classifier, UserError
from amsdff_jax.config import DataConfig
from amsdff_jax.data.tokenization import load_tokenizer
from amsdff_jax.models.baselines import LinearClassifier
from amsdff_jax.models.model_folder import SavedModel, save_model
from amsdff_jax.prediction.evaluate import evaluate_model
from tests.conftest import make_texts

NAMES = ("high", "low")


@pytest.fixture(scope="module")
def folder(tiny_encoder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("received") / "model"
    model = LinearClassifier.from_pretrained(str(tiny_encoder), 2)
    save_model(folder, SavedModel(model, load_tokenizer(tiny_encoder), NAMES, 24))
    return folder


@pytest.fixture
def labelled(tmp_path):
    texts, labels = make_texts(21, 4)
    with (tmp_path / "labelled.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("body", "kind"), *zip(texts, labels, strict=True)])
    return str(tmp_path / "labelled.csv")


COLUMNS = DataConfig(text_column="body", label_column="kind")


def test_a_model_folder_is_scored_without_a_run(folder, labelled):
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    metrics = evaluate_model(folder, labelled, COLUMNS, batch_size=4)
    texts, labels = make_texts(21, 4)
    predicted = [prediction.label for prediction in Classifier.from_pretrained(folder).predict(texts)]
    assert metrics["accuracy"] == sum(map(str.__eq__, predicted, labels)) / 21
    assert math.isclose(metrics["loss"], metrics["log_loss"], rel_tol=1e-4)  # no card tells of another loss
    report = folder.parent / "model-report" / "labelled.csv"
    assert json.loads((report / "metrics.json").read_text())["labelled.csv"]["accuracy"] == metrics["accuracy"]
    assert {"predictions.csv", "confusion_matrix.png"} < {file.name for file in report.iterdir()}
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_the_loss_is_that_of_the_training_where_the_card_tells_it(folder, labelled, tmp_path):
    card = folder / "card.json"
    card.write_text(json.dumps({"training": {"settings": {"loss": {"ce": 0.0, "focal": 1.0, "label_smoothing": 0.0}}}}))
    try:
        metrics = evaluate_model(folder, labelled, COLUMNS, tmp_path / "report")
    finally:
        card.unlink()
    assert metrics["loss"] == metrics["loss_focal"] != metrics["loss_ce"]
    assert (tmp_path / "report" / "metrics.json").exists()


@pytest.mark.parametrize(
    ("columns", "output", "message"),
    [
        (DataConfig(), "report", "no column 'text'"),
        (DataConfig(text_column="body", label_column="body"), "report", r"labelled\.csv: line 2"),
        (COLUMNS, "labelled.csv", "labelled.csv: cannot be written .* name another folder with --output"),
    ],
)
def test_what_cannot_be_scored_is_named_before_anything_is_computed(
    columns, output, message, folder, labelled, tmp_path
):
    with pytest.raises(UserError, match=message):
        evaluate_model(folder, labelled, columns, tmp_path / output)
    assert not (tmp_path / "report").exists()
