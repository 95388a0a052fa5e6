"""The layers that Flax lacks in the form PyTorch's weights need.

The leaf names decide how a parameter is laid out in PyTorch (see `interop/state_dict.py`):
`kernel`, `pointwise_kernel` and `in_proj_kernel` are stored input-first and `depthwise_kernel`
width-first, where PyTorch stores the output first.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Float32

from amsdff_jax.models.dropout import Dropout
from amsdff_jax.models.matmul import dense
from amsdff_jax.models.shapes import Features, Mask, Seed

# PyTorch's xavier_uniform_: limits ±sqrt(6 / (in + out)), symmetric in the two, so the layout does not matter.
xavier_uniform = nnx.initializers.xavier_uniform()


class Linear(nnx.Module):
    """A dense layer, Xavier-uniform with zero bias, or none."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
        kernel_init: nnx.Initializer = xavier_uniform,
        use_bias: bool = True,
    ):
        self.kernel = nnx.Param(kernel_init(rngs.params(), (in_features, out_features), jnp.float32))
        rngs.params()  # `nnx.Linear` draws a key for the bias: the weights of a seed stay those of earlier versions
        self.bias: Any = nnx.Param(jnp.zeros(out_features)) if use_bias else None
        self.in_features = in_features
        self.out_features = out_features
        self.dtype = dtype

    def __call__(self, x: Float[Array, "*rows I"], seed: Seed | None = None) -> Float[Array, "*rows O"]:
        """The product in the compute type; `seed` is for the dropout of an adapter, if there is one."""
        bias = jnp.zeros(self.out_features) if self.bias is None else self.bias[...]
        return dense(x, self.kernel[...], bias, self.dtype)


class LayerNorm(nnx.LayerNorm):
    """Layer normalization over the last axis, always computed in float32; `epsilon` is PyTorch's default."""

    def __init__(self, features: int, *, rngs: nnx.Rngs, epsilon: float = 1e-5, use_bias: bool = True):
        kind = {"epsilon": epsilon, "use_bias": use_bias, "dtype": jnp.float32, "use_fast_variance": False}
        super().__init__(features, **kind, rngs=rngs)

    def __call__(self, x: Float[Array, "*rows F"], **_: Any) -> Float32[Array, "*rows F"]:
        """Each row less its mean, by its standard deviation; then scaled and shifted."""
        standardized: Any = _standardize(x.astype(jnp.float32), self.epsilon)
        scale: Any = self.scale
        scaled = standardized * scale[...]
        return scaled if self.bias is None else scaled + self.bias[...]


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _standardize(x: Float32[Array, "*rows F"], epsilon: float) -> Float32[Array, "*rows F"]:
    return _standardize_and_save(x, epsilon)[0]


def _standardize_and_save(x: jax.Array, epsilon: float) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    centred = x - x.mean(axis=-1, keepdims=True)
    factor = jax.lax.rsqrt(jnp.square(centred).mean(axis=-1, keepdims=True) + epsilon)
    standardized = centred * factor
    return standardized, (standardized, factor)


def _standardize_gradient(_: float, saved: tuple[jax.Array, jax.Array], cotangent: jax.Array) -> tuple[jax.Array]:
    """That of mean and deviation in closed form, with two sums a row where JAX's own takes three."""
    standardized, factor = saved
    mean = cotangent.mean(axis=-1, keepdims=True)
    along = (cotangent * standardized).mean(axis=-1, keepdims=True)
    return (factor * (cotangent - mean - standardized * along),)


_standardize.defvjp(_standardize_and_save, _standardize_gradient)


class Sequential(nnx.List):
    """Layers and functions in order, under the paths `0`, `1`, ... that PyTorch's `nn.Sequential` gives them."""

    def __call__(self, x: Float[Array, "*rows I"], seed: Seed | None = None) -> Float[Array, "*rows O"]:
        """Runs all layers; `seed` goes to the dropouts."""
        for layer in self:
            x = layer(x, seed) if isinstance(layer, Dropout) else layer(x)
        return x


