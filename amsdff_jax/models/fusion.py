"""Stage 4: expert networks, mixed by one learned weight per text and expert."""

import jax
import jax.numpy as jnp
from flax import nnx

from amsdff_jax.config import ModelConfig
from amsdff_jax.models.dropout import Dropout
from amsdff_jax.models.layers import GELU, Linear, Sequential, Softmax


class DynamicFusion(nnx.Module):
    """E two-layer experts and a softmax gate that reads the mean of the tokens."""

    def __init__(self, config: ModelConfig, hidden_size: int, *, dtype, rngs: nnx.Rngs):
        self.experts = nnx.List(
            [
                Sequential(
                    [
                        Linear(hidden_size, hidden_size, dtype=dtype, rngs=rngs),
                        GELU(),
                        Dropout(config.expert_dropout_rate),
                        Linear(hidden_size, hidden_size, dtype=dtype, rngs=rngs),
                    ]
                )
                for _ in range(config.num_experts)
            ]
        )
        self.gate = Sequential([Linear(hidden_size, config.num_experts, dtype=jnp.float32, rngs=rngs), Softmax()])
        self.mask_padding = config.mask_padding

    def __call__(self, x: jax.Array, mask: jax.Array, seed: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        """[B,S,H] and mask [B,S] -> mixed features [B,S,H] and gates [B,E] float32."""
        averaged = mask if self.mask_padding else jnp.ones_like(mask)
        weights = averaged.astype(jnp.float32)[..., None]
        mean = (x * weights).sum(1) / jnp.maximum(weights.sum(1), 1.0)  # [B,H]
        gates = self.gate(mean)
        # Stacked, not `sum(expert(x) * gates[:, e])`: with a slice for each expert XLA's CPU backend (jaxlib 0.10.2)
        # compiles a wrong gradient of the gate, by 30 % for one text a device (tests/training/test_step.py).
        outputs = jnp.stack([expert(x, seed) for expert in self.experts])  # [E,B,S,H]
        return (outputs * gates.T[:, :, None, None]).sum(0), gates
