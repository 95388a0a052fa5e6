"""DeBERTa-v3: BERT's blocks, whose attention scores content against content, content against position and position
against content.

He et al., "DeBERTa: Decoding-enhanced BERT with Disentangled Attention", 2021, and "DeBERTaV3: Improving DeBERTa using
ELECTRA-Style Pre-Training with Gradient-Disentangled Embedding Sharing", 2023. PyTorch: transformers'
`DebertaV2Model`, as the configurations of v3 have it.
"""

import functools
import math

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Float32, Int

from amsdff_jax.config.encoders import DebertaConfig
from amsdff_jax.models.attention import attend
from amsdff_jax.models.dropout import Dropout
from amsdff_jax.models.encoders.blocks import Attention, Embeddings, Encoder, Layers, project_heads
from amsdff_jax.models.encoders.relative import distances, shift
from amsdff_jax.models.layers import LayerNorm, Linear
from amsdff_jax.models.shapes import Features, Features32, Mask, Seed

TERMS = 3  # of a score, by whose number it is scaled down


class SelfAttention(nnx.Module):
    """Disentangled attention: positions go through the projections of the content."""

    def __init__(self, config: DebertaConfig, *, dtype: DTypeLike, rngs: nnx.Rngs):
        init = nnx.initializers.normal(config.initializer_range)
        self.query_proj, self.key_proj, self.value_proj = (
            Linear(config.dim, config.dim, kernel_init=init, dtype=dtype, rngs=rngs) for _ in range(3)
        )
        self.dropout = Dropout(config.attention_dropout)
        self.pos_dropout = Dropout(config.dropout, of_texts=False)
        self.config = config

    def __call__(self, x: Features, mask: Mask, seed: Seed | None, positions: Float32[Array, "P H"]) -> Features:
        """Lets the tokens attend to each other where `mask` is true."""
        layers = self.query_proj, self.key_proj, self.value_proj
        query, key, value = project_heads(x, layers, self.config.n_heads, seed)
        query = query * (1 / math.sqrt(TERMS))
        bias = self._position_scores(query, key, self.pos_dropout(positions, seed), seed)
        # As in transformers, what stands on padding attends to everything.
        admitted = mask[:, None, None] & mask[:, None, :, None]
        return attend(query, key, value, admitted, self.dropout, seed, bias=bias)

    def _position_scores(
        self,
        query: Float[Array, "B S N D"],
        key: Float[Array, "B S N D"],
        positions: Float32[Array, "P H"],
        seed: Seed | None,
    ) -> Float32[Array, "B N S S"]:
        """Content against position, and position against content."""
        length, largest = query.shape[1], self.config.max_position_embeddings
        places = jnp.asarray(distance_places(self.config))[distances(length, largest)]
        layers = self.query_proj, self.key_proj
        position_query, position_key = (
            table[0, places] for table in project_heads(positions[None], layers, self.config.n_heads, seed)
        )  # [R,N,D], from keys far before the query to keys far after it
        to_position = _scores(query, position_key)  # [B,N,S,R]
        position_query = position_query * (1 / math.sqrt(TERMS))
        to_content = _scores(key, position_query[::-1])
        scores = shift(to_position) + shift(to_content).swapaxes(2, 3)
        return scores * (1 / math.sqrt(query.shape[-1]))


class DebertaLayers(Layers):
    """The blocks, and the embeddings of distances that they share."""

    def __init__(self, config: DebertaConfig, *, dtype: DTypeLike, rngs: nnx.Rngs):
        super().__init__(functools.partial(Attention, SelfAttention), config, dtype=dtype, rngs=rngs)
        init = nnx.initializers.normal(config.initializer_range)
        self.rel_embeddings = nnx.Embed(2 * config.position_buckets, config.dim, embedding_init=init, rngs=rngs)
        self.LayerNorm = LayerNorm(config.dim, epsilon=config.layer_norm_eps, rngs=rngs)

    def positions(self) -> Float32[Array, "P H"]:
        """The embedding of each bucket of distances."""
        return self.LayerNorm(self.rel_embeddings.embedding[...])


class DebertaEncoder(Encoder):
    """DeBERTa-v3 without a head."""

    def __init__(self, config: DebertaConfig, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        self.embeddings = Embeddings(config, config.dim, epsilon=config.layer_norm_eps, has_positions=False, rngs=rngs)
        self.encoder = DebertaLayers(config, dtype=dtype, rngs=rngs)
        self._complete(config)

    def encode_words(self, words: Features, mask: Mask, seed: Seed | None = None) -> Features32:
        """See the base class."""
        x = jnp.where(mask[..., None], self.embeddings.complete(words, mask, seed), 0)
        return self._run(self.encoder.layer, x, mask, seed, self.encoder.positions())


def distance_places(config: DebertaConfig) -> Int[np.ndarray, " R"]:
    """Which row of the table each distance has, the query's position less the key's, from the largest to the smallest.

    Distances below half of `position_buckets` have rows of their own; from there to `max_relative_positions` rows stand
    for more and more of them, by the logarithm.
    """
    largest, buckets = config.max_position_embeddings, config.position_buckets
    distance = np.arange(largest - 1, -largest, -1)
    middle, farthest = buckets // 2, config.farthest
    size = np.abs(distance)
    # In float32, for rounding decides where one row ends.
    share = np.log(np.maximum(size, middle).astype(np.float32) / np.float32(middle))
    share = share / np.log(np.float32((farthest - 1) / middle))
    wide = np.ceil(share * np.float32(middle - 1)).astype(np.int32) + middle
    bucket = np.where(size <= middle, distance, np.sign(distance) * wide)
    return np.clip(bucket + buckets, 0, 2 * buckets - 1)


def _scores(content: Float[Array, "B S N D"], positions: Float[Array, "R N D"]) -> Float32[Array, "B N S R"]:
    return jnp.einsum("bsnd,rnd->bnsr", content, positions, preferred_element_type=jnp.float32)