@jax.custom_vjp
def gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The exact GELU `x * Phi(x)`. Its derivative is kept from the forward pass.

    Left to itself XLA recomputes the erf in every fusion that needs it, which takes as long as the
    matrix products around it on a CPU.
    """
    return _gelu_and_derivative(x)[0]


def _gelu_and_derivative(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    x32 = x.astype(jnp.float32)
    cumulative = 0.5 * (1 + jax.lax.erf(x32 * math.sqrt(0.5)))
    density = jnp.exp(-0.5 * x32 * x32) * (1 / math.sqrt(2 * math.pi))
    return (x32 * cumulative).astype(x.dtype), (cumulative + x32 * density).astype(x.dtype)


gelu.defvjp(_gelu_and_derivative, lambda derivative, cotangent: (cotangent * derivative,))


def torch_conv_uniform(fan_in: int) -> nnx.Initializer:
    """PyTorch's default for convolutions, weights and bias alike: uniform within ±1/sqrt(fan_in)."""
    bound = 1 / math.sqrt(fan_in)
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, -bound, bound)


class DepthwiseConv(nnx.Module):
    """A convolution of odd width over the tokens, each feature by itself.

    PyTorch: `Conv1d(H, H, width, padding=width // 2, groups=H)`. Written as `width` shifted
    multiply-adds: XLA's grouped convolution is about 100 times slower on a CPU.
    """

    def __init__(self, features: int, width: int, *, dtype: DTypeLike, rngs: nnx.Rngs):
        init = torch_conv_uniform(fan_in=width)
        self.depthwise_kernel = nnx.Param(init(rngs.params(), (width, features)))
        self.bias = nnx.Param(init(rngs.params(), (features,)))
        self.width = width
        self.dtype = dtype

    def __call__(self, x: Features) -> Features:
        """In the compute type; zeros stand beyond the ends."""
        kernel, bias = (parameter[...].astype(self.dtype) for parameter in (self.depthwise_kernel, self.bias))
        return _convolve(x.astype(self.dtype), kernel, bias)


