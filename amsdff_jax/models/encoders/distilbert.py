"""DistilBERT, from token ids to features of tokens.

Sanh et al., "DistilBERT, a distilled version of BERT", 2019. PyTorch: transformers' `DistilBertModel`.
"""

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from amsdff_jax.config import EncoderConfig
from amsdff_jax.models.attention import attend
from amsdff_jax.models.dropout import Dropout
from amsdff_jax.models.encoders.blocks import Embeddings, Encoder, project_heads
from amsdff_jax.models.layers import LayerNorm, Linear, gelu
from amsdff_jax.models.shapes import Features, Features32, Mask, Seed

LAYER_NORM_EPSILON = 1e-12  # BERT's and DistilBERT's


class SelfAttention(nnx.Module):
    """Multi-head self-attention; three projections, multiplied as one."""

    def __init__(self, config: EncoderConfig, *, dtype: DTypeLike, rngs: nnx.Rngs):
        init = nnx.initializers.normal(config.initializer_range)
        self.q_lin, self.k_lin, self.v_lin, self.out_lin = (
            Linear(config.dim, config.dim, kernel_init=init, dtype=dtype, rngs=rngs) for _ in range(4)
        )
        self.dropout = Dropout(config.attention_dropout)
        self.num_heads = config.n_heads
        self.implementation = "xla"  # as in `attend`

    def __call__(self, x: Features, mask: Mask, seed: Seed | None) -> Features:
        """Lets the tokens attend to each other where `mask` is true."""
        query, key, value = project_heads(x, (self.q_lin, self.k_lin, self.v_lin), self.num_heads, seed)
        context = attend(query, key, value, mask[:, None, None], self.dropout, seed, self.implementation)
        return self.out_lin(context, seed)


class FeedForward(nnx.Module):
    """Linear, GELU, Linear, dropout."""

    def __init__(self, config: EncoderConfig, *, dtype: DTypeLike, rngs: nnx.Rngs):
        init = nnx.initializers.normal(config.initializer_range)
        self.lin1 = Linear(config.dim, config.hidden_dim, kernel_init=init, dtype=dtype, rngs=rngs)
        self.lin2 = Linear(config.hidden_dim, config.dim, kernel_init=init, dtype=dtype, rngs=rngs)
        self.dropout = Dropout(config.dropout)

    def __call__(self, x: Features, seed: Seed | None) -> Features:
        """Each token by itself."""
        return self.dropout(self.lin2(gelu(self.lin1(x, seed)), seed), seed)


class TransformerBlock(nnx.Module):
    """Attention and feed-forward, each normalized after its residual sum."""

    def __init__(self, config: EncoderConfig, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.attention = SelfAttention(config, dtype=dtype, rngs=rngs)
        self.sa_layer_norm = LayerNorm(config.dim, epsilon=LAYER_NORM_EPSILON, rngs=rngs)
        self.ffn = FeedForward(config, dtype=dtype, rngs=rngs)
        self.output_layer_norm = LayerNorm(config.dim, epsilon=LAYER_NORM_EPSILON, rngs=rngs)

    def __call__(self, x: Features, mask: Mask, seed: Seed | None) -> Features32:
        """One block; tokens where `mask` is false are not attended to."""
        x = self.sa_layer_norm(self.attention(x, mask, seed) + x)
        return self.output_layer_norm(self.ffn(x, seed) + x)


class Transformer(nnx.Module):
    """The blocks, under the name `layer` that PyTorch gives them."""

    def __init__(self, config: EncoderConfig, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.layer = nnx.List([TransformerBlock(config, dtype=dtype, rngs=rngs) for _ in range(config.n_layers)])


class DistilBertEncoder(Encoder):
    """DistilBERT without a head; BERT too, folded into it."""

    def __init__(self, config: EncoderConfig, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        self.embeddings = Embeddings(config, config.dim, epsilon=LAYER_NORM_EPSILON, rngs=rngs)
        self.transformer = Transformer(config, dtype=dtype, rngs=rngs)
        self._complete(config)

    def encode_words(self, words: Features, mask: Mask, seed: Seed | None = None) -> Features32:
        """See the base class."""
        return self._run(self.transformer.layer, self.embeddings.complete(words, mask, seed), mask, seed)
