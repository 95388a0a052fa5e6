"""Fitting new layers to data: features are standardized and keep their meaning, and texts stop looking alike."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from amsdff_jax.models.data_dependent_init import start_near_identity
from amsdff_jax.models.layers import Linear
from amsdff_jax.models.state_dict import to_state_dict
from tests.compiled import call
from tests.models.test_amsdff import H, make_model

TEXTS, S = 41, 11


@nnx.jit
def fit(model, encoder_output, mask):
    model.fit_new_layers(encoder_output, mask)


def make_features(texts: int = TEXTS) -> tuple[jax.Array, jax.Array]:
    """Features with a large common part, as encoders have, and texts of 1 to S tokens."""
    random = np.random.default_rng(0)
    mask = np.arange(S) < random.integers(1, S + 1, texts)[:, None]
    features = random.normal(0.0, 0.3, (texts, S, H)) + random.normal(0.0, 2.0, H)
    return jnp.asarray(features, jnp.float32), jnp.asarray(mask)


def read(model, features, mask):
    return nnx.jit(lambda model: model.classify(features, mask))(model)


def assert_standardized(rows: np.ndarray, tolerance: float = 1e-4) -> None:
    np.testing.assert_allclose(rows.mean(0), 0, atol=tolerance)
    np.testing.assert_allclose(rows.std(0), 1, atol=tolerance)


@pytest.mark.parametrize(
    "fields",
    [{}, {"mask_padding": False}, {"multi_scale": False}, {"pools": ("query",)}, {"pools": ("attention", "max")}],
    ids=str,
)
def test_features_of_tokens_and_texts_have_mean_0_and_variance_1(fields):
    model, (features, mask) = make_model(**fields), make_features()
    fit(model, features, mask)
    output = read(model, features, mask)
    assert_standardized(np.asarray(output.sequence_features)[mask])
    assert_standardized(np.asarray(output.pooled_features))


def test_what_each_part_adds_has_mean_0_and_variance_1():
    model, (features, mask) = make_model(), make_features()
    fit(model, features, mask)
    enhanced = model.feature_enhancer(features)
    assert_standardized(np.asarray(model.feature_enhancer[0](features))[mask])
    stage = model.multi_scale_attention
    scales = stage.convolve(enhanced, mask)
    depthwise, pointwise, batch_norm = stage.scale_convs[1]
    visible = jnp.where(mask[..., None], enhanced, 0)
    normalized = batch_norm(pointwise(depthwise(visible)), mask)
    assert_standardized(np.asarray(normalized)[mask], tolerance=2e-3)  # BatchNorm's epsilon shows
    attended = stage.scale_fusion(scales, mask)
    assert_standardized(np.asarray(attended)[mask])
    assert_standardized(np.asarray(stage.output_projection(attended))[mask])
    query = jnp.broadcast_to(model.pooling_strategy.cls_token[...], (TEXTS, 1, H))
    sequence = read(model, features, mask).sequence_features
    answer, _ = model.pooling_strategy.cls_attention.query_with_weights(query, sequence, mask)
    assert_standardized(np.asarray(answer)[:, 0])


def test_features_go_on_meaning_what_the_encoder_made_them_mean():
    random, fitted, (features, mask) = make_model(), make_model(), make_features()
    fit(fitted, features, mask)

    def likeness(before, after) -> float:
        """Correlation over rows of a feature before and after a stage, the median of all features."""
        return float(np.median(np.diag(np.corrcoef(np.asarray(before).T, np.asarray(after).T)[:H, H:])))

    for model, low, high in ((fitted, 0.4, 1.0), (random, -0.2, 0.2)):
        output = read(model, features, mask)
        assert low < likeness(features[mask], output.enhanced_features[mask]) < high
        attention = model.multi_scale_attention.scale_fusion.out_proj
        context = jnp.asarray(np.random.default_rng(1).normal(size=(601, H)), jnp.float32)
        assert low < likeness(context, model.multi_scale_attention.output_projection(attention(context))) < high
        assert low < likeness(output.multi_scale_features[mask], output.sequence_features[mask]) < high
        assert low < likeness(context, model.pooling_strategy.cls_attention.out_proj(context)) < high
        assert low < likeness(context, model.pooling_strategy.pooling_fusion(jnp.tile(context, 3))) < high


def test_a_layer_that_starts_near_the_identity_gives_the_mean_of_its_parts_but_not_exactly():
    one, other = (Linear(15, 5, dtype=np.float32, rngs=nnx.Rngs(seed)) for seed in range(2))
    start_near_identity([one, other])
    x = jnp.asarray(np.random.default_rng(0).normal(size=(601, 15)), jnp.float32)
    mean = x.reshape(-1, 3, 5).mean(1)
    for layer in (one, other):
        given = np.asarray(layer(x))
        correlation = np.corrcoef(given.T, mean.T)[:5, 5:]
        assert (correlation.argmax(1) == np.arange(5)).all()
        assert 0.1 < (given - mean).std() < 0.5
    assert not np.allclose(one(x), other(x), atol=0.1)


def test_texts_look_less_alike_to_the_classifier():
    random, fitted, (features, mask) = make_model(), make_model(), make_features()
    fit(fitted, features, mask)

    def likeness(model) -> float:
        pooled = np.asarray(read(model, features, mask).pooled_features)
        unit = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
        return float((unit @ unit.T)[~np.eye(TEXTS, dtype=bool)].mean())

    assert likeness(random) > 0.9
    assert abs(likeness(fitted)) < 0.05


def test_padding_and_rows_without_a_token_do_not_count():
    alone, padded, (features, mask) = make_model(), make_model(), make_features()
    fit(alone, features, mask)
    more = jnp.pad(features, ((0, 3), (0, 4), (0, 0)), constant_values=9.0)
    fit(padded, more, jnp.pad(mask, ((0, 3), (0, 4))))
    for name, value in to_state_dict(alone).items():
        np.testing.assert_allclose(to_state_dict(padded)[name], value, atol=1e-4, err_msg=name)


def test_a_single_text_leaves_everything_finite():
    model, (features, mask) = make_model(), make_features(1)
    fit(model, features, mask)
    for value in jax.tree.leaves(to_state_dict(model)):
        assert np.isfinite(value).all()


def test_the_encoder_and_the_last_layer_keep_their_weights():
    random, fitted, (features, mask) = make_model(), make_model(), make_features()
    fit(fitted, features, mask)
    before, after = to_state_dict(random), to_state_dict(fitted)
    same = [name for name in before if np.array_equal(before[name], after[name])]
    assert {name for name in before if name.startswith("transformer.")} <= set(same)
    assert {"classifier.8.weight", "classifier.8.bias", "dynamic_fusion.gate.0.weight"} <= set(same)
    assert call(fitted, np.ones((2, 5), np.int32), np.ones((2, 5), np.int32)).logits.shape == (2, 6)
