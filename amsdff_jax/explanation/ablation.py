"""What the logits are when a scale or a pool is left out, its features replaced by zeros."""

import jax
import jax.numpy as jnp

from amsdff_jax.models.amsdff import AMSDFFOutput, EnhancedAMSDFF

# What a page calls the pools of `model.pools`.
POOLS = {"attention": "attention", "query": "learned query", "max": "maximum"}


def leave_out_scales(model: EnhancedAMSDFF, output: AMSDFFOutput, mask: jax.Array) -> jax.Array:
    """The logits of one text without each of the scales, K in number.

    A scale's features, after its GELU and before the self-attention that mixes the scales, become 0 at every
    token. The residual around the scales stays.

    Args:
      output: what the model computed for the text, with B = 1.
      mask: [1,S] bool.

    Returns:
      [K,C] float32; K is 0 if the model has no scales.
    """
    if model.multi_scale_attention is None:
        return jnp.zeros((0, output.logits.shape[-1]))
    enhanced = output.enhanced_features
    scales = _without_each(model.multi_scale_attention.convolve(enhanced, mask), len(model.config.kernel_sizes))
    rows = len(scales)
    enhanced, mask = jnp.repeat(enhanced, rows, axis=0), jnp.repeat(mask, rows, axis=0)
    sequence = model.multi_scale_attention.fuse(scales, enhanced, mask)
    if model.dynamic_fusion is not None:
        sequence, _ = model.dynamic_fusion(sequence, mask)
    pooled, *_ = model.pooling_strategy(sequence, mask)
    return model.classifier(pooled).astype(jnp.float32)


def leave_out_pools(model: EnhancedAMSDFF, output: AMSDFFOutput, mask: jax.Array) -> jax.Array:
    """The logits of one text without each of the pools, in the order of `model.pools`.

    A pool's vector becomes 0 before the dense layers that fuse the pools.

    Args:
      output: what the model computed for the text, with B = 1.
      mask: [1,S] bool.

    Returns:
      [pools,C] float32.
    """
    pools, *_ = model.pooling_strategy.pool(output.sequence_features, mask)
    pooled = model.pooling_strategy.pooling_fusion(_without_each(pools, len(model.config.pools)))
    return model.classifier(pooled).astype(jnp.float32)


def _without_each(features: jax.Array, parts: int) -> jax.Array:
    """[1,...,F] -> [parts,...,F]: in row i the i-th of `parts` equal parts of the features is 0."""
    size = features.shape[-1] // parts
    kept = ~jnp.repeat(jnp.eye(parts, dtype=bool), size, axis=1)  # [parts,F]
    return jnp.where(kept.reshape(parts, *(1,) * (features.ndim - 2), -1), features, 0)
