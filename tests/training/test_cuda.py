"""The train step as a CUDA GPU would get it, on a machine without one."""

import jax
import numpy as np
import pytest
from flax import nnx

from amsdff_jax.config import Config, EncoderConfig, ModelConfig
from amsdff_jax.data.batches import Batch
from amsdff_jax.models.amsdff import EnhancedAMSDFF
from amsdff_jax.models.state_dict import parameter_names
from amsdff_jax.training.optimizer import peak_learning_rates
from amsdff_jax.training.step import initial_state, make_train_step, split_model

ENCODER = EncoderConfig(vocab_size=31, max_position_embeddings=16, dim=24, n_layers=1, n_heads=3, hidden_dim=20)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_train_step_lowers_for_cuda(dtype):
    settings = ModelConfig(num_classes=3, num_attention_heads=3, compute_dtype=dtype, attention="xla")
    model = EnhancedAMSDFF(settings, ENCODER, rngs=nnx.Rngs(0))
    config = Config()
    rates = peak_learning_rates(parameter_names(model), config.train)
    graphs, variables = split_model(model, rates)
    state, optimizer = initial_state(variables, rates, config, total_steps=10)
    batch = Batch(np.ones((4, 8), np.int32), np.ones((4, 8), np.int32), np.zeros(4, np.int32))
    step = jax.jit(make_train_step(graphs.train, config, optimizer, np.ones(3, np.float32)))
    # An exported function takes plain arrays: the key's data, and not the key.
    exported = jax.export.export(
        jax.jit(lambda state, batch, key_data: step(state, batch, jax.random.wrap_key_data(key_data))),
        platforms=["cuda"],
        # XLA lays the arrays out; what is exported here is thrown away.
        disabled_checks=[jax.export.DisabledSafetyCheck.custom_call("LayoutConstraint")],
    )(state, batch, jax.random.key_data(jax.random.key(0)))
    assert exported.platforms == ("cuda",)
    assert "dot_general" in exported.mlir_module()
    assert ("bf16" in exported.mlir_module()) == (dtype == "bfloat16")
