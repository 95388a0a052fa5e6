"""What a backend computes fastest with: the type of the products and the implementation of attention."""

from typing import Any

import jax.numpy as jnp
from jax.typing import DTypeLike


def choose_compute_dtype(asked: str, backend: str) -> jnp.dtype:
    """The type of the matrix products: the one that is asked for, and for "auto" bfloat16 where it is native.

    Args:
      asked: `model.compute_dtype`.
      backend: as `jax.default_backend()` names it.
    """
    if asked == "auto":
        asked = "bfloat16" if backend in ("gpu", "tpu") else "float32"
    return jnp.dtype(asked)


def choose_attention(asked: str, backend: str, dtype: DTypeLike, length: Any, head_size: int, has_dropout: bool) -> str:
    """The implementation of attention: "cudnn" or "xla".

    cuDNN's fused attention takes 16-bit types, heads of at most 128 features in multiples of 8 and an
    even number of tokens. JAX offers it without dropout on the attention weights only.

    Args:
      asked: `model.attention`, "auto" or "xla".
      backend: as `jax.default_backend()` names it.
      length: tokens, of queries and keys; a symbol of JAX where a program for any length is exported.
      has_dropout: whether attention weights are dropped, as in training at a rate above 0.
    """
    fits = dtype in (jnp.bfloat16, jnp.float16) and head_size <= 128 and head_size % 8 == 0 and length % 2 == 0
    return "cudnn" if asked == "auto" and backend == "gpu" and fits and not has_dropout else "xla"
