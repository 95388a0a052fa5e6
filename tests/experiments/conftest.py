"""A small experiment: two datasets' worth of settings would only repeat what one shows."""

import pytest

from amsdff_jax.experiments.settings import ExperimentConfig
from tests.conftest import TINY_HEAD


@pytest.fixture
def make_experiment(tiny_config):
    """A function that makes an `ExperimentConfig` over the tiny dataset; keywords are its fields."""

    def make(variants=("linear", "tfidf"), **fields) -> ExperimentConfig:
        kinds = {
            "amsdff": {"model": TINY_HEAD},
            "linear": {"model": {"name": "linear"}},
            "reference": {"model": {"mask_padding": False}},
            "tfidf": {},
            "setfit": {},
        }
        return ExperimentConfig(
            datasets={"tiny": tiny_config},
            variants={name: kinds[name] for name in variants},
            **{"reference": "linear", "seeds": 2, "mode": "frozen", "epochs": 2, "learning_rates": (1e-2, 1e-5)}
            | fields,
        )

    return make
