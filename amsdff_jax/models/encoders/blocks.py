"""What the families of encoders share."""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.experimental.layout import Layout, with_layout_constraint
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Float32, Int

from amsdff_jax.config import EncoderConfig
from amsdff_jax.config.encoders import CountedAfterPaddingConfig, PostNormConfig
from amsdff_jax.models.dropout import Dropout
from amsdff_jax.models.layers import LayerNorm, Linear, gelu
from amsdff_jax.models.shapes import Features, Features32, Mask, Seed


class Encoder(nnx.Module):
    """An encoder without a head. The constructor takes `(config, *, dtype, rngs)`.

    Attributes:
      config: sizes.
      embeddings: from token ids to word embeddings, by `look_up`, and on to what the first block reads.
      rematerialize: keep only the input of every block for the backward pass, compute the rest again.
    """

    config: EncoderConfig
    embeddings: Any
    rematerialize: bool

    def __init__(self, config: EncoderConfig, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        raise NotImplementedError

    def _complete(self, config: EncoderConfig) -> None:
        """The last line of every constructor."""
        self.config = config
        self.rematerialize = False

    def __call__(self, input_ids: Int[Array, "B S"], mask: Mask, seed: Seed | None = None) -> Features32:
        """Encodes token ids.

        Args:
          mask: true on real tokens.
          seed: of the dropout; needed in train mode only.

        Raises:
          ValueError: more tokens than the encoder takes.
        """
        if input_ids.shape[1] > self.config.max_tokens:
            raise ValueError(f"{input_ids.shape[1]} tokens, but the encoder has {self.config.max_tokens} positions")
        return self.encode_words(self.embeddings.look_up(input_ids), mask, seed)

    def encode_words(self, words: Float[Array, "B S E"], mask: Mask, seed: Seed | None = None) -> Features32:
        """Encodes word embeddings instead of token ids, to ask what the words contribute."""
        raise NotImplementedError

    def _run(self, layers: Iterable[Any], x: Features, mask: Mask, seed: Seed | None, *shared: Any) -> Features32:
        """All blocks, one after another; `shared` goes to each."""
        for layer in layers:
            run = nnx.remat(type(layer).__call__) if self.rematerialize else type(layer).__call__
            x = run(layer, x, mask, seed, *shared)
        return x


class Embeddings(nnx.Module):
    """Word embeddings and what a family adds to them, normalized.

    Positions count from 0; or, of a `CountedAfterPaddingConfig`, the real tokens alone, from `pad_token_id` + 1 on. A
    text is all of segment 0.
    """

    def __init__(
        self,
        config: EncoderConfig,
        features: int,
        *,
        epsilon: float,
        rngs: nnx.Rngs,
        has_positions: bool = True,
        segments: int = 0,
    ):
        init = nnx.initializers.normal(config.initializer_range)
        self.word_embeddings = nnx.Embed(config.vocab_size, features, embedding_init=init, rngs=rngs)
        if has_positions:
            positions = config.max_position_embeddings
            self.position_embeddings = nnx.Embed(positions, features, embedding_init=init, rngs=rngs)
        if segments:
            self.token_type_embeddings = nnx.Embed(segments, features, embedding_init=init, rngs=rngs)
        self.LayerNorm = LayerNorm(features, epsilon=epsilon, rngs=rngs)
        self.dropout = Dropout(config.dropout)
        self.pad_token_id = config.pad_token_id
        self.has_positions = has_positions
        self.counts_after_padding = isinstance(config, CountedAfterPaddingConfig)
        self.has_segments = segments > 0

    def look_up(self, input_ids: Int[Array, "*texts S"]) -> Float32[Array, "*texts S E"]:
        """The word embeddings alone."""
        return look_up(self.word_embeddings, input_ids, self.pad_token_id)

    def complete(self, words: Float[Array, "B S E"], mask: Mask, seed: Seed | None) -> Float32[Array, "B S E"]:
        """The sum of all embeddings, normalized."""
        if self.has_segments:
            words = words + self.token_type_embeddings.embedding[0]
        if self.counts_after_padding:
            positions = jnp.cumsum(mask, axis=1, dtype=jnp.int32) * mask + self.pad_token_id
            words = words + look_up(self.position_embeddings, positions, self.pad_token_id)
        elif self.has_positions:
            words = _add_to_each(words, self.position_embeddings.embedding[: words.shape[1]])
        return self.dropout(self.LayerNorm(words), seed)


@jax.custom_vjp
def _add_to_each(words: Float[Array, "B S E"], positions: Float[Array, "S E"]) -> Float[Array, "B S E"]:
    """`words + positions`, with a gradient that leaves the layout of the features alone.

    For a sum over the first axis XLA's GPU backend would have the texts innermost, in the features of all layers, and
    transpose them before and after every product.
    """
    return words + positions


def _sum_texts_in_rows(x: Float[Array, "B S E"]) -> Float[Array, "S E"]:
    return with_layout_constraint(x, Layout((0, 1, 2))).sum(axis=0)


def _position_gradients(_: None, cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
    default = functools.partial(jnp.sum, axis=0)
    return cotangent, jax.lax.platform_dependent(cotangent, cuda=_sum_texts_in_rows, default=default)


_add_to_each.defvjp(lambda words, positions: (words + positions, None), _position_gradients)


def look_up(table: nnx.Embed, ids: Int[Array, "*texts S"], padding: int) -> Float32[Array, "*texts S E"]:
    """Embeddings of `ids`; that of `padding` never learns (PyTorch: `padding_idx`)."""
    embeddings = table(ids)
    return jnp.where((ids == padding)[..., None], jax.lax.stop_gradient(embeddings), embeddings)


def project_heads(
    x: Features, layers: tuple[Linear, ...], num_heads: int, seed: Seed | None
) -> list[Float[Array, "B S N D"]]:
    """The outputs of several dense layers, each with its N heads apart."""
    # Products of their own: to put the weights side by side costs a train step on a CPU more than one large product
    # gains (docs/performance.md has the figures).
    return [layer(x, seed).reshape(*x.shape[:2], num_heads, -1) for layer in layers]


class ResidualOutput(nnx.Module):
    """Dense layer and dropout, normalized after the residual sum."""

    def __init__(self, config: PostNormConfig, in_features: int, *, dtype: DTypeLike, rngs: nnx.Rngs):
        init = nnx.initializers.normal(config.initializer_range)
        self.dense = Linear(in_features, config.dim, kernel_init=init, dtype=dtype, rngs=rngs)
        self.LayerNorm = LayerNorm(config.dim, epsilon=config.layer_norm_eps, rngs=rngs)
        self.dropout = Dropout(config.dropout)

    def __call__(self, x: Float[Array, "B S F"], residual: Features, seed: Seed | None) -> Features32:
        """Each token by itself."""
        return self.LayerNorm(self.dropout(self.dense(x, seed), seed) + residual)


class Attention(nnx.Module):
    """Self-attention of some kind, normalized after its residual sum."""

    def __init__(
        self, attention: Callable[..., nnx.Module], config: PostNormConfig, *, dtype: DTypeLike, rngs: nnx.Rngs
    ):
        self.self: Any = attention(config, dtype=dtype, rngs=rngs)
        self.output = ResidualOutput(config, config.dim, dtype=dtype, rngs=rngs)

    def __call__(self, x: Features, mask: Mask, seed: Seed | None, *shared: Any) -> Features32:
        """The first half of a block; `shared` is for the self-attention."""
        return self.output(self.self(x, mask, seed, *shared), x, seed)


class Intermediate(nnx.Module):
    """Dense layer and GELU."""

    def __init__(self, config: PostNormConfig, *, dtype: DTypeLike, rngs: nnx.Rngs):
        init = nnx.initializers.normal(config.initializer_range)
        self.dense = Linear(config.dim, config.hidden_dim, kernel_init=init, dtype=dtype, rngs=rngs)

    def __call__(self, x: Features, seed: Seed | None) -> Float[Array, "B S F"]:
        """Each token by itself."""
        return gelu(self.dense(x, seed))


class PostNormLayer(nnx.Module):
    """BERT's block: an attention of some kind and a feed-forward, each normalized after its residual sum."""

    def __init__(
        self, attention: Callable[..., nnx.Module], config: PostNormConfig, *, dtype: DTypeLike, rngs: nnx.Rngs
    ):
        self.attention: Any = attention(config, dtype=dtype, rngs=rngs)
        self.intermediate = Intermediate(config, dtype=dtype, rngs=rngs)
        self.output = ResidualOutput(config, config.hidden_dim, dtype=dtype, rngs=rngs)

    def __call__(self, x: Features, mask: Mask, seed: Seed | None, *shared: Any) -> Features32:
        """One block; `shared` is for the attention."""
        x = self.attention(x, mask, seed, *shared)
        return self.output(self.intermediate(x, seed), x, seed)


class Layers(nnx.Module):
    """BERT's blocks, under the name `layer` that PyTorch gives them, with an attention of some kind."""

    def __init__(
        self, attention: Callable[..., nnx.Module], config: PostNormConfig, *, dtype: DTypeLike, rngs: nnx.Rngs
    ):
        blocks = [PostNormLayer(attention, config, dtype=dtype, rngs=rngs) for _ in range(config.n_layers)]
        self.layer = nnx.List(blocks)
