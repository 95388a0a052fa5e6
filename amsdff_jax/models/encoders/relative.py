"""Relative positions: what depends on how far apart two tokens are, and on which side."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def distances(length: Any, largest: int) -> Int[Array, " R"]:
    """Which of a table's rows belong to the distances from `length` - 1 down to 1 - `length`.

    Args:
      length: tokens; a symbol of JAX where a program for any length is exported.
      largest: the table is of the distances from `largest` - 1 down to 1 - `largest`.
    """
    return jnp.arange(2 * length - 1) + (largest - length)


def shift(x: Float[Array, "*rows S R"]) -> Float[Array, "*rows S S"]:
    """What each token has for each distance, R = 2S - 1 of them, as what it has for each other token.

    From `x[i, m]`, m counting the distances from S - 1 down to 1 - S, to `[i, j]`, where the distance is i - j: a
    change of strides, where a gather of S² numbers would take several times as long, and its gradient more (as in
    Transformer-XL: Dai et al., 2019).
    """
    *rows, length, _ = x.shape
    padded = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(1, 0)]).reshape(*rows, 2 * length, length)
    return padded[..., 1:, :].reshape(*rows, length, 2 * length - 1)[..., :length]
