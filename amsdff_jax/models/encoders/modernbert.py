"""ModernBERT: rotary positions, local attention in most blocks, gated feed-forwards, norms before and not behind.

Warner et al., "Smarter, Better, Faster, Longer: A Modern Bidirectional Encoder for Fast, Memory Efficient, and Long
Context Finetuning and Inference", 2024; rotary positions: Su et al., "RoFormer", 2021; gates: Shazeer, "GLU Variants
Improve Transformer", 2020. PyTorch: transformers' `ModernBertModel`.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Float32, Int

from amsdff_jax.config.encoders import ModernBertConfig
from amsdff_jax.models.attention import attend, attend_locally, split_heads
from amsdff_jax.models.dropout import Dropout
from amsdff_jax.models.encoders.blocks import Encoder, look_up
from amsdff_jax.models.layers import LayerNorm, Linear, gelu
from amsdff_jax.models.shapes import Features, Features32, Mask, Seed


class Rotation(NamedTuple):
    """Of every position by an angle for each pair of a head's features."""

    cos: Float32[Array, "S D/2"]
    sin: Float32[Array, "S D/2"]

    @classmethod
    def of(cls, length: Any, head_size: int, base: float) -> "Rotation":
        """The angles of positions from 0 to below `length`; from pair to pair they grow slower, down to 1 / `base`."""
        exponents = np.arange(0, head_size, 2, dtype=np.float32) / np.float32(head_size)
        frequencies = 1 / np.float32(base) ** exponents
        angles = jnp.arange(length, dtype=jnp.float32)[:, None] * frequencies
        return cls(jnp.cos(angles), jnp.sin(angles))

    def apply(self, x: Float[Array, "B S N D"]) -> Float[Array, "B S N D"]:
        """Turns queries or keys: their products then depend on how far apart they are."""
        first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
        cos, sin = self.cos[:, None], self.sin[:, None]
        return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)


class Rotations(NamedTuple):
    """What the attentions of both kinds turn by."""

    everywhere: Rotation
    local: Rotation


class Embeddings(nnx.Module):
    """Word embeddings alone, normalized."""

    def __init__(self, config: ModernBertConfig, *, rngs: nnx.Rngs):
        init = nnx.initializers.normal(config.initializer_range)
        self.tok_embeddings = nnx.Embed(config.vocab_size, config.dim, embedding_init=init, rngs=rngs)
        self.norm = LayerNorm(config.dim, epsilon=config.norm_eps, use_bias=False, rngs=rngs)
        self.dropout = Dropout(config.embedding_dropout)
        self.pad_token_id = config.pad_token_id

    def look_up(self, input_ids: Int[Array, "*texts S"]) -> Float32[Array, "*texts S H"]:
        """The word embeddings alone."""
        return look_up(self.tok_embeddings, input_ids, self.pad_token_id)

    def complete(self, words: Features, seed: Seed | None) -> Features32:
        """What the first block reads."""
        return self.dropout(self.norm(words), seed)


class Attention(nnx.Module):
    """Multi-head self-attention, everywhere or to keys at most half of `local_attention` away."""

    def __init__(self, config: ModernBertConfig, is_local: bool, *, dtype: DTypeLike, rngs: nnx.Rngs):
        init = nnx.initializers.normal(config.initializer_range)
        layer = {"kernel_init": init, "use_bias": False, "dtype": dtype, "rngs": rngs}
        self.Wqkv = Linear(config.dim, 3 * config.dim, **layer)
        self.Wo = Linear(config.dim, config.dim, **layer)
        self.dropout = Dropout(config.attention_dropout)
        self.out_drop = Dropout(config.attention_dropout)
        self.num_heads = config.n_heads
        self.radius = config.local_attention // 2 if is_local else None
        self.implementation = "xla"  # as in `attend`

    def __call__(self, x: Features, mask: Mask, seed: Seed | None, rotations: Rotations) -> Features:
        """Lets the tokens attend to each other where `mask` is true."""
        query, key, value = split_heads(self.Wqkv(x, seed), 3, self.num_heads)
        rotation = rotations.everywhere if self.radius is None else rotations.local
        turned = rotation.apply(query), rotation.apply(key), value
        how = self.dropout, seed, self.implementation
        if self.radius is None:
            context = attend(*turned, mask[:, None, None], *how)
        else:
            context = attend_locally(*turned, mask, self.radius, *how)
        return self.out_drop(self.Wo(context, seed), seed)


class FeedForward(nnx.Module):
    """Two projections, the GELU of one times the other, and one back."""

    def __init__(self, config: ModernBertConfig, *, dtype: DTypeLike, rngs: nnx.Rngs):
        init = nnx.initializers.normal(config.initializer_range)
        layer = {"kernel_init": init, "use_bias": False, "dtype": dtype, "rngs": rngs}
        self.Wi = Linear(config.dim, 2 * config.hidden_dim, **layer)
        self.Wo = Linear(config.hidden_dim, config.dim, **layer)
        self.drop = Dropout(config.dropout)

    def __call__(self, x: Features, seed: Seed | None) -> Features:
        """Each token by itself."""
        inner, gate = jnp.split(self.Wi(x, seed), 2, axis=-1)
        return self.Wo(self.drop(gelu(inner) * gate, seed), seed)


class ModernBertLayer(nnx.Module):
    """Attention and feed-forward, each on a normalized copy of what it is added to."""

    def __init__(self, config: ModernBertConfig, number: int, *, dtype: DTypeLike, rngs: nnx.Rngs):
        def norm() -> LayerNorm:
            return LayerNorm(config.dim, epsilon=config.norm_eps, use_bias=False, rngs=rngs)

        self.attn_norm = norm() if number else None  # the embeddings are normalized already
        is_local = number % config.global_attn_every_n_layers > 0
        self.attn = Attention(config, is_local, dtype=dtype, rngs=rngs)
        self.mlp_norm = norm()
        self.mlp = FeedForward(config, dtype=dtype, rngs=rngs)

    def __call__(self, x: Features32, mask: Mask, seed: Seed | None, rotations: Rotations) -> Features32:
        """One block; tokens where `mask` is false are not attended to."""
        normalized = x if self.attn_norm is None else self.attn_norm(x)
        x = x + self.attn(normalized, mask, seed, rotations)
        return x + self.mlp(self.mlp_norm(x), seed)


class ModernBertEncoder(Encoder):
    """ModernBERT without a head."""

    def __init__(self, config: ModernBertConfig, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        self.embeddings = Embeddings(config, rngs=rngs)
        blocks = [ModernBertLayer(config, number, dtype=dtype, rngs=rngs) for number in range(config.n_layers)]
        self.layers = nnx.List(blocks)
        self.final_norm = LayerNorm(config.dim, epsilon=config.norm_eps, use_bias=False, rngs=rngs)
        self.head_size = config.dim // config.n_heads
        self.bases = config.global_rope_theta, config.local_rope_theta
        self._complete(config)

    def encode_words(self, words: Features, mask: Mask, seed: Seed | None = None) -> Features32:
        """See the base class."""
        rotations = Rotations(*(Rotation.of(words.shape[1], self.head_size, base) for base in self.bases))
        x = self._run(self.layers, self.embeddings.complete(words, seed), mask, seed, rotations)
        return self.final_norm(x)
