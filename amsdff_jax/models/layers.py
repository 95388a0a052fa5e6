"""The layers that Flax lacks in the form PyTorch's weights need.

The leaf names decide how a parameter is laid out in PyTorch (see `interop/state_dict.py`):
`kernel`, `pointwise_kernel` and `in_proj_kernel` are stored input-first and `depthwise_kernel`
width-first, where PyTorch stores the output first.
"""

import math

import jax
import jax.numpy as jnp
from flax import nnx

from amsdff_jax.models.dropout import Dropout

LAYER_NORM_EPSILON = 1e-5  # PyTorch's default, and that of every LayerNorm outside the encoder

# PyTorch's xavier_uniform_: limits ±sqrt(6 / (in + out)), symmetric in the two, so the layout does not matter.
xavier_uniform = nnx.initializers.xavier_uniform()


class Linear(nnx.Linear):
    """A dense layer `[..., in] -> [..., out]`, Xavier-uniform with zero bias.

    Multiplies over flattened leading axes: XLA's CPU backend trains a product over [B*S,H] about
    twice as fast as the same product over [B,S,H].
    """

    def __init__(self, in_features: int, out_features: int, *, dtype, rngs: nnx.Rngs, kernel_init=xavier_uniform):
        super().__init__(in_features, out_features, dtype=dtype, kernel_init=kernel_init, rngs=rngs)

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """[..., in] -> [..., out]."""
        flat = super().__call__(inputs.reshape(-1, inputs.shape[-1]))
        return flat.reshape(*inputs.shape[:-1], self.out_features)


class LayerNorm(nnx.LayerNorm):
    """Layer normalization over the last axis, always computed in float32, with PyTorch's epsilon."""

    def __init__(self, features: int, *, rngs: nnx.Rngs, epsilon: float = LAYER_NORM_EPSILON):
        super().__init__(features, epsilon=epsilon, dtype=jnp.float32, use_fast_variance=False, rngs=rngs)


class Sequential(nnx.List):
    """Layers in order, under the paths `0`, `1`, ... that PyTorch's `nn.Sequential` gives them."""

    def __call__(self, x: jax.Array, seed: jax.Array | None = None) -> jax.Array:
        """Runs all layers; `seed` goes to the dropouts."""
        for layer in self:
            x = layer(x, seed) if isinstance(layer, Dropout) else layer(x)
        return x


class GELU(nnx.Module):
    """The exact (erf) GELU, as a layer, so that it takes up an index in a `Sequential`."""

    def __call__(self, x: jax.Array) -> jax.Array:
        """Any shape, element by element."""
        return gelu(x)


class Softmax(nnx.Module):
    """Softmax over the last axis in float32, as a layer."""

    def __call__(self, x: jax.Array) -> jax.Array:
        """[...,C] -> [...,C] float32."""
        return jax.nn.softmax(x.astype(jnp.float32), axis=-1)


class Tanh(nnx.Module):
    """Hyperbolic tangent, as a layer."""

    def __call__(self, x: jax.Array) -> jax.Array:
        """Any shape, element by element."""
        return jnp.tanh(x)


@jax.custom_vjp
def gelu(x: jax.Array) -> jax.Array:
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
    """A convolution of odd width over the tokens, each feature by itself: [B,S,H] -> [B,S,H].

    PyTorch: `Conv1d(H, H, width, padding=width // 2, groups=H)`. Written as `width` shifted
    multiply-adds: XLA's grouped convolution is about 100 times slower on a CPU.
    """

    def __init__(self, features: int, width: int, *, dtype, rngs: nnx.Rngs):
        init = torch_conv_uniform(fan_in=width)
        self.depthwise_kernel = nnx.Param(init(rngs.params(), (width, features)))
        self.bias = nnx.Param(init(rngs.params(), (features,)))
        self.width = width
        self.dtype = dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B,S,H] -> [B,S,H] in the compute type."""
        length, margin = x.shape[1], self.width // 2
        kernel = self.depthwise_kernel[...].astype(self.dtype)
        padded = jnp.pad(x.astype(self.dtype), ((0, 0), (margin, margin), (0, 0)))
        taps = (padded[:, offset : offset + length] * kernel[offset] for offset in range(self.width))
        return sum(taps) + self.bias[...].astype(self.dtype)


class PointwiseConv(nnx.Module):
    """A convolution of width 1, which is a dense layer: [B,S,H] -> [B,S,F]. PyTorch: `Conv1d(H, F, 1)`."""

    def __init__(self, in_features: int, out_features: int, *, dtype, rngs: nnx.Rngs):
        init = torch_conv_uniform(fan_in=in_features)
        self.pointwise_kernel = nnx.Param(init(rngs.params(), (in_features, out_features)))
        self.bias = nnx.Param(init(rngs.params(), (out_features,)))
        self.dtype = dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B,S,H] -> [B,S,F] in the compute type."""
        kernel = self.pointwise_kernel[...].astype(self.dtype)
        flat = x.astype(self.dtype).reshape(-1, kernel.shape[0]) @ kernel
        return flat.reshape(*x.shape[:-1], kernel.shape[1]) + self.bias[...].astype(self.dtype)


