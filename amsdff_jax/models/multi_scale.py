"""Stage 3: convolutions of several widths over the tokens, joined by self-attention."""

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Float32

from amsdff_jax.config import ModelConfig
from amsdff_jax.models.attention import MultiheadAttention
from amsdff_jax.models.layers import BatchNorm, DepthwiseConv, LayerNorm, Linear, PointwiseConv, gelu
from amsdff_jax.models.matmul import dense
from amsdff_jax.models.shapes import Features, Features32, Mask, Seed


class FoldedBatchNorm(nnx.Module):
    """What stands in BatchNorm's place once it has been folded into the convolution before it: nothing."""

    use_running_average = False

    def __call__(self, x: Float[Array, "B S F"], valid_mask: Mask) -> Float[Array, "B S F"]:
        """`x` itself."""
        return x


class ScaleConv(nnx.List):
    """One scale: depthwise convolution, pointwise convolution, BatchNorm, GELU."""

    def __init__(self, hidden_size: int, scale_size: int, kernel_size: int, *, dtype: DTypeLike, rngs: nnx.Rngs):
        super().__init__(
            [
                DepthwiseConv(hidden_size, kernel_size, dtype=dtype, rngs=rngs),
                PointwiseConv(hidden_size, scale_size, dtype=dtype, rngs=rngs),
                BatchNorm(scale_size),
            ]
        )

    def __call__(self, x: Features, valid_mask: Mask) -> Float[Array, "B S F"]:
        """One of the K parts of the features; `valid_mask` as in `BatchNorm`."""
        depthwise, pointwise, batch_norm = self
        features = depthwise(x)
        if batch_norm.use_running_average:  # then it is affine, and goes into the product before it
            return gelu(dense(features, *self._folded(), pointwise.dtype))
        return gelu(batch_norm(pointwise(features), valid_mask))

    def fold_batch_norm(self) -> None:
        """Takes BatchNorm, as it is in eval mode, into the pointwise convolution: for inference only, for good."""
        pointwise = self[1]
        pointwise.pointwise_kernel[...], pointwise.bias[...] = self._folded()
        self[2] = FoldedBatchNorm()

    def _folded(self) -> tuple[Float32[Array, "H F"], Float32[Array, " F"]]:
        """Kernel and bias of the pointwise convolution with BatchNorm's running statistics taken into them."""
        _, pointwise, batch_norm = self
        scale, shift = batch_norm.affine()
        return pointwise.pointwise_kernel[...] * scale, pointwise.bias[...] * scale + shift


class MultiScaleAttention(nnx.Module):
    """K scales side by side, mixed over the tokens by self-attention, with a residual."""

    def __init__(self, config: ModelConfig, hidden_size: int, *, dtype: DTypeLike, rngs: nnx.Rngs):
        scale_size = hidden_size // len(config.kernel_sizes)
        self.scale_convs = nnx.List(
            [ScaleConv(hidden_size, scale_size, size, dtype=dtype, rngs=rngs) for size in config.kernel_sizes]
        )
        self.scale_fusion = MultiheadAttention(
            hidden_size, config.num_attention_heads, config.attention_dropout_rate, dtype=dtype, rngs=rngs
        )
        self.output_projection = Linear(hidden_size, hidden_size, dtype=dtype, rngs=rngs)
        self.layer_norm = LayerNorm(hidden_size, rngs=rngs)
        self.mask_padding = config.mask_padding

    def __call__(self, x: Features, mask: Mask, seed: Seed | None = None) -> Features32:
        """Convolutions, attention and residual."""
        return self.fuse(self.convolve(x, mask), x, mask, seed)

    def convolve(self, x: Features, mask: Mask) -> Features:
        """The scales side by side; each has H/K of the features."""
        visible, valid_mask = self.masked_inputs(x, mask)
        return jnp.concatenate([conv(visible, valid_mask) for conv in self.scale_convs], axis=-1)

    def masked_inputs(self, x: Features, mask: Mask) -> tuple[Features, Mask]:
        """What the convolutions see of `x`, and the positions that BatchNorm counts."""
        if self.mask_padding:
            return jnp.where(mask[..., None], x, 0), mask
        # Rows without a token are filler of an incomplete batch, which PyTorch would not have seen.
        return x, jnp.broadcast_to(mask.any(axis=1, keepdims=True), mask.shape)

    def fuse(self, scales: Features, x: Features, mask: Mask, seed: Seed | None = None) -> Features32:
        """Mixes the scales over the tokens and adds `x`, what they were made of."""
        fused = self.scale_fusion(scales, mask, seed)
        return self.layer_norm(self.output_projection(fused) + x)
