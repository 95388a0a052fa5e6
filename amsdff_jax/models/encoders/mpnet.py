"""MPNet: BERT's blocks, whose attention also weighs how far apart two tokens are.

Song et al., "MPNet: Masked and Permuted Pre-training for Language Understanding", 2020; the buckets of distances are
those of T5 (Raffel et al., 2020). PyTorch: transformers' `MPNetModel`.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float32, Int

from amsdff_jax.config.encoders import MPNetConfig
from amsdff_jax.models.attention import attend
from amsdff_jax.models.dropout import Dropout
from amsdff_jax.models.encoders.blocks import Embeddings, Encoder, Layers, project_heads
from amsdff_jax.models.encoders.relative import distances, shift
from amsdff_jax.models.layers import LayerNorm, Linear
from amsdff_jax.models.shapes import Features, Features32, Mask, Seed

BUCKETS, FARTHEST = 32, 128  # distances from FARTHEST on share the last bucket of their side


class SelfAttention(nnx.Module):
    """Multi-head self-attention with a bias on the scores."""

    def __init__(self, config: MPNetConfig, *, dtype: DTypeLike, rngs: nnx.Rngs):
        init = nnx.initializers.normal(config.initializer_range)
        self.q, self.k, self.v, self.o = (
            Linear(config.dim, config.dim, kernel_init=init, dtype=dtype, rngs=rngs) for _ in range(4)
        )
        self.dropout = Dropout(config.attention_dropout)
        self.num_heads = config.n_heads

    def __call__(self, x: Features, mask: Mask, seed: Seed | None, bias: Float32[Array, "1 N S S"]) -> Features:
        """Lets the tokens attend to each other where `mask` is true."""
        query, key, value = project_heads(x, (self.q, self.k, self.v), self.num_heads, seed)
        return self.o(attend(query, key, value, mask[:, None, None], self.dropout, seed, bias=bias), seed)


class Attention(nnx.Module):
    """Self-attention, normalized after its residual sum."""

    def __init__(self, config: MPNetConfig, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.attn = SelfAttention(config, dtype=dtype, rngs=rngs)
        self.LayerNorm = LayerNorm(config.dim, epsilon=config.layer_norm_eps, rngs=rngs)
        self.dropout = Dropout(config.dropout)

    def __call__(self, x: Features, mask: Mask, seed: Seed | None, bias: Float32[Array, "1 N S S"]) -> Features32:
        """The first half of a block."""
        return self.LayerNorm(self.dropout(self.attn(x, mask, seed, bias), seed) + x)


class MPNetLayers(Layers):
    """The blocks, and the bias that they share."""

    def __init__(self, config: MPNetConfig, *, dtype: DTypeLike, rngs: nnx.Rngs):
        super().__init__(Attention, config, dtype=dtype, rngs=rngs)
        init = nnx.initializers.normal(config.initializer_range)
        self.relative_attention_bias = nnx.Embed(BUCKETS, config.n_heads, embedding_init=init, rngs=rngs)
        self.largest = config.max_position_embeddings

    def bias(self, length: Any) -> Float32[Array, "1 N S S"]:
        """What is added to each head's scores, by how far key and query are apart; `length` as for `distances`."""
        buckets = jnp.asarray(distance_buckets(self.largest))[distances(length, self.largest)]
        by_distance = self.relative_attention_bias(buckets).T[:, None]  # [N,1,R]
        return shift(jnp.broadcast_to(by_distance, (len(by_distance), length, 2 * length - 1)))[None]


class MPNetEncoder(Encoder):
    """MPNet without a head."""

    def __init__(self, config: MPNetConfig, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        self.embeddings = Embeddings(config, config.dim, epsilon=config.layer_norm_eps, rngs=rngs)
        self.encoder = MPNetLayers(config, dtype=dtype, rngs=rngs)
        self._complete(config)

    def encode_words(self, words: Features, mask: Mask, seed: Seed | None = None) -> Features32:
        """See the base class."""
        x = self.embeddings.complete(words, mask, seed)
        return self._run(self.encoder.layer, x, mask, seed, self.encoder.bias(words.shape[1]))


def distance_buckets(largest: int) -> Int[np.ndarray, " R"]:
    """The bucket of each distance (the query's position less the key's), from `largest` - 1 down to 1 - `largest`.

    Half of the buckets are for keys before the query, half for those after it; in each half one for every small
    distance, and then wider and wider ones.
    """
    distance = np.arange(largest - 1, -largest, -1)
    half, size = BUCKETS // 2, np.abs(distance)
    exact = half // 2
    # In float32, for at 16, 32 and 64 rounding decides.
    growth = np.log(np.maximum(size, exact).astype(np.float32) / exact) / np.float32(np.log(FARTHEST / exact))
    wide = exact + (growth * np.float32(half - exact)).astype(np.int32)
    return np.where(distance < 0, half, 0) + np.where(size < exact, size, np.minimum(wide, half - 1))
