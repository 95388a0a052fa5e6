"""Stage 5: three ways from token features to one vector a text, side by side."""

import jax
import jax.numpy as jnp
from flax import nnx

from amsdff_jax.config import ModelConfig
from amsdff_jax.models.attention import MultiheadAttention
from amsdff_jax.models.dropout import Dropout
from amsdff_jax.models.layers import GELU, Linear, Sequential, Tanh

LOWEST = jnp.finfo(jnp.float32).min


class AttentionPool(Sequential):
    """A mean over the tokens, weighted by a score of each token by itself."""

    def __init__(self, hidden_size: int, *, dtype, rngs: nnx.Rngs):
        super().__init__(
            [
                Linear(hidden_size, hidden_size // 2, dtype=dtype, rngs=rngs),
                Tanh(),
                Linear(hidden_size // 2, 1, dtype=dtype, rngs=rngs),
            ]
        )

    def __call__(self, x: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
        """[B,S,H] and mask [B,S] -> [B,H] and the weights [B,S] float32."""
        scores = super().__call__(x)[..., 0].astype(jnp.float32)  # [B,S]
        weights = jax.nn.softmax(jnp.where(mask, scores, LOWEST), axis=-1)
        return jnp.einsum("bs,bsh->bh", weights.astype(x.dtype), x), weights


class PoolingStrategy(nnx.Module):
    """Attention pool, learned query and maximum, fused by two dense layers."""

    def __init__(self, config: ModelConfig, hidden_size: int, *, dtype, rngs: nnx.Rngs):
        self.cls_token = nnx.Param(jax.random.normal(rngs.params(), (1, 1, hidden_size)))
        self.attention_pooling = AttentionPool(hidden_size, dtype=dtype, rngs=rngs)
        self.cls_attention = MultiheadAttention(
            hidden_size, config.num_attention_heads, config.attention_dropout_rate, dtype=dtype, rngs=rngs
        )
        self.pooling_fusion = Sequential(
            [
                Linear(3 * hidden_size, hidden_size, dtype=dtype, rngs=rngs),
                GELU(),
                Dropout(config.pooling_dropout_rate),
                Linear(hidden_size, hidden_size, dtype=dtype, rngs=rngs),
            ]
        )

    def __call__(
        self, x: jax.Array, mask: jax.Array, seed: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Pools [B,S,H] where `mask` [B,S] is true.

        Returns:
          Pooled features [B,H], the attention pool's weights [B,S] and the learned query's
          attention weights [B,heads,S], the weights in float32.
        """
        pools, token_attention, cls_attention = self.pool(x, mask, seed)
        return self.pooling_fusion(pools, seed), token_attention, cls_attention

    def pool(
        self, x: jax.Array, mask: jax.Array, seed: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """The same before the fusion: the three pools side by side, [B,3H], and both kinds of weights."""
        attention_pool, token_attention = self.attention_pooling(x, mask)

        query = jnp.broadcast_to(self.cls_token[...], (x.shape[0], 1, x.shape[2]))
        cls_pool, cls_attention = self.cls_attention.query_with_weights(query, x, mask, seed)

        has_token = mask.any(axis=1, keepdims=True)
        max_pool = jnp.where(has_token, jnp.where(mask[..., None], x, LOWEST).max(axis=1), 0)

        pools = jnp.concatenate([attention_pool, cls_pool[:, 0], max_pool], axis=-1)  # [B,3H]
        return pools, token_attention, cls_attention[:, :, 0]
