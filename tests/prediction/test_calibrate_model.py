"""A model is calibrated on a file of labelled texts, and says so from then on."""

import csv
import json

import pytest

from amsdff_jax import Classifier, UserError
from amsdff_jax.config import DataConfig
from amsdff_jax.evaluation.calibration import Calibration
from amsdff_jax.evaluation.calibration_file import read_calibration, write_calibration
from amsdff_jax.models.model_folder import save_model
from amsdff_jax.prediction.calibrate_model import calibrate_model, print_calibration
from amsdff_jax.prediction.run import predict
from tests.conftest import make_texts, write_csv
from tests.prediction.rows import NAMES, read_lines


def test_a_calibrated_model_says_so_in_every_line(folder, tmp_path):
    save_model(tmp_path / "model", Classifier.from_pretrained(folder).saved)
    calibration = Calibration(NAMES, 0.5, 0.99, target_precision=0.9, label_probability=0.0, coverage=0.9)
    write_calibration(tmp_path / "model", calibration)
    predict(str(tmp_path / "model"), ["w1", "w2"], output=str(tmp_path / "out.jsonl"))
    for line in read_lines(tmp_path / "out.jsonl"):
        assert line["abstained"] is True
        assert (sorted(line["label_set"]), line["label_set"][0]) == (sorted(NAMES), line["label"])
    predict(str(tmp_path / "model"), ["w1"], output=str(tmp_path / "out.csv"))
    header, row = csv.reader((tmp_path / "out.csv").read_text().splitlines())
    assert header[3:] == ["truncated", "abstained", "label_set", "error"]
    assert json.loads(row[5])[0] == row[1]


def test_calibrate_writes_what_it_finds_or_nothing(folder, tmp_path):
    model = tmp_path / "model"
    classifier = Classifier.from_pretrained(folder)
    save_model(model, classifier.saved)
    texts = make_texts(150, 0)[0]
    labels = [prediction.label for prediction in classifier.predict(texts)]
    labels[::10] = ["other"] * 15
    held_out = str(write_csv(tmp_path / "held_out.csv", texts, labels))
    calibration = calibrate_model(str(model), held_out, DataConfig(), target_precision=0.6, coverage=0.9)
    card = (model / "README.md").read_text()
    assert "## Calibration" in card and "held_out.csv" in card
    assert read_calibration(model, NAMES) == calibration
    assert calibration.after["log_loss"] < calibration.before["log_loss"]
    assert (calibration.texts, calibration.file) == (150, "held_out.csv")
    with pytest.raises(UserError, match=r"held_out.csv: no threshold has a precision of 0.99"):
        calibrate_model(str(model), held_out, DataConfig(), target_precision=0.99)
    assert read_calibration(model, NAMES) == calibration
    for name in ("coverage", "target_precision"):
        with pytest.raises(UserError, match=rf"^--{name}: expected a share above 0 and below 1, .* got 95$"):
            calibrate_model(str(model), "not read.csv", DataConfig(), **{name: 95})
    again = calibrate_model(str(model), held_out, DataConfig())
    assert again.temperature == pytest.approx(calibration.temperature)  # of the model's own logits, not calibrated ones


@pytest.mark.parametrize(("size", "said"), [(1.0, True), (1.25, False)])
def test_sets_that_say_no_more_than_the_label_are_pointed_out(size, said, capsys):
    quality = {"ece": 0.1, "log_loss": 0.2, "brier": 0.3}
    calibration = Calibration(NAMES, 1.0, coverage=0.9, label_set_size=size, before=quality, after=quality)
    print_calibration(calibration, "model")
    assert ("every set is the predicted class alone" in capsys.readouterr().out) == said
