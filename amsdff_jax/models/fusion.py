"""Stage 4: expert networks, mixed by one learned weight per text and expert."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Float32

from amsdff_jax.config import ModelConfig
from amsdff_jax.models.dropout import Dropout, drop_slices
from amsdff_jax.models.layers import Linear, Sequential, gelu, masked_mean
from amsdff_jax.models.matmul import dense
from amsdff_jax.models.shapes import Features, Mask, Seed


class DynamicFusion(nnx.Module):
    """E two-layer experts and a softmax gate that reads the mean of the tokens."""

    def __init__(self, config: ModelConfig, hidden_size: int, *, dtype: DTypeLike, rngs: nnx.Rngs):
        def linear() -> Linear:
            return Linear(hidden_size, hidden_size, dtype=dtype, rngs=rngs)

        self.experts = nnx.List(
            [
                Sequential([linear(), gelu, Dropout(config.expert_dropout_rate), linear()])
                for _ in range(config.num_experts)
            ]
        )
        self.gate = Sequential([Linear(hidden_size, config.num_experts, dtype=jnp.float32, rngs=rngs), jax.nn.softmax])
        self.dtype = dtype
        self.mask_padding = config.mask_padding

    def __call__(self, x: Features, mask: Mask, seed: Seed | None = None) -> tuple[Features, Float32[Array, "B E"]]:
        """The mixed features, and the gates: weights of the experts, of which a text's sum to 1."""
        gates = self.gate(masked_mean(x, mask if self.mask_padding else jnp.ones_like(mask)))
        return self._mix(x, gates, seed), gates

    def _mix(self, x: Features, gates: Float[Array, "B E"], seed: Seed | None) -> Features:
        """The sum over the experts of gate times expert(x), as two products over all experts at once.

        The gates are applied between the two, so that the second sums over the experts too.
        """
        first, _, dropouts, second = zip(*self.experts, strict=True)
        kernel = jnp.concatenate([layer.kernel[...] for layer in first], axis=-1)  # [H,E*H]
        bias = jnp.concatenate([layer.bias[...] for layer in first])
        hidden = gelu(dense(x, kernel, bias, self.dtype)).reshape(*x.shape[:2], len(first), -1)  # [B,S,E,H]
        hidden = drop_slices(dropouts, hidden, 2, seed)
        gated = (hidden * gates[:, None, :, None]).reshape(*x.shape[:2], -1)
        kernel = jnp.concatenate([layer.kernel[...] for layer in second])  # [E*H,H]
        biases = jnp.stack([layer.bias[...] for layer in second])  # [E,H]
        return dense(gated, kernel, jnp.zeros_like(biases[0]), self.dtype) + (gates @ biases)[:, None]
