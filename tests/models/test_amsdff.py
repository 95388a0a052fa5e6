"""The classifier: shapes, validation, and what padding and filler may and may not do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from amsdff_jax import EnhancedAMSDFF, UserError
from amsdff_jax.config import EncoderConfig, ModelConfig
from amsdff_jax.models.dropout import Dropout
from amsdff_jax.models.model_folder import SavedModel, load_model, save_model
from amsdff_jax.models.state_dict import to_state_dict
from tests.compiled import call
from tests.conftest import TINY_HEAD

ENCODER = EncoderConfig(vocab_size=31, max_position_embeddings=17, dim=20, n_layers=1, n_heads=2, hidden_dim=28)
B, S, H, C, E, K, HEADS = 3, 7, 20, 6, 4, 2, 5


def make_model(mask_padding: bool = True, **fields) -> EnhancedAMSDFF:
    config = ModelConfig(num_classes=C, kernel_sizes=(3, 7), num_experts=E, num_attention_heads=HEADS,
                         mask_padding=mask_padding, **fields)  # fmt: skip
    return EnhancedAMSDFF(config, ENCODER, rngs=nnx.Rngs(1))


def make_inputs(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    mask = (np.arange(S) < np.array([S, 4, 1])[:, None]).astype(np.int32)
    return random.integers(5, 31, (B, S)) * mask, mask


def test_every_output_has_its_shape():
    output = call(make_model(), *make_inputs())
    shapes = {name: value.shape for name, value in output._asdict().items()}
    assert shapes == {
        "logits": (B, C),
        "pooled_features": (B, H),
        "sequence_features": (B, S, H),
        "multi_scale_features": (B, S, H),
        "enhanced_features": (B, S, H),
        "encoder_output": (B, S, H),
        "token_attention": (B, S),
        "expert_gates": (B, E),
        "cls_attention": (B, HEADS, S),
    }


def test_attention_and_gates_are_distributions_over_real_tokens():
    ids, mask = make_inputs()
    output = call(make_model(), ids, mask)
    for weights in (output.token_attention, output.expert_gates, output.cls_attention):
        np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-6)
    assert np.abs(output.token_attention * (1 - mask)).max() == 0
    assert np.abs(output.cls_attention * (1 - mask)[:, None]).max() == 0


@pytest.mark.parametrize("mask_padding", [True, False])
def test_rows_without_a_token_stay_finite_and_change_nothing(mask_padding):
    model = make_model(mask_padding, dropout_rate=0.0, attention_dropout_rate=0.0, expert_dropout_rate=0.0,
                       pooling_dropout_rate=0.0, classifier_dropout_rates=(0.0, 0.0))  # fmt: skip
    model.set_attributes(Dropout, rate=0.0)
    ids, mask = make_inputs()
    filler = np.zeros((2, S), np.int32)

    def train_pass(ids, mask):
        model_copy = nnx.clone(model)
        model_copy.train()
        logits = call(model_copy, ids, mask).logits
        return logits, to_state_dict(model_copy)

    logits, state = train_pass(ids, mask)
    with_filler, state_with_filler = train_pass(np.concatenate([ids, filler]), np.concatenate([mask, filler]))
    assert np.isfinite(with_filler).all()
    np.testing.assert_allclose(with_filler[:B], logits, atol=1e-5)
    for name in state:
        np.testing.assert_allclose(state_with_filler[name], state[name], atol=1e-5, err_msg=name)


def test_a_token_sees_its_neighbours_only_as_far_as_the_widest_kernel():
    # Through the convolutions alone: with kernels 3 and 7 a feature at position 0 reaches position 3, not 4.
    convs = make_model().multi_scale_attention.scale_convs
    mask = jnp.ones((1, S), bool)

    def total(x, position):
        return sum(conv(x, mask)[0, position].sum() for conv in convs)

    gradients = jax.jit(jax.grad(total))
    for position, reached in [(1, True), (3, True), (4, False)]:
        gradient = gradients(jax.random.normal(jax.random.key(0), (1, S, H)), position)
        assert bool(np.abs(gradient[0, 0]).max() > 0) == reached, position


def test_dropout_needs_a_key_and_repeats_with_it():
    model = make_model()
    ids, mask = make_inputs()
    evaluated = call(model, ids, mask).logits
    model.train()
    with pytest.raises(ValueError, match="needs dropout_key"):
        model(ids, mask)
    first, again, other = (call(model, ids, mask, jax.random.key(key)).logits for key in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3
    assert np.abs(first - evaluated).max() > 1e-3


def test_dropout_drops_its_share_and_keeps_the_mean():
    dropout = Dropout(0.3)
    x = jnp.ones((250, 400))
    one, two = (np.asarray(dropout(x, jnp.array(seed, np.uint32))) for seed in ([1, 2], [1, 3]))
    for dropped in (one, two):
        assert (dropped == 0).mean() == pytest.approx(0.3, abs=0.006)
        assert dropped.mean() == pytest.approx(1, abs=0.01)
        # No pattern along rows or columns.
        assert (dropped == 0).mean(axis=0).std() < 0.04
        assert (dropped == 0).mean(axis=1).std() < 0.04
    assert ((one == 0) & (two == 0)).mean() == pytest.approx(0.09, abs=0.006)
    dropout.site = 1
    assert ((one == 0) & (np.asarray(dropout(x, jnp.array([1, 2], np.uint32))) == 0)).mean() == pytest.approx(
        0.09, abs=0.006
    )


def test_every_dropout_has_a_site_of_its_own():
    sites = [module.site for _, module in nnx.iter_modules(make_model()) if isinstance(module, Dropout)]
    assert sorted(sites) == list(range(len(sites)))
    assert len(sites) == 3 + 1 + 1 + E + 2 + 2


def test_padding_token_never_learns():
    model = make_model(False)
    ids, mask = make_inputs()
    graph, parameters, rest = nnx.split(model, nnx.Param, ...)
    parameters, rest = nnx.to_pure_dict(parameters), nnx.to_pure_dict(rest)
    gradient = jax.jit(jax.grad(lambda p: nnx.merge(graph, p, rest)(ids, mask).logits.sum()))(parameters)
    embedding = gradient["transformer"]["embeddings"]["word_embeddings"]["embedding"]
    assert np.abs(embedding[0]).max() == 0
    assert np.abs(embedding[ids[0, 0]]).max() > 0


def test_bfloat16_computes_close_and_keeps_float32_parameters():
    ids, mask = make_inputs()
    exact, short = (call(make_model(compute_dtype=dtype), ids, mask) for dtype in ("float32", "bfloat16"))
    assert short.logits.dtype == np.float32
    difference = np.abs(exact.logits - short.logits).max()
    assert 0 < difference < 0.1
    assert {value.dtype for name, value in to_state_dict(make_model(compute_dtype="bfloat16")).items()
            if "tracked" not in name} == {np.dtype(np.float32)}  # fmt: skip


def test_more_tokens_than_positions_is_an_error():
    with pytest.raises(ValueError, match="18 tokens, but the encoder has 17 positions"):
        make_model()(np.ones((1, 18), np.int32), np.ones((1, 18), np.int32))


def test_random_encoder_only_on_purpose(tmp_path):
    with pytest.raises(UserError, match=r"model\.encoder: empty; name an encoder"):
        EnhancedAMSDFF.from_config(ModelConfig(encoder="", num_classes=2))
    file = tmp_path / "sizes.json"
    file.write_text(
        '{"model_type": "distilbert", "dim": 24, "n_heads": 2, "n_layers": 1, "hidden_dim": 8, "vocab_size": 9}'
    )
    model = EnhancedAMSDFF.from_config(ModelConfig(encoder="", encoder_config=str(file), num_classes=2))
    assert model.encoder_config.dim == 24


def test_the_encoders_attention_dropout_is_that_of_its_config_or_another(tiny_encoder, tmp_path):
    own = EnhancedAMSDFF.from_pretrained(str(tiny_encoder), 2, **TINY_HEAD)
    assert own.encoder_config.attention_dropout == 0.1
    other = EnhancedAMSDFF.from_pretrained(str(tiny_encoder), 2, encoder_attention_dropout_rate=0.0, **TINY_HEAD)
    rates = {block.attention.dropout.rate for block in other.transformer.transformer.layer}
    assert rates == {other.encoder_config.attention_dropout} == {0.0}
    save_model(tmp_path / "model", SavedModel(other, None, ("a", "b"), 16))
    assert load_model(tmp_path / "model").encoder_config.attention_dropout == 0.0
    with pytest.raises(UserError, match="encoder_attention_dropout_rate: expected from 0 to below 1, or -1"):
        ModelConfig(encoder_attention_dropout_rate=1.0)
