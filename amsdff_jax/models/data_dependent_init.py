"""Weights to begin with that suit the data: what the encoder found out about a text reaches the classifier.

A random layer followed by GELU gives all texts a large part in common, and every further layer makes that part
grow; after all those of AMSDFF the texts look almost the same to the classifier. So each new layer is shifted and
scaled until its features have mean 0 and variance 1 over some texts of the training split. See Krähenbühl et al.,
"Data-dependent Initializations of Convolutional Neural Networks", 2016, and Mishkin and Matas, "All You Need Is a
Good Init", 2016.

Dense layers that give as many features as the encoder begin near the identity, so that each feature still means
what the encoder made it mean. See Le et al., "A Simple Way to Initialize Recurrent Networks of Rectified Linear
Units", 2015.
"""

from collections.abc import Callable, Iterable

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Float32

from amsdff_jax.models.dropout import Dropout
from amsdff_jax.models.fusion import DynamicFusion
from amsdff_jax.models.layers import Linear, moments
from amsdff_jax.models.multi_scale import MultiScaleAttention
from amsdff_jax.models.pooling import PoolingStrategy
from amsdff_jax.models.shapes import Features, Features32, Mask

RANDOM_PART = 0.3  # how much of its random weights a layer keeps beside the identity
SMALLEST_DEVIATION = 1e-3  # of a feature that is the same for all texts, of which there may be only one


def start_near_identity(layers: Iterable[Callable]) -> None:
    """Makes each `Linear` among `layers` give about what it gets, or, of parts side by side, about their mean.

    For layers whose input is one or more parts of the size of their output. Some of the random weights stay, or
    layers beside each other would be the same and stay so.
    """
    for layer in layers:
        if isinstance(layer, Linear):
            parts = layer.in_features // layer.out_features
            identity = jnp.tile(jnp.eye(layer.out_features), (parts, 1)) / parts
            layer.kernel[...] = identity + RANDOM_PART * layer.kernel[...]


def standardize_layers(
    layers: Iterable[Callable], x: Float[Array, "*rows F"], valid_mask: Bool[Array, "*rows"]
) -> Float32[Array, "*rows G"]:
    """Runs `layers` one after another and standardizes what each `Linear` among them gives.

    Args:
      x: features of tokens, or of whole texts.
      valid_mask: the rows that the statistics are taken over.

    Returns:
      What the last layer gives.
    """
    for layer in layers:
        if isinstance(layer, Dropout):
            continue
        x = layer(x)
        if isinstance(layer, Linear):
            mean, deviation = _statistics(x, valid_mask)
            _shift_and_scale(layer, mean, deviation)
            x = (x - mean) / deviation
    return x


def fit_multi_scale(stage: MultiScaleAttention, x: Features, mask: Mask) -> Features32:
    """Fits stage 3 and returns what it gives now.

    The convolutions have BatchNorm, which standardizes what they give; its running statistics become those of `x`.
    """
    visible, valid_mask = stage.masked_inputs(x, mask)
    for depthwise, pointwise, batch_norm in stage.scale_convs:
        _, mean, variance = moments(pointwise(depthwise(visible)), valid_mask)
        batch_norm.running_mean[...], batch_norm.running_var[...] = mean, variance
    start_near_identity([stage.scale_fusion.out_proj, stage.output_projection])
    attended = stage.scale_fusion(stage.convolve(x, mask), mask)
    mean, deviation = _statistics(attended, mask)
    _shift_and_scale(stage.scale_fusion.out_proj, mean, deviation)
    mixed = standardize_layers([stage.output_projection], (attended - mean) / deviation, mask)
    return stage.layer_norm(mixed + x)


def fit_fusion(stage: DynamicFusion, x: Features, mask: Mask) -> Features32:
    """Fits stage 4 and returns what it gives now.

    A text's gates sum to 1, so shifting and scaling every expert alike shifts and scales their mixture.
    """
    for expert in stage.experts:
        start_near_identity(expert)
        standardize_layers(expert, x, mask)
    mixture, _ = stage(x, mask)
    mean, deviation = _statistics(mixture, mask)
    for expert in stage.experts:
        _shift_and_scale(expert[-1], mean, deviation)
    return (mixture - mean) / deviation


def fit_pooling(stage: PoolingStrategy, x: Features, mask: Mask) -> Float32[Array, "B H"]:
    """Fits stage 5 and returns what it gives now."""
    is_text = mask.any(axis=1)
    if "attention" in stage.pools:
        hidden, *_ = stage.attention_pooling
        standardize_layers([hidden], x, mask)
    if "query" in stage.pools:
        query = jnp.broadcast_to(stage.cls_token[...], (x.shape[0], 1, x.shape[2]))
        start_near_identity([stage.cls_attention.out_proj])
        answer, _ = stage.cls_attention.query_with_weights(query, x, mask)  # [B,1,H]
        _shift_and_scale(stage.cls_attention.out_proj, *_statistics(answer[:, 0], is_text))
    start_near_identity(stage.pooling_fusion)
    pools, _, _ = stage.pool(x, mask)
    return standardize_layers(stage.pooling_fusion, pools, is_text)


def _statistics(
    x: Float[Array, "*rows F"], valid_mask: Bool[Array, "*rows"]
) -> tuple[Float32[Array, " F"], Float32[Array, " F"]]:
    """Mean and standard deviation of each feature over the rows that count."""
    _, mean, variance = moments(x, valid_mask)
    return mean, jnp.maximum(jnp.sqrt(variance), SMALLEST_DEVIATION)


def _shift_and_scale(layer: Linear, mean: Float[Array, " F"], deviation: Float[Array, " F"]) -> None:
    """Makes `layer` give (y - mean) / deviation where it gave y."""
    layer.kernel[...] /= deviation
    layer.bias[...] = (layer.bias[...] - mean) / deviation
