"""Leaving a part out is the same as a model whose weights cannot hear it."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from amsdff_jax.explanation.ablation import POOLS, leave_out_pools, leave_out_scales
from amsdff_jax.models.state_dict import load_state_dict, to_state_dict
from tests.compiled import call

S, REAL = 11, 7


@pytest.fixture(params=[True, False], ids=["masked", "reference"])
def model(request, make_saved):
    model = nnx.clone(make_saved(mask_padding=request.param).model)
    # As after training: statistics and BatchNorm parameters that are not those of a new model.
    random = np.random.default_rng(4)
    tensors = to_state_dict(model)
    for name in tensors:
        if ".2." in name and "scale_convs" in name and "num_batches" not in name:
            tensors[name] = random.uniform(0.5, 1.5, tensors[name].shape).astype(np.float32)
    load_state_dict(model, tensors, "test")
    return model


@pytest.fixture
def inputs():
    mask = (jnp.arange(S) < REAL)[None]
    return jnp.asarray(np.random.default_rng(2).integers(5, 40, (1, S))) * mask, mask


def changed(model, name, columns=slice(None)):
    """The model with zeros in a tensor, by PyTorch's name, or in columns of it."""
    model, tensors = nnx.clone(model), to_state_dict(model)
    tensors[name][..., columns] = 0
    load_state_dict(model, tensors, "test")
    return model


def test_a_scale_left_out_is_one_whose_batch_norm_gives_zero(model, inputs):
    output = call(model, *inputs)
    found = leave_out_scales(model, output, inputs[1])
    for scale in range(len(model.config.kernel_sizes)):
        name = f"multi_scale_attention.scale_convs.{scale}.2"
        expected = call(changed(changed(model, f"{name}.weight"), f"{name}.bias"), *inputs).logits  # GELU(0) = 0
        np.testing.assert_allclose(found[scale], expected[0], atol=1e-5)
        assert np.abs(found[scale] - output.logits[0]).max() > 1e-2


def test_a_pool_left_out_is_one_that_the_fusion_has_no_weights_for(model, inputs):
    output = call(model, *inputs)
    found = leave_out_pools(model, output, inputs[1])
    size = output.pooled_features.shape[-1]
    for pool in range(len(POOLS)):
        columns = slice(pool * size, (pool + 1) * size)
        expected = call(changed(model, "pooling_strategy.pooling_fusion.0.weight", columns), *inputs).logits
        np.testing.assert_allclose(found[pool], expected[0], atol=1e-5)
        assert np.abs(found[pool] - output.logits[0]).max() > 1e-2


def test_the_model_is_left_as_it_was(model, inputs):
    before = to_state_dict(model)
    output = call(model, *inputs)
    leave_out_scales(model, output, inputs[1])
    leave_out_pools(model, output, inputs[1])
    for name, tensor in to_state_dict(model).items():
        np.testing.assert_array_equal(tensor, before[name])
