"""What a frozen encoder makes of texts is computed once, and again for other weights."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from amsdff_jax.data.batches import plan_batches
from amsdff_jax.data.token_cache import tokenize_once
from amsdff_jax.data.tokenization import load_tokenizer
from amsdff_jax.evaluation import features
from amsdff_jax.evaluation.features import embed_once, encode_once
from amsdff_jax.models.registry import make_model


@pytest.fixture
def model(tiny_config):
    return make_model(tiny_config.replace(model__num_classes=2, model__name="linear").model)


@pytest.fixture
def tokens(tiny_config, tiny_data):
    return tokenize_once(tiny_data.test, load_tokenizer(tiny_config.model.encoder), 24)


def test_features_are_the_encoders_output_and_are_kept(model, tokens, tmp_path, monkeypatch):
    monkeypatch.setenv("AMSDFF_CACHE", str(tmp_path))
    encoded = encode_once(model, tokens)
    (planned, *_) = plan_batches(tokens.lengths, (24,), 7)
    batch = encoded.make_batch(planned)
    ids = np.zeros((7, 24), np.int32)
    for row, index in enumerate(planned.indices):
        own = tokens.token_ids[tokens.offsets[index] : tokens.offsets[index + 1]]
        ids[row, : len(own)] = own
    expected = np.asarray(model.transformer(jnp.asarray(ids), jnp.asarray(batch.attention_mask > 0)))
    real = batch.attention_mask > 0
    np.testing.assert_allclose(batch.features[real], expected[real], atol=4e-3)  # kept in float16
    assert (batch.features[~real] == 0).all()

    monkeypatch.setattr(features, "_encode", None)  # not called again
    np.testing.assert_array_equal(encode_once(model, tokens).features, encoded.features)


def test_other_weights_have_other_features(model, tokens, tmp_path, monkeypatch):
    monkeypatch.setenv("AMSDFF_CACHE", str(tmp_path))
    first = encode_once(model, tokens)
    norm = model.transformer.transformer.layer[0].output_layer_norm
    norm.scale.set_value(norm.scale[...] * 2)
    assert not np.allclose(encode_once(model, tokens).features, first.features, atol=0.1)


def test_other_heads_have_other_features(model, tokens):
    other = nnx.clone(model)
    other.transformer.config = dataclasses.replace(model.encoder_config, n_heads=2)
    assert features._digest(other, tokens) != features._digest(model, tokens)


def test_the_vector_of_a_text_is_the_mean_of_its_tokens_whatever_its_label(model, tokens, tmp_path, monkeypatch):
    monkeypatch.setenv("AMSDFF_CACHE", str(tmp_path))
    encoded, vectors = encode_once(model, tokens), embed_once(model, tokens)
    ranges = zip(tokens.offsets[:-1], tokens.offsets[1:], strict=True)
    means = [encoded.features[first:last].astype(np.float32).mean(0) for first, last in ranges]
    np.testing.assert_allclose(vectors, means, atol=4e-3)
    monkeypatch.setattr(features, "_embed", None)  # not called again
    relabelled = dataclasses.replace(tokens, labels=1 - tokens.labels)
    np.testing.assert_array_equal(embed_once(model, relabelled), vectors)


def test_other_products_have_other_features(tiny_config, tokens):
    settings = tiny_config.replace(model__num_classes=2, model__name="linear").model
    models = [make_model(dataclasses.replace(settings, compute_dtype=dtype)) for dtype in ("float32", "bfloat16")]
    assert features._digest(models[0], tokens) != features._digest(models[1], tokens)
