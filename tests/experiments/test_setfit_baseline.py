"""SetFit beside this project's models, on the same texts."""

import dataclasses
import importlib.util

import numpy as np
import pytest

from amsdff_jax.config import Config
from amsdff_jax.data.sources import DataSplits, load_data
from amsdff_jax.experiments.experiment import run_experiment
from amsdff_jax.experiments.experiment_report import write_experiment_report
from amsdff_jax.experiments.setfit_baseline import run_setfit


@pytest.mark.skipif(importlib.util.find_spec("setfit") is not None, reason="setfit is installed")
def test_without_the_library_the_others_are_run_and_a_line_tells(make_experiment, tmp_path):
    config = make_experiment(("setfit", "tfidf"), reference="tfidf", seeds=1)
    assert run_experiment(config, tmp_path)
    assert write_experiment_report(config, tmp_path) == 1
    table = (tmp_path / "README.md").read_text()
    assert "- failed: setfit: seed 0: setfit: is not installed; pip install setfit" in table
    assert "| tfidf | 100.00 |" in table
    assert "tiny_accuracy.png" in table and "curves" not in table  # neither has a curve
    assert {file.name for file in tmp_path.glob("*.png")} == {"tiny_accuracy.png", "tiny_significance.png"}


@pytest.mark.slow
def test_a_class_without_training_texts_gets_no_probability():
    pytest.importorskip("setfit", reason="needs setfit")
    config = Config().replace(data__source="bundled", data__max_length=16, data__shots=4, model__encoder="minilm-l6")
    data = load_data(config.data, config.seed)
    names = ("negative", "neither", "positive")
    three = [
        dataclasses.replace(part.take(np.arange(8), "few"), class_names=names, labels=part.labels[:8] * 2)
        for part in (data.train, data.validation, data.require_test())
    ]
    outcome = run_setfit(config, DataSplits(*three))
    probabilities = outcome.evaluation.probabilities
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-6)
    assert (probabilities[:, 1] < 1e-30).all() and set(outcome.evaluation.predictions.tolist()) <= {0, 2}
    assert outcome.parameters > 22_000_000
