"""A dense layer and the products of attention, forward and backward, in the form that runs fastest.

Rates in the comments: 2 cores of an AMD EPYC with AVX-512 BF16, jaxlib 0.10.2, 2048 tokens, products of
384 and 1536 features; `amsdff benchmark` measures the machine's own.
"""

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
    """A dense layer in the type `dtype`, with sums in float32."""
    return _dense(x.astype(dtype), kernel.astype(dtype), bias.astype(jnp.float32))


@jax.custom_vjp
def _dense(
    x: Float[Array, "*rows I"], kernel: Float[Array, "I O"], bias: Float32[Array, " O"]
) -> Float[Array, "*rows O"]:
    arguments = (x, kernel, bias)
    return jax.lax.platform_dependent(*arguments, cuda=_affine_on_gpu, tpu=_affine_on_tpu, default=_affine)


def _affine(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    # Over flattened leading axes XLA's CPU backend trains about twice as fast as over [B,S,H]. With a float32 result
    # bfloat16 multiplies at 390 GF/s, with a bfloat16 one at 190, as float32 does.
    return (_dot(_rows(x), kernel, 1, 0) + bias).astype(x.dtype).reshape(*x.shape[:-1], kernel.shape[1])


def _affine_on_gpu(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    # cuBLAS sums in float32 whatever the result is, and adds the bias before it rounds. A float32 result would be
    # written, read and written again: 400 MB more for 32,768 tokens of 3,072 features.
    product = _dot(_rows(x), kernel, 1, 0, x.dtype) + bias.astype(x.dtype)
    return product.reshape(*x.shape[:-1], kernel.shape[1])


def _affine_on_tpu(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    # Texts and tokens on axes of their own: XLA then computes queries, keys and values in the layout that attention
    # multiplies them in, text by text. From flattened ones it copied each, and their gradients (docs/devices.md).
    return (_dot(x, kernel, x.ndim - 1, 0) + bias).astype(x.dtype)


def _backward(saved: tuple[jax.Array, jax.Array], cotangent: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    forms = {"cpu": _gradients_on_cpu, "cuda": _gradients_on_gpu, "tpu": _gradients_on_tpu, "default": _gradients}
    return jax.lax.platform_dependent(*saved, cotangent, **forms)


_dense.defvjp(lambda x, kernel, bias: (_dense(x, kernel, bias), (x, kernel)), _backward)


def _rows(x: Float[Array, "*rows F"]) -> Float[Array, "N F"]:
    return x.reshape(-1, x.shape[-1])


def _dot(
    left: jax.Array, right: jax.Array, left_axis: int, right_axis: int, result: DTypeLike = jnp.float32
) -> jax.Array:
    return _product(left, right, (((left_axis,), (right_axis,)), ((), ())), result)


def _weight_gradient(x: Float[Array, "*rows I"], cotangent: Float[Array, "*rows O"]) -> Float32[Array, "I O"]:
    return _dot(_rows(x), _rows(cotangent), 0, 0)


def _gradients(
    x: jax.Array, kernel: jax.Array, cotangent: jax.Array, weight_gradient: Callable[..., jax.Array] = _weight_gradient
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Those of `x`, `kernel` and bias."""
    rows = _rows(cotangent)
    x_gradient = _dot(rows, kernel, 1, 1).astype(x.dtype).reshape(x.shape)
    # As a product, because XLA's CPU backend sums columns of bfloat16 ten times slower within a step (20 ms for
    # 4096 x 1536).
    bias_gradient = _dot(jnp.ones((1, len(rows)), rows.dtype), rows, 1, 0)[0]
    return x_gradient, weight_gradient(x, cotangent).astype(kernel.dtype), bias_gradient


def _gradients_on_cpu(x: jax.Array, kernel: jax.Array, cotangent: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    return _gradients(x, kernel, cotangent, _weight_gradient_on_cpu)


def _gradients_on_gpu(x: jax.Array, kernel: jax.Array, cotangent: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The same, with products in their own type; a sum of columns is no slower there than it has to be."""
    rows = _rows(cotangent)
    x_gradient = _dot(rows, kernel, 1, 1, x.dtype).reshape(x.shape)
    return x_gradient, _dot(_rows(x), rows, 0, 0, kernel.dtype), rows.sum(axis=0, dtype=jnp.float32)


def _gradients_on_tpu(x: jax.Array, kernel: jax.Array, cotangent: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The same, with texts and tokens on axes of their own."""
    leading = tuple(range(x.ndim - 1))
    weight_gradient = _product(x, cotangent, ((leading, leading), ((), ())), kernel.dtype)
    x_gradient = _dot(cotangent, kernel, cotangent.ndim - 1, 1, x.dtype)
    return x_gradient, weight_gradient, cotangent.sum(axis=leading, dtype=jnp.float32)


def _weight_gradient_on_cpu(x: Float[Array, "*rows I"], cotangent: Float[Array, "*rows O"]) -> Float32[Array, "I O"]:
    """`_weight_gradient` by a transposed copy of `x` in bfloat16, made so that XLA does not fold it into the product.

    XLA's CPU backend multiplies a transposed left side at 150 to 190 GF/s in either type, a transposed copy at
    300 to 350 in bfloat16. In float32 the copy costs more than it gains. Each block is transposed, and then the blocks
    are put in order: in one go 2048 x 1536 take 4 to 14 ms on one core of an Intel Xeon with AMX, in two 3. No block
    holds tokens of two texts, which may be on two devices.
    """
    length = x.shape[-2] if x.ndim > 2 else 1
    if x.dtype == jnp.float32 or length == 1:
        return _weight_gradient(x, cotangent)
    flat = _rows(x)
    tokens, features = flat.shape
    rows, columns = length if length <= BLOCK else math.gcd(length, BLOCK), math.gcd(features, BLOCK)
    blocks = flat.reshape(tokens // rows, rows, features // columns, columns).transpose(0, 2, 3, 1)
    transposed = jax.lax.optimization_barrier(blocks).transpose(1, 2, 0, 3).reshape(features, tokens)
    return _dot(transposed, _rows(cotangent), 1, 0)


# Each form is a function of the module: JAX traces one once for the same shapes, and not again for every layer.


@jax.custom_vjp
def inner_products(left: Float[Array, "B Q N D"], right: Float[Array, "B S N D"]) -> Float32[Array, "B N Q S"]:
    """Those of all rows of `left` with all rows of `right`, for each text and head."""
    return jax.lax.platform_dependent(left, right, tpu=_inner_products_on_tpu, default=_inner_products)


def _inner_products(left: jax.Array, right: jax.Array) -> jax.Array:
    return _heads_dot(left.swapaxes(1, 2), right.swapaxes(1, 2), 3)


def _inner_products_on_tpu(left: jax.Array, right: jax.Array) -> jax.Array:
    return _einsum("bqnd,bsnd->bnqs", left, right)


def _inner_product_gradients(left: jax.Array, right: jax.Array, cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
    left_gradient = _flat_dot(cotangent, right.swapaxes(1, 2), 2).swapaxes(1, 2)
    # By columns: with `cotangent` transposed XLA's CPU backend would multiply in float32.
    return left_gradient, _flat_dot(left.transpose(0, 2, 3, 1), cotangent, 2).transpose(0, 3, 1, 2)


def _inner_product_gradients_on_tpu(
    left: jax.Array, right: jax.Array, cotangent: jax.Array
) -> tuple[jax.Array, jax.Array]:
    return _einsum("bnqs,bsnd->bqnd", cotangent, right), _einsum("bnqs,bqnd->bsnd", cotangent, left)


@jax.custom_vjp
def weighted_sums(weights: Float[Array, "B N Q S"], rows: Float[Array, "B S N D"]) -> Float32[Array, "B N Q D"]:
    """The sums of `rows` times `weights`, for each text and head."""
    return jax.lax.platform_dependent(weights, rows, tpu=_weighted_sums_on_tpu, default=_weighted_sums)


def _weighted_sums(weights: jax.Array, rows: jax.Array) -> jax.Array:
    return _heads_dot(weights, rows.swapaxes(1, 2), 2)


def _weighted_sums_on_tpu(weights: jax.Array, rows: jax.Array) -> jax.Array:
    return _einsum("bnqs,bsnd->bnqd", weights, rows)


def _weighted_sum_gradients(weights: jax.Array, rows: jax.Array, cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
    weight_gradient = _flat_dot(cotangent, rows.swapaxes(1, 2), 3)
    return weight_gradient, _flat_dot(cotangent.swapaxes(2, 3), weights, 2).transpose(0, 3, 1, 2)


def _weighted_sum_gradients_on_tpu(
    weights: jax.Array, rows: jax.Array, cotangent: jax.Array
) -> tuple[jax.Array, jax.Array]:
    return _einsum("bnqd,bsnd->bnqs", cotangent, rows), _einsum("bnqs,bnqd->bsnd", weights, cotangent)


def _with_gradients(product: Any, default: Callable[..., Any], on_tpu: Callable[..., Any]) -> None:
    """Gives a product its gradients, computed in the type of its second argument."""

    def backward(saved: tuple[jax.Array, jax.Array], cotangent: jax.Array) -> tuple[jax.Array, ...]:
        arguments = (*saved, cotangent.astype(saved[1].dtype))
        gradients = jax.lax.platform_dependent(*arguments, tpu=on_tpu, default=default)
        return tuple(gradient.astype(argument.dtype) for gradient, argument in zip(gradients, saved, strict=True))

    product.defvjp(lambda left, right: (product(left, right), (left, right)), backward)


_with_gradients(inner_products, _inner_product_gradients, _inner_product_gradients_on_tpu)
_with_gradients(weighted_sums, _weighted_sum_gradients, _weighted_sum_gradients_on_tpu)


def _einsum(axes: str, left: jax.Array, right: jax.Array) -> jax.Array:
    """A product for each text and head, whose layouts are left to XLA."""
    return jnp.einsum(axes, left, right, preferred_element_type=jnp.float32)


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
