"""A dense layer and the products of attention, forward and backward, in the form that runs fastest.

Rates in the comments: 2 cores of an AMD EPYC with AVX-512 BF16, jaxlib 0.10.2, 2048 tokens, products of
384 and 1536 features; `amsdff benchmark` measures the machine's own.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Float32

BLOCK = 64  # tokens and features of a block of a transposed copy


def dense(
    x: Float[Array, "*rows I"], kernel: Float[Array, "I O"], bias: Float[Array, " O"], dtype: DTypeLike
) -> Float[Array, "*rows O"]:
    """A dense layer in the type `dtype`, with sums in float32.

    Multiplies over flattened leading axes: XLA's CPU backend trains a product over [B*S,H] about
    twice as fast as the same product over [B,S,H].
    """
    length = x.shape[-2] if x.ndim > 2 else 1  # a number, or of a program for any length a symbol
    flat = x.astype(dtype).reshape(-1, x.shape[-1])
    product: Any = _dense(flat, kernel.astype(dtype), bias.astype(jnp.float32), length)
    return product.reshape(*x.shape[:-1], kernel.shape[1])


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _dense(x: jax.Array, kernel: jax.Array, bias: jax.Array, length: Any) -> jax.Array:
    return jax.lax.platform_dependent(x, kernel, bias, cuda=_affine_on_gpu, default=_affine)


def _affine(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    # With a float32 result bfloat16 multiplies at 390 GF/s, with a bfloat16 one at 190, as float32 does.
    return (_dot(x, kernel, 1, 0) + bias).astype(x.dtype)


def _affine_on_gpu(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    # cuBLAS sums in float32 whatever the result is, and adds the bias before it rounds. A float32 result would be
    # written, read and written again: 400 MB more for 32,768 tokens of 3,072 features.
    return _dot(x, kernel, 1, 0, x.dtype) + bias.astype(x.dtype)


def _forward(
    x: jax.Array, kernel: jax.Array, bias: jax.Array, length: Any
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _dense(x, kernel, bias, length), (x, kernel)


def _backward(
    length: Any, saved: tuple[jax.Array, jax.Array], cotangent: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    arguments = (*saved, cotangent)
    on_cpu = _gradients_on_cpu(length)
    return jax.lax.platform_dependent(*arguments, cpu=on_cpu, cuda=_gradients_on_gpu, default=_gradients)


_dense.defvjp(_forward, _backward)


def _dot(
    left: jax.Array, right: jax.Array, left_axis: int, right_axis: int, result: DTypeLike = jnp.float32
) -> jax.Array:
    return _product(left, right, (((left_axis,), (right_axis,)), ((), ())), result)


_weight_gradient = functools.partial(_dot, left_axis=0, right_axis=0)


def _gradients(
    x: jax.Array, kernel: jax.Array, cotangent: jax.Array, weight_gradient: Callable[..., jax.Array] = _weight_gradient
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Those of `x`, `kernel` and bias."""
    x_gradient = _dot(cotangent, kernel, 1, 1).astype(x.dtype)
    # As a product, because XLA's CPU backend sums columns of bfloat16 ten times slower within a step (20 ms for
    # 4096 x 1536).
    bias_gradient = _dot(jnp.ones((1, len(cotangent)), cotangent.dtype), cotangent, 1, 0)[0]
    return x_gradient, weight_gradient(x, cotangent).astype(kernel.dtype), bias_gradient


@functools.cache  # JAX traces a function once for the same shapes, but not another one that does the same
def _gradients_on_cpu(length: Any) -> Callable[..., tuple[jax.Array, jax.Array, jax.Array]]:
    return functools.partial(_gradients, weight_gradient=functools.partial(_weight_gradient_on_cpu, length=length))


