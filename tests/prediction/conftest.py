"""A model of three classes with random weights."""

import pytest

from amsdff_jax import EnhancedAMSDFF
from amsdff_jax.data.tokenization import load_tokenizer
from amsdff_jax.models.model_folder import SavedModel, save_model
from tests.conftest import TINY_HEAD
from tests.prediction.rows import NAMES


@pytest.fixture(scope="module")
def folder(tiny_encoder, tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    model = EnhancedAMSDFF.from_pretrained(str(tiny_encoder), 3, mask_padding=False, seed=3, **TINY_HEAD)
    save_model(root / "model", SavedModel(model, load_tokenizer(tiny_encoder), NAMES, 24))
    return root / "model"
