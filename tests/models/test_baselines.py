"""The baselines: shapes, and what padding and filler may and may not do."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from amsdff_jax import UserError
from amsdff_jax.config import MODEL_NAMES, EncoderConfig, ModelConfig
from amsdff_jax.models.baselines import CNN_FILTERS, CNN_WIDTHS
from amsdff_jax.models.dropout import Dropout
from amsdff_jax.models.registry import MODELS
from tests.compiled import call

ENCODER = EncoderConfig(vocab_size=31, max_position_embeddings=17, dim=20, n_layers=1, n_heads=2, hidden_dim=28)
B, S, H, C, HEADS = 3, 7, 20, 6, 5
BASELINES = sorted(set(MODEL_NAMES) - {"amsdff"})


def make_model(name: str, mask_padding: bool = True):
    config = ModelConfig(num_classes=C, num_attention_heads=HEADS, mask_padding=mask_padding)
    return MODELS[name](config, ENCODER, rngs=nnx.Rngs(1))


def make_inputs() -> tuple[np.ndarray, np.ndarray]:
    mask = (np.arange(S) < np.array([S, 4, 1])[:, None]).astype(np.int32)
    return np.random.default_rng(0).integers(5, 31, (B, S)) * mask, mask


def pad(array: np.ndarray, length: int) -> np.ndarray:
    return np.pad(array, ((0, 0), (0, length - array.shape[1])))


def test_every_name_has_its_model():
    assert tuple(MODELS) == MODEL_NAMES


@pytest.mark.parametrize("name", BASELINES)
def test_outputs_have_their_shapes(name):
    model = make_model(name)
    output = call(model, *make_inputs())
    pooled = CNN_FILTERS * len(CNN_WIDTHS) if name == "cnn" else H
    assert output.logits.shape == (B, C)
    assert output.pooled_features.shape == (B, pooled)
    assert output.encoder_output.shape == (B, S, H)
    assert model.config.name == name


@pytest.mark.parametrize("name", BASELINES)
def test_padding_moves_logits_in_reference_semantics_only_where_it_is_read(name):
    ids, mask = make_inputs()
    for mask_padding in (True, False):
        model = make_model(name, mask_padding)
        short = call(model, ids, mask).logits
        long = call(model, pad(ids, 15), pad(mask, 15)).logits
        moved = np.abs(long - short).max()
        if mask_padding or name in ("attention", "transformer", "linear", "bert"):
            assert moved < 1e-5
        else:
            assert moved > 1e-4


@pytest.mark.parametrize("name", BASELINES)
def test_texts_shorter_than_any_window_are_classified(name):
    model = make_model(name)
    logits = call(model, np.array([[7, 8]]), np.array([[1, 1]])).logits
    longer = call(model, np.array([[7, 8, 0, 0, 0, 0]]), np.array([[1, 1, 0, 0, 0, 0]])).logits
    np.testing.assert_allclose(longer, logits, atol=1e-5)


@pytest.mark.parametrize("name", BASELINES)
def test_rows_without_a_token_stay_finite(name):
    ids, mask = make_inputs()
    ids[1], mask[1] = 0, 0
    assert np.isfinite(call(make_model(name), ids, mask).logits).all()


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_both_directions_are_read(name):
    """The first half of the pooled features hears the text's end last, the second its beginning."""
    network = getattr(make_model(name), name)
    x = np.random.default_rng(0).normal(size=(1, S, H)).astype(np.float32)
    mask = jnp.ones((1, S), bool)
    base = network(jnp.asarray(x), mask)
    for position, half in [(S - 1, slice(0, H // 2)), (0, slice(H // 2, H))]:
        changed = x.copy()
        changed[0, position] += 1
        difference = np.abs(network(jnp.asarray(changed), mask) - base)[0]
        other = slice(H // 2, H) if half.start == 0 else slice(0, H // 2)
        assert difference[half].mean() > difference[other].mean()


@pytest.mark.parametrize("name", BASELINES)
def test_dropouts_have_sites_of_their_own(name):
    sites = [module.site for _, module in nnx.iter_modules(make_model(name)) if isinstance(module, Dropout)]
    assert sorted(sites) == list(range(len(sites)))


def test_heads_must_divide_the_hidden_size():
    with pytest.raises(UserError, match=r"model\.num_attention_heads: expected a number of heads that divides"):
        MODELS["transformer"](ModelConfig(num_classes=C, num_attention_heads=7), ENCODER, rngs=nnx.Rngs(0))
    MODELS["gru"](ModelConfig(num_classes=C, num_attention_heads=7), ENCODER, rngs=nnx.Rngs(0))
