"""Multi-head attention, in the form that suits the backend.

Vaswani et al., "Attention Is All You Need", 2017. PyTorch: `nn.MultiheadAttention` and
`scaled_dot_product_attention`.
"""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Float32, Shaped

from amsdff_jax.models.dispatch import fits_cudnn
from amsdff_jax.models.dropout import Dropout
from amsdff_jax.models.layers import Linear, xavier_uniform
from amsdff_jax.models.matmul import dense, inner_products, weighted_sums
from amsdff_jax.models.shapes import Features, Mask, Seed

LOWEST = jnp.finfo(jnp.float32).min


def attend(
    query: Float[Array, "B Q N D"],
    key: Float[Array, "B S N D"],
    value: Float[Array, "B S N D"],
    mask: Bool[Array, "#B 1 #Q S"],
    dropout: Dropout,
    seed: Seed | None,
    implementation: str = "xla",
    bias: Float32[Array, "#B N Q S"] | None = None,
) -> Float[Array, "B Q N*D"]:
    """Scaled dot-product attention of N heads over the keys that the mask admits.

    Args:
      mask: a row that admits nothing stays finite, and means nothing.
      dropout: applied to the attention weights.
      seed: of the dropout; None in eval mode.
      implementation: "xla", or "cudnn" where it fits the arrays and XLA's elsewhere.
      bias: added to the scores, after scaling; None: nothing.

    Returns:
      The attended values in the type of `value`.
    """
    *rows, num_heads, head_size = query.shape
    fused = implementation == "cudnn" and bias is None
    if fused and fits_cudnn(query.dtype, rows[1], head_size, has_dropout=dropout.is_active):
        # It wants a row of the mask for each query, and has NaN for the gradients where a row admits nothing.
        admitted = jnp.broadcast_to(mask | ~mask.any(-1, keepdims=True), (len(mask), 1, rows[1], key.shape[1]))
        context = jax.nn.dot_product_attention(query, key, value, mask=admitted, implementation="cudnn")
    else:
        exponentials, normalizer = _exponentials(query, key, mask, bias)
        # Normalized after the product, which has far fewer elements than the weights.
        context = weighted_sums(dropout(exponentials, seed).astype(value.dtype), value) / normalizer  # [B,N,S,D]
        context = context.astype(value.dtype).swapaxes(1, 2)
    return context.reshape(*rows, num_heads * head_size)


