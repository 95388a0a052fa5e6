"""Saved models of every kind on the tiny encoder, and explainers that have been compiled once."""

from functools import cache

import pytest

from amsdff_jax.data.tokenization import load_tokenizer
from amsdff_jax.explanation.explain import Explainer
from amsdff_jax.models.model_folder import SavedModel
from amsdff_jax.models.registry import MODELS
from tests.conftest import TINY_HEAD

CLASS_NAMES = ("low", "<b>high</b>", 'others & "more"')


@pytest.fixture(scope="session")
def make_saved(tiny_encoder):
    @cache
    def make(name: str = "amsdff", mask_padding: bool = True, **fields) -> SavedModel:
        model = MODELS[name].from_pretrained(
            str(tiny_encoder), len(CLASS_NAMES), seed=3, mask_padding=mask_padding, **(TINY_HEAD | fields)
        )
        return SavedModel(model, load_tokenizer(tiny_encoder), CLASS_NAMES, max_length=16)

    return make


@pytest.fixture(scope="session")
def make_explainer(make_saved):
    return cache(lambda name="amsdff", mask_padding=True: Explainer(make_saved(name, mask_padding)))
