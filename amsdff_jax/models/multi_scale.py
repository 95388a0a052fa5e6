"""Stage 3: convolutions of several widths over the tokens, joined by self-attention."""

import jax
import jax.numpy as jnp
from flax import nnx

from amsdff_jax.config import ModelConfig
from amsdff_jax.models.attention import MultiheadAttention
from amsdff_jax.models.layers import (
    BatchNorm,
    DepthwiseConv,
    LayerNorm,
    Linear,
    PointwiseConv,
    gelu,
)
from amsdff_jax.models.matmul import dense


class ScaleConv(nnx.List):
    """One scale: depthwise convolution, pointwise convolution, BatchNorm, GELU; [B,S,H] -> [B,S,H/K]."""

    def __init__(self, hidden_size: int, scale_size: int, kernel_size: int, *, dtype, rngs: nnx.Rngs):
        super().__init__(
            [
                DepthwiseConv(hidden_size, kernel_size, dtype=dtype, rngs=rngs),
                PointwiseConv(hidden_size, scale_size, dtype=dtype, rngs=rngs),
                BatchNorm(scale_size),
            ]
        )

    def __call__(self, x: jax.Array, valid_mask: jax.Array) -> jax.Array:
        """[B,S,H], and valid_mask [B,S] as in `BatchNorm` -> [B,S,H/K]."""
        depthwise, pointwise = self[:2]
        features = depthwise(x)
        if len(self) == 2:  # BatchNorm has been folded into the convolution
            return gelu(pointwise(features))
        batch_norm = self[2]
        if batch_norm.use_running_average:  # then it is affine, and goes into the product before it
            scale, shift = batch_norm.affine()
            kernel = pointwise.pointwise_kernel[...] * scale
            return gelu(dense(features, kernel, pointwise.bias[...] * scale + shift, pointwise.dtype))
        return gelu(batch_norm(pointwise(features), valid_mask))

    def fold_batch_norm(self) -> None:
        """Takes BatchNorm, as it is in eval mode, into the pointwise convolution: for inference only, for good."""
        pointwise, batch_norm = self[1], self.pop()
        scale, shift = batch_norm.affine()
        pointwise.pointwise_kernel[...] *= scale
        pointwise.bias[...] = pointwise.bias[...] * scale + shift


class MultiScaleAttention(nnx.Module):
    """K scales side by side, mixed over the tokens by self-attention, with a residual."""

    def __init__(self, config: ModelConfig, hidden_size: int, *, dtype, rngs: nnx.Rngs):
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

    def __call__(self, x: jax.Array, mask: jax.Array, seed: jax.Array | None = None) -> jax.Array:
        """[B,S,H] and mask [B,S] -> [B,S,H] float32."""
        return self.fuse(self.convolve(x, mask), x, mask, seed)

    def convolve(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        """The scales side by side: [B,S,H] and mask [B,S] -> [B,S,H], of which each scale has H/K features."""
        visible, valid_mask = self.masked_inputs(x, mask)
        return jnp.concatenate([conv(visible, valid_mask) for conv in self.scale_convs], axis=-1)

    def masked_inputs(self, x: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
        """What the convolutions see of `x` [B,S,H], and the positions [B,S] that BatchNorm counts."""
        if self.mask_padding:
            return jnp.where(mask[..., None], x, 0), mask
        # Rows without a token are filler of an incomplete batch, which PyTorch would not have seen.
        return x, jnp.broadcast_to(mask.any(axis=1, keepdims=True), mask.shape)

    def fuse(self, scales: jax.Array, x: jax.Array, mask: jax.Array, seed: jax.Array | None = None) -> jax.Array:
        """Mixes the scales [B,S,H] over the tokens and adds `x`, what they were made of: [B,S,H] float32."""
        fused = self.scale_fusion(scales, mask, seed)
        return self.layer_norm(self.output_projection(fused) + x)
