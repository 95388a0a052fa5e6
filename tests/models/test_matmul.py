"""The dense layer's own backward pass, attention, folding and rounding: the same numbers as the plain form."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from amsdff_jax.config import EncoderConfig, ModelConfig
from amsdff_jax.models import dispatch, layers, matmul
from amsdff_jax.models.amsdff import EnhancedAMSDFF
from amsdff_jax.models.attention import attend, attend_with_weights
from amsdff_jax.models.baselines import LinearClassifier
from amsdff_jax.models.dispatch import AMPERE, capability_of, choose_attention, choose_compute_dtype, fits_cudnn
from amsdff_jax.models.dropout import Dropout, drop_slices, dropout_seed
from amsdff_jax.models.fusion import DynamicFusion
from amsdff_jax.models.layers import BatchNorm
from amsdff_jax.models.matmul import dense, inner_products, weighted_sums
from amsdff_jax.models.variables import Variables, make_inference_variables


def draw(*shape: int, seed: int = 0) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape)


# What one platform computes, what the others do, and the shapes of the arguments.
FORMS = {
    "dense on a GPU": (matmul._affine_on_gpu, matmul._affine, [(2, 9, 5), (5, 6), (6,)]),
    "gradients on a GPU": (matmul._gradients_on_gpu, matmul._gradients, [(2, 9, 5), (5, 6), (2, 9, 6)]),
    "dense on a TPU": (matmul._affine_on_tpu, matmul._affine, [(2, 9, 5), (5, 6), (6,)]),
    "gradients on a TPU": (matmul._gradients_on_tpu, matmul._gradients, [(2, 9, 5), (5, 6), (2, 9, 6)]),
    "gradients of one row a text on a TPU": (matmul._gradients_on_tpu, matmul._gradients, [(9, 5), (5, 6), (9, 6)]),
    "inner products on a TPU": (
        matmul._inner_products_on_tpu,
        matmul._inner_products,
        [(2, 5, 3, 4), (2, 7, 3, 4)],
    ),
    "their gradients on a TPU": (
        matmul._inner_product_gradients_on_tpu,
        matmul._inner_product_gradients,
        [(2, 5, 3, 4), (2, 7, 3, 4), (2, 3, 5, 7)],
    ),
    "weighted sums on a TPU": (
        matmul._weighted_sums_on_tpu,
        matmul._weighted_sums,
        [(2, 3, 5, 7), (2, 7, 3, 4)],
    ),
    "gradients of the sums on a TPU": (
        matmul._weighted_sum_gradients_on_tpu,
        matmul._weighted_sum_gradients,
        [(2, 3, 5, 7), (2, 7, 3, 4), (2, 3, 5, 4)],
    ),
}


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 2e-2)])
@pytest.mark.parametrize("name", FORMS)
def test_other_platforms_get_other_forms_of_the_same_numbers(name, dtype, tolerance):
    form, default, shapes = FORMS[name]
    arguments = [draw(*shape, seed=seed).astype(dtype) for seed, shape in enumerate(shapes)]
    pairs = zip(jax.tree.leaves(form(*arguments)), jax.tree.leaves(default(*arguments)), strict=True)
    for value, expected in pairs:
        assert value.dtype == expected.dtype and value.shape == expected.shape
        value, expected = value.astype("float32"), expected.astype("float32")
        np.testing.assert_allclose(value, expected, atol=tolerance * float(jnp.abs(expected).max()))


@pytest.mark.parametrize("tokens", [64, 96, 7], ids=["a block", "blocks", "odd"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 2e-2)])
def test_dense_and_its_gradients_are_those_of_the_plain_product(tokens, dtype, tolerance):
    x, kernel, bias, weight = draw(3, tokens, 5), draw(5, 6, seed=1), draw(6, seed=2), draw(3, tokens, 6, seed=3)

    def ours(x, kernel, bias):
        return (dense(x, kernel, bias, jnp.dtype(dtype)).astype(jnp.float32) * weight).sum()

    def plain(x, kernel, bias):
        return ((x @ kernel + bias) * weight).sum()

    np.testing.assert_allclose(dense(x, kernel, bias, jnp.dtype(dtype)), x @ kernel + bias, atol=8 * tolerance)
    found = jax.jit(jax.grad(ours, argnums=(0, 1, 2)))(x, kernel, bias)
    for value, expected in zip(found, jax.grad(plain, argnums=(0, 1, 2))(x, kernel, bias), strict=True):
        assert value.shape == expected.shape and value.dtype == jnp.float32
        np.testing.assert_allclose(value, expected, atol=tolerance * float(jnp.abs(expected).max()))


def convolve(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    dimensions = ("NWC", "WIO", "NWC")
    kernel = kernel[:, None]
    return jax.lax.conv_general_dilated(x, kernel, (1,), "SAME", None, None, dimensions, x.shape[-1]) + bias


def standardize(x: jax.Array, epsilon: float = 1e-5) -> jax.Array:
    return (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + epsilon)


# What is written with a backward pass of its own, the plain form, and the shapes of the arguments.
OWN_GRADIENTS = {
    "inner products": (
        inner_products,
        lambda left, right: jnp.einsum("bqnd,bsnd->bnqs", left, right),
        [(2, 5, 3, 4), (2, 7, 3, 4)],
    ),
    "weighted sums": (
        weighted_sums,
        lambda weights, rows: jnp.einsum("bnqs,bsnd->bnqd", weights, rows),
        [(2, 3, 5, 7), (2, 7, 3, 4)],
    ),
    "convolution": (layers._convolve, convolve, [(2, 7, 3), (5, 3), (3,)]),
    "standardization": (lambda x: layers._standardize(x.astype("float32"), 1e-5), standardize, [(2, 5, 6)]),
}


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 2e-2)])
@pytest.mark.parametrize("name", OWN_GRADIENTS)
def test_own_gradients_are_those_of_the_plain_form(name, dtype, tolerance):
    ours, plain, shapes = OWN_GRADIENTS[name]
    arguments = [draw(*shape, seed=seed).astype(dtype) for seed, shape in enumerate(shapes)]
    exact = [argument.astype(jnp.float32) for argument in arguments]
    expected, back = jax.vjp(plain, *exact)
    found, own_back = jax.vjp(jax.jit(ours), *arguments)
    np.testing.assert_allclose(found, expected, atol=8 * tolerance)
    cotangent = draw(*expected.shape, seed=9).astype(found.dtype)
    for argument, value, gradient in zip(
        arguments, own_back(cotangent), back(cotangent.astype("float32")), strict=True
    ):
        assert value.dtype == argument.dtype
        np.testing.assert_allclose(value.astype(jnp.float32), gradient, atol=tolerance * float(jnp.abs(gradient).max()))


def test_dropouts_of_slices_together_are_those_of_each():
    dropouts, x = [Dropout(0.4) for _ in range(3)], draw(2, 5, 3, 4)
    for site, dropout in enumerate(dropouts):
        dropout.site = site
    seed = dropout_seed(jax.random.key(1))
    apart = jnp.stack([dropout(x[:, :, number], seed) for number, dropout in enumerate(dropouts)], axis=2)
    np.testing.assert_array_equal(drop_slices(dropouts, x, 2, seed), apart)
    assert len({(apart[:, :, number] == 0).tobytes() for number in range(3)}) == 3


def test_attention_is_softmax_of_scaled_scores_over_the_keys_that_count():
    query, key, value = (draw(2, 5, 3, 4, seed=seed) for seed in range(3))
    mask = jnp.array([[True] * 5, [True, True, False, True, False]])
    scores = jnp.einsum("bqnd,bsnd->bnqs", query, key) / 2
    weights = jax.nn.softmax(jnp.where(mask[:, None, None], scores, -jnp.inf), axis=-1)
    expected = jnp.einsum("bnqs,bsnd->bqnd", weights, value).reshape(2, 5, 12)
    off = Dropout(0.0)
    np.testing.assert_allclose(attend(query, key, value, mask[:, None, None], off, None), expected, atol=1e-6)
    context, found = attend_with_weights(query[:, :2], key, value, mask, off, None)
    np.testing.assert_allclose(context, expected[:, :2], atol=1e-6)
    np.testing.assert_allclose(found, weights[:, :, :2], atol=1e-6)


def test_a_text_without_tokens_attends_evenly_to_finite_values():
    query, key, value = (draw(1, 5, 3, 4, seed=seed) for seed in range(3))
    context = attend(query, key, value, jnp.zeros((1, 1, 1, 5), bool), Dropout(0.0), None)
    np.testing.assert_allclose(context, jnp.broadcast_to(value.mean(1).reshape(1, 1, 12), (1, 5, 12)), atol=1e-6)


def test_experts_as_two_products_are_the_sum_of_gated_experts():
    fusion = DynamicFusion(ModelConfig(num_experts=3), 8, dtype=jnp.float32, rngs=nnx.Rngs(0))
    for number, expert in enumerate(fusion.experts):
        expert[3].bias.set_value(draw(8, seed=number))
    fusion.eval()
    x, mask = draw(2, 5, 8), jnp.ones((2, 5), bool)
    mixed, gates = fusion(x, mask)
    expected = sum(gates[:, e, None, None] * expert(x) for e, expert in enumerate(fusion.experts))
    np.testing.assert_allclose(mixed, expected, atol=1e-5)
    assert float(jnp.abs(gates[:, 0] - gates[:, 1]).max()) > 1e-3


def test_batch_norm_in_eval_mode_is_its_affine_form():
    norm = BatchNorm(6)
    for seed, name in enumerate(("scale", "bias", "running_mean")):
        getattr(norm, name).set_value(draw(6, seed=seed))
    norm.running_var.set_value(jnp.exp(draw(6, seed=5)))
    norm.use_running_average = True
    x = draw(2, 5, 6, seed=6)
    scale, shift = norm.affine()
    expected = (x - norm.running_mean[...]) / jnp.sqrt(norm.running_var[...] + 1e-5) * norm.scale[...] + norm.bias[...]
    np.testing.assert_allclose(x * scale + shift, expected, atol=1e-5)
    np.testing.assert_allclose(norm(x, jnp.ones((2, 5), bool)), expected, atol=1e-5)


SIZES = EncoderConfig(vocab_size=31, max_position_embeddings=16, dim=12, n_layers=2, n_heads=3, hidden_dim=20)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_variables_for_inference_change_no_logits(dtype):
    model = EnhancedAMSDFF(
        ModelConfig(num_classes=3, num_attention_heads=2, compute_dtype=dtype), SIZES, rngs=nnx.Rngs(0)
    )
    graph, variables = nnx.graphdef(model), Variables.of(model)
    prepared = make_inference_variables(graph)(variables)
    kinds = {leaf.dtype.name for leaf in jax.tree.leaves(prepared.trainable)}
    assert kinds == {"float32", dtype}
    ids, mask = jnp.arange(10).reshape(2, 5) + 1, jnp.ones((2, 5), int)
    forward = jax.jit(lambda variables: nnx.merge(graph, *variables)(ids, mask).logits)
    expected = np.asarray(forward(variables))
    # In float32 it is the same program; in bfloat16 the compiler may keep more digits where it sees the rounding.
    tolerance = 0 if dtype == "float32" else 2**-6 * np.abs(expected).max()
    np.testing.assert_allclose(forward(prepared), expected, atol=tolerance, rtol=0)


def test_rematerialization_computes_products_again_and_changes_no_gradient():
    def gradients_and_products(rematerialize):
        model = LinearClassifier(ModelConfig(num_classes=3, rematerialize=rematerialize), SIZES, rngs=nnx.Rngs(0))
        model.train()
        graph, *states = nnx.split(model, nnx.Param, ...)
        parameters, others = map(nnx.to_pure_dict, states)
        ids, mask = jnp.ones((9, 16), int), jnp.ones((9, 16), int)

        def loss(parameters):
            return nnx.merge(graph, parameters, others)(ids, mask, dropout_key=jax.random.key(1)).logits.sum()

        lowered = jax.jit(jax.grad(loss)).lower(parameters)
        return lowered.compile()(parameters), lowered.as_text().count("dot_general")

    (kept, products), (computed_again, more_products) = gradients_and_products(False), gradients_and_products(True)
    largest = max(float(jnp.abs(gradient).max()) for gradient in jax.tree.leaves(kept))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5 * largest), kept, computed_again)
    assert more_products > products


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"dtype": jnp.float32}, False),
        ({"length": 63}, False),
        ({"head_size": 12}, False),
        ({"head_size": 136}, False),
        ({"has_dropout": True}, False),
    ],
)
def test_where_cudnn_fits(changes, expected):
    usual = {"dtype": jnp.bfloat16, "length": 64, "head_size": 32, "has_dropout": False}
    assert fits_cudnn(**usual | changes) == expected


@pytest.mark.parametrize("mask", [(3, 1, 1, 10), (3, 1, 10, 10), (1, 1, 10, 10)])
def test_cudnn_gets_arrays_of_the_shapes_that_it_takes(mask, monkeypatch):
    # JAX checks the shapes once it has found cuDNN, which is not here.
    cudnn = pytest.importorskip("jax._src.cudnn.fused_attention_stablehlo", reason="a private module of JAX")
    monkeypatch.setattr(cudnn, "check_cudnn_version", lambda: 91000)
    query, admitted = jax.ShapeDtypeStruct((3, 10, 2, 16), jnp.bfloat16), jax.ShapeDtypeStruct(mask, bool)

    def attended(query, admitted):
        return attend(query, query, query, admitted, Dropout(0.0), None, "cudnn")

    assert jax.eval_shape(attended, query, admitted).shape == (3, 10, 32)


@pytest.mark.parametrize(
    ("features", "xla_flags", "expected"),
    [
        ("avx2 avx512f avx512_bf16", "", "bfloat16"),
        ("avx512f amx_bf16 amx_tile", "--xla_dump_to=x", "bfloat16"),
        ("avx512f amx_bf16", "--xla_cpu_max_isa=AMX_FP16", "bfloat16"),
        ("avx512f avx512_bf16", "--xla_cpu_max_isa=avx512_bf16 --xla_dump_to=x", "bfloat16"),
        ("avx512f avx512_bf16", "--xla_cpu_max_isa=AVX512_VNNI", "float32"),
        ("avx2 avx512f", "", "float32"),
        ("", "", "float32"),
    ],
)
def test_a_cpu_computes_in_bfloat16_where_it_multiplies_it(features, xla_flags, expected, monkeypatch):
    monkeypatch.setattr(dispatch, "processor_info", lambda: {"flags": features})
    monkeypatch.setenv("XLA_FLAGS", xla_flags)
    assert choose_compute_dtype("auto", "cpu") == expected
    assert choose_compute_dtype("float32", "cpu") == jnp.float32


def test_choices_by_platform():
    platforms = ("gpu", "tpu", "cpu")
    dtypes = [choose_compute_dtype("auto", platform) for platform in platforms]
    assert dtypes == [jnp.bfloat16, jnp.bfloat16, jnp.float32]  # of the CPU as the tests have it, see conftest.py
    assert choose_compute_dtype("float32", "gpu") == jnp.float32
    assert [choose_attention("auto", platform) for platform in platforms] == ["cudnn", "xla", "xla"]
    assert choose_attention("xla", "gpu") == "xla"


@pytest.mark.parametrize(
    ("capability", "modern"), [("7.5", False), ("8.0", True), ("10.0", True), ("gfx90a", False), (None, False)]
)
def test_a_gpu_before_ampere_has_neither_bfloat16_nor_cudnns_attention(capability, modern, monkeypatch):
    device = types.SimpleNamespace(**{} if capability is None else {"compute_capability": capability})
    assert (capability_of(device) >= AMPERE) == modern
    monkeypatch.setattr(dispatch.jax, "local_devices", lambda backend: [device])
    assert (choose_compute_dtype("auto", "gpu") == jnp.bfloat16) == modern
    assert (choose_attention("auto", "gpu") == "cudnn") == modern
    assert choose_compute_dtype("bfloat16", "gpu") == jnp.bfloat16


@pytest.mark.parametrize("kind", [EnhancedAMSDFF, LinearClassifier])
def test_a_model_computes_as_suits_the_devices_that_it_is_put_on(kind):
    config = ModelConfig(num_classes=3, num_attention_heads=2)
    ids, mask = jnp.arange(10).reshape(2, 5) + 1, jnp.ones((2, 5), int)
    model = kind(config, SIZES, rngs=nnx.Rngs(0), platform="gpu")  # as on a machine with a GPU
    attention = model.transformer.transformer.layer[0].attention
    assert (attention.q_lin.dtype, attention.implementation) == (jnp.bfloat16, "cudnn")
    on_cpu = model.for_platform("cpu")
    assert on_cpu.for_platform("cpu") is on_cpu
    expected = kind(config, SIZES, rngs=nnx.Rngs(0), platform="cpu")(ids, mask).logits
    np.testing.assert_array_equal(on_cpu(ids, mask).logits, expected)
    assert model.config == on_cpu.config