def _gradients_on_gpu(x: jax.Array, kernel: jax.Array, cotangent: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The same, with products in their own type; a sum of columns is no slower there than it has to be."""
    bias_gradient = cotangent.sum(axis=0, dtype=jnp.float32)
    return _dot(cotangent, kernel, 1, 1, x.dtype), _dot(x, cotangent, 0, 0, kernel.dtype), bias_gradient


def _weight_gradient_on_cpu(x: jax.Array, cotangent: jax.Array, length: int) -> jax.Array:
    """`_weight_gradient` by a transposed copy of `x` in bfloat16, made so that XLA does not fold it into the product.

    XLA's CPU backend multiplies a transposed left side at 150 to 190 GF/s in either type, a transposed copy at
    300 to 350 in bfloat16. In float32 the copy costs more than it gains. Each block is transposed, and then the blocks
    are put in order: in one go 2048 x 1536 take 4 to 14 ms on one core of an Intel Xeon with AMX, in two 3. No block
    holds tokens of two texts of `length` tokens, which may be on two devices.
    """
    tokens, features = x.shape
    if x.dtype == jnp.float32 or length == 1:
        return _weight_gradient(x, cotangent)
    rows, columns = length if length <= BLOCK else math.gcd(length, BLOCK), math.gcd(features, BLOCK)
    blocks = x.reshape(tokens // rows, rows, features // columns, columns).transpose(0, 2, 3, 1)
    transposed = jax.lax.optimization_barrier(blocks).transpose(1, 2, 0, 3).reshape(features, tokens)
    return _dot(transposed, cotangent, 1, 0)


@jax.custom_vjp
def inner_products(left: Float[Array, "B Q N D"], right: Float[Array, "B S N D"]) -> Float32[Array, "B N Q S"]:
    """Those of all rows of `left` with all rows of `right`, for each text and head."""
    return _heads_dot(left.swapaxes(1, 2), right.swapaxes(1, 2), 3)


def _inner_product_gradients(saved: tuple[jax.Array, jax.Array], cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
    left, right = saved
    cotangent = cotangent.astype(left.dtype)
    left_gradient = _flat_dot(cotangent, right.swapaxes(1, 2), 2).swapaxes(1, 2)
    # By columns: with `cotangent` transposed XLA's CPU backend would multiply in float32.
    right_gradient = _flat_dot(left.transpose(0, 2, 3, 1), cotangent, 2).transpose(0, 3, 1, 2)
    return left_gradient.astype(left.dtype), right_gradient.astype(right.dtype)


inner_products.defvjp(lambda left, right: (inner_products(left, right), (left, right)), _inner_product_gradients)


@jax.custom_vjp
def weighted_sums(weights: Float[Array, "B N Q S"], rows: Float[Array, "B S N D"]) -> Float32[Array, "B N Q D"]:
    """The sums of `rows` times `weights`, for each text and head."""
    return _heads_dot(weights, rows.swapaxes(1, 2), 2)


def _weighted_sum_gradients(saved: tuple[jax.Array, jax.Array], cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
    weights, rows = saved
    cotangent = cotangent.astype(rows.dtype)
    weight_gradient = _flat_dot(cotangent, rows.swapaxes(1, 2), 3)
    row_gradient = _flat_dot(cotangent.swapaxes(2, 3), weights, 2).transpose(0, 3, 1, 2)
    return weight_gradient.astype(weights.dtype), row_gradient.astype(rows.dtype)


weighted_sums.defvjp(lambda weights, rows: (weighted_sums(weights, rows), (weights, rows)), _weighted_sum_gradients)


def _heads_dot(left: Float[Array, "B N _ _"], right: Float[Array, "B N _ _"], axis: int) -> Float32[Array, "B N _ _"]:
    """A product of matrices for each text and head, over the last axis of `left` and one of `right`.

    With the heads beside the texts, and not between tokens and features as they come: on a CPU that is more than twice
    as fast, with 256 tokens.
    """
    return _product(left, right, (((3,), (axis,)), ((0, 1), (0, 1))))


def _flat_dot(left: Float[Array, "B N _ _"], right: Float[Array, "B N _ _"], axis: int) -> Float32[Array, "B N _ _"]:
    """The same with texts and heads on one axis.

    Into the other form XLA takes the transpositions of its arguments, and then computes in float32 on a CPU. Backward
    that is slower. Forward it is as fast with short texts and faster with long ones, because the softmax goes into it.
    """
    flat_left, flat_right = (x.reshape(-1, *x.shape[2:]) for x in (left, right))
    products = _product(flat_left, flat_right, (((2,), (axis - 1,)), ((0,), (0,))))
    return products.reshape(*left.shape[:2], *products.shape[1:])


def _product(
    left: jax.Array, right: jax.Array, dimensions: jax.lax.DotDimensionNumbers, result: DTypeLike = jnp.float32
) -> jax.Array:
    return jax.lax.dot_general(left, right, dimensions, preferred_element_type=result)
