"""Stage 5: three ways from token features to one vector a text, side by side."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Float32

from amsdff_jax.config import ModelConfig
from amsdff_jax.models.attention import MultiheadAttention
from amsdff_jax.models.dropout import Dropout
from amsdff_jax.models.layers import Linear, Sequential, gelu
from amsdff_jax.models.shapes import Features, Mask, Seed

LOWEST = jnp.finfo(jnp.float32).min


class AttentionPool(nnx.List):
    """A mean over the tokens, weighted by a score of each token by itself."""

    def __init__(self, hidden_size: int, *, dtype: DTypeLike, rngs: nnx.Rngs):
        hidden = Linear(hidden_size, hidden_size // 2, dtype=dtype, rngs=rngs)
        super().__init__([hidden, jnp.tanh, Linear(hidden_size // 2, 1, dtype=dtype, rngs=rngs)])

    def __call__(self, x: Features, mask: Mask) -> tuple[Float[Array, "B H"], Float32[Array, "B S"]]:
        """The mean, and the tokens' weights, of which a text's sum to 1."""
        hidden, tanh, score = self
        scores = score(tanh(hidden(x)))[..., 0].astype(jnp.float32)  # [B,S]
        weights = jax.nn.softmax(jnp.where(mask, scores, LOWEST), axis=-1)
        return jnp.einsum("bs,bsh->bh", weights.astype(x.dtype), x), weights


def max_pool(x: Float[Array, "B S F"], mask: Mask) -> Float[Array, "B F"]:
    """The largest value of each feature over the tokens where `mask` is true; 0 where there is none.

    The gradient goes to the position of that value.
    """
    has_token = mask.any(axis=1, keepdims=True)
    return jnp.where(has_token, _largest(jnp.where(mask[..., None], x, LOWEST)), 0)


@jax.custom_vjp
def _largest(x: Float[Array, "B S F"]) -> Float[Array, "B F"]:
    """`x.max(axis=1)` with a gradient of its own.

    The gradient of `jnp.max` compares the values with the maximum, and where XLA computes them again for that, rounded
    otherwise, it finds none that is equal and divides by 0.
    """
    return x.max(axis=1)


def _largest_and_place(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    position = x.argmax(axis=1, keepdims=True)  # [B,1,F]
    return x.max(axis=1), jax.lax.broadcasted_iota(position.dtype, x.shape, 1) == position


_largest.defvjp(_largest_and_place, lambda chosen, cotangent: (jnp.where(chosen, cotangent[:, None], 0),))


class PoolingStrategy(nnx.Module):
    """Attention pool, learned query and maximum (those that `config.pools` names), fused by two dense layers."""

    def __init__(self, config: ModelConfig, hidden_size: int, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.pools = config.pools
        if "query" in self.pools:
            self.cls_token = nnx.Param(jax.random.normal(rngs.params(), (1, 1, hidden_size)))
        if "attention" in self.pools:
            self.attention_pooling = AttentionPool(hidden_size, dtype=dtype, rngs=rngs)
        if "query" in self.pools:
            self.cls_attention = MultiheadAttention(
                hidden_size, config.num_attention_heads, config.attention_dropout_rate, dtype=dtype, rngs=rngs
            )
        self.pooling_fusion = Sequential(
            [
                Linear(len(self.pools) * hidden_size, hidden_size, dtype=dtype, rngs=rngs),
                gelu,
                Dropout(config.pooling_dropout_rate),
                Linear(hidden_size, hidden_size, dtype=dtype, rngs=rngs),
            ]
        )

    def __call__(
        self, x: Features, mask: Mask, seed: Seed | None = None
    ) -> tuple[Float[Array, "B H"], Float32[Array, "B S"] | None, Float32[Array, "B N S"] | None]:
        """Pools the tokens where `mask` is true.

        Returns:
          Pooled features, the attention pool's weights and the attention weights of the learned query's
          N heads; None where there is no such pool.
        """
        pools, token_attention, cls_attention = self.pool(x, mask, seed)
        return self.pooling_fusion(pools, seed), token_attention, cls_attention

    def pool(
        self, x: Features, mask: Mask, seed: Seed | None = None
    ) -> tuple[Float[Array, "B F"], Float32[Array, "B S"] | None, Float32[Array, "B N S"] | None]:
        """The pools side by side, before their fusion, and both kinds of weights."""
        pools, token_attention, cls_attention = [], None, None
        if "attention" in self.pools:
            pool, token_attention = self.attention_pooling(x, mask)
            pools.append(pool)
        if "query" in self.pools:
            query = jnp.broadcast_to(self.cls_token[...], (x.shape[0], 1, x.shape[2]))
            pool, cls_attention = self.cls_attention.query_with_weights(query, x, mask, seed)
            pools.append(pool[:, 0])
            cls_attention = cls_attention[:, :, 0]
        if "max" in self.pools:
            pools.append(max_pool(x, mask))
        return jnp.concatenate(pools, axis=-1), token_attention, cls_attention