def attend_locally(
    query: Float[Array, "B S N D"],
    key: Float[Array, "B S N D"],
    value: Float[Array, "B S N D"],
    mask: Mask,
    radius: int,
    dropout: Dropout,
    seed: Seed | None,
    implementation: str = "xla",
) -> Float[Array, "B S N*D"]:
    """`attend` over the keys that are at most `radius` tokens away.

    Cost and memory grow with the length, not with its square: texts are taken apart into blocks of `radius` tokens,
    each of which attends to itself and its two neighbours.

    Args:
      mask: true on the keys that may be attended to; a query with none of them near gets 0.
    """
    length = query.shape[1]
    # A program for any length, whose `length` is a symbol, is not taken apart: it shall run for short texts too.
    if not isinstance(length, int) or length <= 3 * radius:
        places = jnp.arange(length)
        near = jnp.abs(places[:, None] - places) <= radius
        admitted = mask[:, None, None] & near
        context = attend(query, key, value, admitted, dropout, seed, implementation)
        return jnp.where(admitted.any(axis=-1)[:, 0, :, None], context, 0)
    blocks = -(-length // radius)
    padding = blocks * radius - length

    def own(x: Shaped[Array, "B S *rest"]) -> Shaped[Array, "blocks radius *rest"]:
        padded = jnp.pad(x, [(0, 0), (0, padding), *[(0, 0)] * (x.ndim - 2)])
        return padded.reshape(-1, radius, *x.shape[2:])

    def with_neighbours(x: Shaped[Array, "B S *rest"]) -> Shaped[Array, "blocks window *rest"]:
        padded = jnp.pad(x, [(0, 0), (radius, padding + radius), *[(0, 0)] * (x.ndim - 2)])
        parts = padded.reshape(x.shape[0], blocks + 2, radius, *x.shape[2:])
        joined = jnp.concatenate([parts[:, :-2], parts[:, 1:-1], parts[:, 2:]], axis=2)
        return joined.reshape(-1, 3 * radius, *x.shape[2:])

    near = jnp.abs(radius + jnp.arange(radius)[:, None] - jnp.arange(3 * radius)) <= radius
    admitted = with_neighbours(mask)[:, None, None] & near
    context = attend(own(query), with_neighbours(key), with_neighbours(value), admitted, dropout, seed, implementation)
    context = jnp.where(admitted.any(axis=-1)[:, 0, :, None], context, 0)
    return context.reshape(query.shape[0], blocks * radius, -1)[:, :length]


def attend_locally_in_turn(
    query: Float[Array, "B S N D"],
    key: Float[Array, "B S N D"],
    value: Float[Array, "B S N D"],
    mask: Mask,
    radius: int,
    dropout: Dropout,
    implementation: str = "xla",
) -> Float[Array, "B S N*D"]:
    """`attend_locally` in eval mode, section by section: its memory, most of it scores, is that of one section.

    A backward pass computes every section again.
    """
    length, size = query.shape[1], 4 * radius
    if length <= size + 2 * radius:
        return attend_locally(query, key, value, mask, radius, dropout, None, implementation)
    sections = -(-length // size)
    margins = radius, (sections * size - length) + radius
    padded = [jnp.pad(x, [(0, 0), margins, *[(0, 0)] * (x.ndim - 2)]) for x in (query, key, value, mask)]

    def attend_section(start: Array) -> Array:
        query, key, value, mask = (jax.lax.dynamic_slice_in_dim(x, start, size + 2 * radius, axis=1) for x in padded)
        return attend_locally(query, key, value, mask, radius, dropout, None, implementation)[:, radius:-radius]

    context = jax.lax.map(jax.checkpoint(attend_section), jnp.arange(sections) * size)
    return context.swapaxes(0, 1).reshape(len(query), sections * size, -1)[:, :length]


def attend_with_weights(
    query: Float[Array, "B Q N D"],
    key: Float[Array, "B S N D"],
    value: Float[Array, "B S N D"],
    key_mask: Mask,
    dropout: Dropout,
    seed: Seed | None,
) -> tuple[Float[Array, "B Q N*D"], Float32[Array, "B N Q S"]]:
    """What `attend` computes, of any number of queries, and the attention weights before dropout beside it."""
    exponentials, normalizer = _exponentials(query, key, key_mask[:, None, None])
    weights = exponentials / normalizer
    context = weighted_sums(dropout(weights, seed).astype(value.dtype), value).astype(value.dtype).swapaxes(1, 2)
    return context.reshape(*context.shape[:2], -1), weights


def _exponentials(
    query: Float[Array, "B Q N D"],
    key: Float[Array, "B S N D"],
    mask: Bool[Array, "#B 1 #Q S"],
    bias: Float32[Array, "#B N Q S"] | None = None,
) -> tuple[Float32[Array, "B N Q S"], Float32[Array, "B N Q 1"]]:
    """Of the scores less each query's highest, and their sums."""
    query = query * (1 / math.sqrt(query.shape[-1]))
    scores = inner_products(query, key)
    if bias is not None:
        scores = scores + bias
    scores = jnp.where(mask, scores, LOWEST)
    exponentials = jnp.exp(scores - jax.lax.stop_gradient(scores.max(axis=-1, keepdims=True)))
    return exponentials, exponentials.sum(axis=-1, keepdims=True)


class MultiheadAttention(nnx.Module):
    """Attention whose three input projections are packed into one, as in PyTorch's `nn.MultiheadAttention`."""

    def __init__(self, features: int, num_heads: int, dropout_rate: float, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.in_proj_kernel = nnx.Param(xavier_uniform(rngs.params(), (features, 3 * features)))
        self.in_proj_bias = nnx.Param(jnp.zeros(3 * features))
        self.out_proj = Linear(features, features, dtype=dtype, rngs=rngs)
        self.dropout = Dropout(dropout_rate)
        self.num_heads = num_heads
        self.dtype = dtype
        self.implementation = "xla"  # as in `attend`
        self.radius: int | None = None  # how far apart tokens may be that attend to each other; None: any distance

    def __call__(self, x: Features, mask: Mask, seed: Seed | None = None) -> Features:
        """Lets the tokens of `x` attend to each other where `mask` is true."""
        query, key, value = self._project(x, 0, 3)
        dropout, how, radius = self.dropout, self.implementation, self.radius
        if radius is None or x.shape[1] <= radius:
            context = attend(query, key, value, mask[:, None, None], dropout, seed, how)
        elif seed is None:
            context = attend_locally_in_turn(query, key, value, mask, radius, dropout, how)
        else:
            context = attend_locally(query, key, value, mask, radius, dropout, seed, how)
        return self.out_proj(context)

    def query_with_weights(
        self, query: Float[Array, "B Q H"], x: Features, mask: Mask, seed: Seed | None = None
    ) -> tuple[Float[Array, "B Q H"], Float32[Array, "B N Q S"]]:
        """Lets other queries attend to `x` where `mask` is true; the attention weights of N heads beside it."""
        (queries,), (key, value) = self._project(query, 0, 1), self._project(x, 1, 3)
        context, weights = attend_with_weights(queries, key, value, mask, self.dropout, seed)
        return self.out_proj(context), weights

    def _project(self, x: Features, first: int, last: int) -> list[Float[Array, "B S N D"]]:
        """The projections from number `first` on, up to `last`, of query, key and value."""
        columns = slice(first * x.shape[-1], last * x.shape[-1])
        projected = dense(x, self.in_proj_kernel[:, columns], self.in_proj_bias[columns], self.dtype)
        return split_heads(projected, last - first, self.num_heads)


def split_heads(x: Float[Array, "B S F"], parts: int, num_heads: int) -> list[Float[Array, "B S N D"]]:
    """Projections that were computed side by side, each with its N heads apart."""
    return [part.reshape(*x.shape[:2], num_heads, -1) for part in jnp.split(x, parts, axis=-1)]