@jax.custom_vjp
def _convolve(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    """Taps and bias, summed in float32.

    The gradients are convolutions and sums in float32 too. JAX's own, which are rounded after every tap, take 120 ms of
    a step of 1354 in a profile (32 texts of 64 tokens in bfloat16, one core of an Intel Xeon with AMX).
    """
    return (_sum_taps(x, kernel) + bias).astype(x.dtype)


def _sum_taps(x: jax.Array, kernel: jax.Array) -> jax.Array:
    shifted = zip(_shifted(x, len(kernel)), kernel, strict=True)
    return functools.reduce(jnp.add, [part.astype(jnp.float32) * weight for part, weight in shifted])


def _shifted(x: jax.Array, width: int) -> list[jax.Array]:
    """`x` moved along the tokens by each place of a kernel."""
    padded = jnp.pad(x, ((0, 0), (width // 2, width // 2), (0, 0)))
    return [padded[:, offset : offset + x.shape[1]] for offset in range(width)]


def _convolution_gradients(
    saved: tuple[jax.Array, jax.Array], cotangent: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    x, kernel = saved
    # Apart on a GPU, where XLA would make one kernel of the taps of all scales and the normalization before them, which
    # takes 2.6 of the 35 ms of a train step (DistilBERT's sizes, 256 texts of 128 tokens, NVIDIA H200).
    x_gradient = jax.lax.platform_dependent(
        _sum_taps(cotangent, kernel[::-1]).astype(x.dtype), cuda=jax.lax.optimization_barrier, default=lambda x: x
    )
    cotangent = cotangent.astype(jnp.float32)
    kernel_gradient = jnp.stack([sum_rows(part * cotangent) for part in _shifted(x.astype(jnp.float32), len(kernel))])
    bias_gradient = sum_rows(cotangent)
    return x_gradient, kernel_gradient.astype(x.dtype), bias_gradient.astype(x.dtype)


_convolve.defvjp(lambda x, kernel, bias: (_convolve(x, kernel, bias), (x, kernel)), _convolution_gradients)


class PointwiseConv(nnx.Module):
    """A convolution of width 1, which is a dense layer. PyTorch: `Conv1d(H, F, 1)`."""

    def __init__(self, in_features: int, out_features: int, *, dtype: DTypeLike, rngs: nnx.Rngs):
        init = torch_conv_uniform(fan_in=in_features)
        self.pointwise_kernel = nnx.Param(init(rngs.params(), (in_features, out_features)))
        self.bias = nnx.Param(init(rngs.params(), (out_features,)))
        self.dtype = dtype

    def __call__(self, x: Features) -> Float[Array, "B S F"]:
        """The product in the compute type."""
        return dense(x, self.pointwise_kernel[...], self.bias[...], self.dtype)


def sum_rows(x: Float[Array, "*rows F"]) -> Float[Array, " F"]:
    """The sum over all axes but the last."""
    return x.sum(tuple(range(x.ndim - 1)))


def masked_mean(x: Features, mask: Mask) -> Float[Array, "B H"]:
    """The mean over the tokens where `mask` is true; 0 where there is none."""
    count = jnp.maximum(mask.sum(axis=1, keepdims=True), 1)
    return jnp.where(mask[..., None], x, 0).sum(axis=1) / count


def moments(
    x: Float[Array, "*rows F"], valid_mask: Bool[Array, "*rows"], sum_rows: Callable[[Array], Array] = sum_rows
) -> tuple[Float32[Array, "1"], Float32[Array, " F"], Float32[Array, " F"]]:
    """The number of the rows that count, and each feature's mean and biased variance over them.

    Args:
      sum_rows: the function of this name, or one that sums over the rows of other devices too.
    """
    weights = valid_mask.astype(jnp.float32)[..., None]
    number = sum_rows(weights)
    divisor = jnp.maximum(number, 1.0)
    mean = sum_rows(x * weights) / divisor
    return number, mean, sum_rows(jnp.square(x - mean) * weights) / divisor


class BatchNorm(nnx.Module):
    """Batch normalization over those positions of the batch that count.

    PyTorch: `BatchNorm1d` over (batch, tokens). Normalizes by the biased variance, tracks the
    unbiased one, and moves the running statistics by 0.1 a step. Computed in float32; under
    `jax.pmap` the statistics are those of the whole batch.
    """

    momentum = 0.1
    epsilon = 1e-5

    def __init__(self, features: int):
        self.scale = nnx.Param(jnp.ones(features))
        self.bias = nnx.Param(jnp.zeros(features))
        self.running_mean = nnx.BatchStat(jnp.zeros(features))
        self.running_var = nnx.BatchStat(jnp.ones(features))
        self.num_batches_tracked = nnx.BatchStat(jnp.zeros((), jnp.int32))
        self.axis_name: str | None = None  # under `jax.pmap`, the axis that the batch is spread over
        self.use_running_average = False

    def __call__(self, x: Float[Array, "B S F"], valid_mask: Mask) -> Float32[Array, "B S F"]:
        """Normalizes `x`; `valid_mask` says which positions enter the statistics in training."""
        x = x.astype(jnp.float32)
        if self.use_running_average:
            scale, shift = self.affine()
            return x * scale + shift
        mean, variance = self._batch_statistics(x, valid_mask)
        return (x - mean) * (jax.lax.rsqrt(variance + self.epsilon) * self.scale[...]) + self.bias[...]

    def affine(self) -> tuple[Float32[Array, " F"], Float32[Array, " F"]]:
        """The factor and the summand that normalizing by the running statistics amounts to."""
        scale = jax.lax.rsqrt(self.running_var[...] + self.epsilon) * self.scale[...]
        return scale, self.bias[...] - self.running_mean[...] * scale

    def _batch_statistics(self, x: jax.Array, valid_mask: jax.Array) -> tuple[jax.Array, jax.Array]:
        count, mean, variance = moments(x, valid_mask, self._sum)
        unbiased = variance * count / jnp.maximum(count - 1, 1.0)
        # A batch in which nothing counts leaves the statistics where they were.
        anything = count[0] > 0
        rate = self.momentum * anything
        self.running_mean[...] += rate * (jax.lax.stop_gradient(mean) - self.running_mean[...])
        self.running_var[...] += rate * (jax.lax.stop_gradient(unbiased) - self.running_var[...])
        self.num_batches_tracked[...] += anything.astype(jnp.int32)
        return mean, variance

    def _sum(self, x: jax.Array) -> jax.Array:
        total = sum_rows(x)
        return jax.lax.psum(total, self.axis_name) if self.axis_name else total