class BatchNorm(nnx.Module):
    """Batch normalization over those positions of the batch that count: [B,S,F] -> [B,S,F].

    PyTorch: `BatchNorm1d` over (batch, tokens). Normalizes by the biased variance, tracks the
    unbiased one, and moves the running statistics by 0.1 a step. Computed in float32.

    Attributes:
      axis_name: under `jax.pmap`, the axis over which the batch is spread: statistics are those of the
        whole batch. Else None.
    """

    momentum = 0.1
    epsilon = 1e-5

    def __init__(self, features: int):
        self.scale = nnx.Param(jnp.ones(features))
        self.bias = nnx.Param(jnp.zeros(features))
        self.running_mean = nnx.BatchStat(jnp.zeros(features))
        self.running_var = nnx.BatchStat(jnp.ones(features))
        self.num_batches_tracked = nnx.BatchStat(jnp.zeros((), jnp.int32))
        self.axis_name: str | None = None
        self.use_running_average = False

    def __call__(self, x: jax.Array, counted: jax.Array) -> jax.Array:
        """Normalizes `x`.

        Args:
          x: [B,S,F], any float type.
          counted: [B,S] bool, the positions that enter the statistics in training.
        """
        x = x.astype(jnp.float32)
        if self.use_running_average:
            mean, variance = self.running_mean[...], self.running_var[...]
        else:
            mean, variance = self._batch_statistics(x, counted)
        return (x - mean) * (jax.lax.rsqrt(variance + self.epsilon) * self.scale[...]) + self.bias[...]

    def _batch_statistics(self, x: jax.Array, counted: jax.Array) -> tuple[jax.Array, jax.Array]:
        weights = counted.astype(jnp.float32)[..., None]  # [B,S,1]
        counted_positions = self._sum(weights)  # [1]
        count = jnp.maximum(counted_positions, 1.0)
        mean = self._sum(x * weights) / count
        variance = self._sum(jnp.square(x - mean) * weights) / count
        unbiased = variance * count / jnp.maximum(count - 1, 1.0)
        # A batch in which nothing counts leaves the statistics where they were.
        anything = counted_positions[0] > 0
        rate = self.momentum * anything
        self.running_mean[...] += rate * (jax.lax.stop_gradient(mean) - self.running_mean[...])
        self.running_var[...] += rate * (jax.lax.stop_gradient(unbiased) - self.running_var[...])
        self.num_batches_tracked[...] += anything.astype(jnp.int32)
        return mean, variance

    def _sum(self, x: jax.Array) -> jax.Array:
        total = x.sum((0, 1))
        return jax.lax.psum(total, self.axis_name) if self.axis_name else total


def attend(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    key_mask: jax.Array,
    dropout: Dropout,
    seed: jax.Array | None,
) -> tuple[jax.Array, jax.Array]:
    """Scaled dot-product attention over the keys that the mask admits.

    Args:
      query: [B,Q,N,D] with N heads of D features.
      key, value: [B,S,N,D].
      key_mask: [B,S] bool. A row that admits nothing attends evenly and stays finite.
      dropout: applied to the attention weights.
      seed: of the dropout, from `dropout_seed`; None in eval mode.

    Returns:
      The attended values [B,Q,N*D] in the type of `value`, and the weights [B,N,Q,S] before
      dropout, float32.
    """
    query = query * (1 / math.sqrt(query.shape[-1]))
    scores = jnp.einsum("bqnd,bsnd->bnqs", query, key, preferred_element_type=jnp.float32)
    scores = jnp.where(key_mask[:, None, None, :], scores, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(scores, axis=-1)
    context = jnp.einsum("bnqs,bsnd->bqnd", dropout(weights, seed).astype(value.dtype), value)
    return context.reshape(*context.shape[:2], -1), weights


class MultiheadAttention(nnx.Module):
    """Attention whose three input projections are packed into one, as in PyTorch's `nn.MultiheadAttention`."""

    def __init__(self, features: int, num_heads: int, dropout_rate: float, *, dtype, rngs: nnx.Rngs):
        self.in_proj_kernel = nnx.Param(xavier_uniform(rngs.params(), (features, 3 * features)))
        self.in_proj_bias = nnx.Param(jnp.zeros(3 * features))
        self.out_proj = Linear(features, features, dtype=dtype, rngs=rngs)
        self.dropout = Dropout(dropout_rate)
        self.num_heads = num_heads
        self.dtype = dtype

    def __call__(
        self, query: jax.Array, sequence: jax.Array, mask: jax.Array, seed: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Lets `query` [B,Q,H] attend to `sequence` [B,S,H] where `mask` [B,S] is true.

        Returns:
          [B,Q,H] and the attention weights [B,heads,Q,S].
        """
        features = query.shape[-1]
        if query is sequence:
            query, key, value = jnp.split(self._project(sequence, 0, 3 * features), 3, axis=-1)
        else:
            query = self._project(query, 0, features)
            key, value = jnp.split(self._project(sequence, features, 3 * features), 2, axis=-1)
        heads = (split_heads(x, self.num_heads) for x in (query, key, value))
        context, weights = attend(*heads, mask, self.dropout, seed)
        return self.out_proj(context), weights

    def _project(self, x: jax.Array, start: int, stop: int) -> jax.Array:
        kernel = self.in_proj_kernel[:, start:stop].astype(self.dtype)
        flat = x.astype(self.dtype).reshape(-1, x.shape[-1]) @ kernel + self.in_proj_bias[start:stop].astype(self.dtype)
        return flat.reshape(*x.shape[:-1], stop - start)


def split_heads(x: jax.Array, num_heads: int) -> jax.Array:
    """[B,S,H] -> [B,S,heads,H/heads]."""
    return x.reshape(*x.shape[:2], num_heads, -1)
