"""Stage 1: the DistilBERT encoder, from token ids to features of tokens.

Sanh et al., "DistilBERT, a distilled version of BERT", 2019. PyTorch: transformers' `DistilBertModel`.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float32, Int

from amsdff_jax.config import EncoderConfig
from amsdff_jax.models.attention import attend, split_heads
from amsdff_jax.models.dropout import Dropout
from amsdff_jax.models.layers import LayerNorm, Linear, gelu
from amsdff_jax.models.matmul import dense
from amsdff_jax.models.shapes import Features, Features32, Mask, Seed

LAYER_NORM_EPSILON = 1e-12  # BERT's and DistilBERT's


class Embeddings(nnx.Module):
    """Word plus learned position embeddings, normalized."""

    def __init__(self, config: EncoderConfig, *, dtype: DTypeLike, rngs: nnx.Rngs):
        init = nnx.initializers.normal(config.initializer_range)
        self.word_embeddings = nnx.Embed(config.vocab_size, config.dim, embedding_init=init, rngs=rngs)
        self.position_embeddings = nnx.Embed(config.max_position_embeddings, config.dim, embedding_init=init, rngs=rngs)
        self.LayerNorm = LayerNorm(config.dim, epsilon=LAYER_NORM_EPSILON, rngs=rngs)
        self.dropout = Dropout(config.dropout)
        self.pad_token_id = config.pad_token_id

    def look_up(self, input_ids: Int[Array, "*texts S"]) -> Float32[Array, "*texts S H"]:
        """The word embeddings alone."""
        words = self.word_embeddings(input_ids)
        # PyTorch's padding_idx: the padding token's row never learns.
        return jnp.where((input_ids == self.pad_token_id)[..., None], jax.lax.stop_gradient(words), words)

    def add_positions(self, words: Features, seed: Seed | None) -> Features32:
        """What the first block reads."""
        positions = self.position_embeddings.embedding[: words.shape[1]]
        return self.dropout(self.LayerNorm(words + positions), seed)


class SelfAttention(nnx.Module):
    """Multi-head self-attention; three projections, multiplied as one."""

    def __init__(self, config: EncoderConfig, *, dtype: DTypeLike, rngs: nnx.Rngs):
        init = nnx.initializers.normal(config.initializer_range)
        self.q_lin, self.k_lin, self.v_lin, self.out_lin = (
            Linear(config.dim, config.dim, kernel_init=init, dtype=dtype, rngs=rngs) for _ in range(4)
        )
        self.dropout = Dropout(config.attention_dropout)
        self.num_heads = config.n_heads
        self.dtype = dtype
        self.implementation = "xla"  # as in `attend`

    def __call__(self, x: Features, mask: Mask, seed: Seed | None) -> Features:
        """Lets the tokens attend to each other where `mask` is true."""
        projections = (self.q_lin, self.k_lin, self.v_lin)
        kernel = jnp.concatenate([projection.kernel[...] for projection in projections], axis=-1)
        bias = jnp.concatenate([projection.bias[...] for projection in projections])
        query, key, value = split_heads(dense(x, kernel, bias, self.dtype), 3, self.num_heads)
        return self.out_lin(attend(query, key, value, mask, self.dropout, seed, self.implementation))


class FeedForward(nnx.Module):
    """Linear, GELU, Linear, dropout."""

    def __init__(self, config: EncoderConfig, *, dtype: DTypeLike, rngs: nnx.Rngs):
        init = nnx.initializers.normal(config.initializer_range)
        self.lin1 = Linear(config.dim, config.hidden_dim, kernel_init=init, dtype=dtype, rngs=rngs)
        self.lin2 = Linear(config.hidden_dim, config.dim, kernel_init=init, dtype=dtype, rngs=rngs)
        self.dropout = Dropout(config.dropout)

    def __call__(self, x: Features, seed: Seed | None) -> Features:
        """Each token by itself."""
        return self.dropout(self.lin2(gelu(self.lin1(x))), seed)


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
        self.rematerialize = False  # keep only the input of every block for the backward pass, compute the rest again

    def __call__(self, x: Features, mask: Mask, seed: Seed | None) -> Features32:
        """All blocks, one after another."""
        run = nnx.remat(TransformerBlock.__call__) if self.rematerialize else TransformerBlock.__call__
        for block in self.layer:
            x = run(block, x, mask, seed)
        return x


class DistilBertEncoder(nnx.Module):
    """DistilBERT without a head."""

    def __init__(self, config: EncoderConfig, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        self.embeddings = Embeddings(config, dtype=dtype, rngs=rngs)
        self.transformer = Transformer(config, dtype=dtype, rngs=rngs)
        self.config = config

    def __call__(self, input_ids: Int[Array, "B S"], mask: Mask, seed: Seed | None = None) -> Features32:
        """Encodes token ids.

        Args:
          mask: true on real tokens.
          seed: of the dropout; needed in train mode only.

        Raises:
          ValueError: more tokens than the encoder has positions.
        """
        if input_ids.shape[1] > self.config.max_position_embeddings:
            raise ValueError(
                f"{input_ids.shape[1]} tokens, but the encoder has {self.config.max_position_embeddings} positions"
            )
        return self.encode_words(self.embeddings.look_up(input_ids), mask, seed)

    def encode_words(self, words: Features, mask: Mask, seed: Seed | None = None) -> Features32:
        """Encodes word embeddings instead of token ids, to ask what the words contribute."""
        return self.transformer(self.embeddings.add_positions(words, seed), mask, seed)
