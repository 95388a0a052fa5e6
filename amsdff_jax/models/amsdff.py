"""The AMSDFF classifier: encoder, enhancer, multi-scale attention, fusion, pooling, head."""

from typing import NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Float32

from amsdff_jax.config import EncoderConfig, ModelConfig
from amsdff_jax.models.data_dependent_init import (
    fit_fusion,
    fit_multi_scale,
    fit_pooling,
    standardize_layers,
    start_near_identity,
)
from amsdff_jax.models.dispatch import choose_compute_dtype, default_platform
from amsdff_jax.models.dropout import Dropout
from amsdff_jax.models.encoders.registry import make_encoder
from amsdff_jax.models.fusion import DynamicFusion
from amsdff_jax.models.last_layer import make_last_layer
from amsdff_jax.models.layers import LayerNorm, Linear, Sequential, gelu
from amsdff_jax.models.multi_scale import MultiScaleAttention
from amsdff_jax.models.pooling import PoolingStrategy
from amsdff_jax.models.pretrained import PretrainedClassifier
from amsdff_jax.models.shapes import Features, Mask, Seed


class AMSDFFOutput(NamedTuple):
    """What the classifier computed for a batch, from the logits back to the encoder.

    Attributes:
      logits: before the softmax; of ordered classes the logarithms of the probabilities.
      pooled_features: what the classifier head reads.
      sequence_features: after the experts.
      token_attention: weights of the attention pool; a text's sum to 1.
      expert_gates: weights of the experts; a text's sum to 1.
      cls_attention: the learned query's attention; a head's sum to 1.

    The last three are None in a model without that part.
    """

    logits: Float32[Array, "B C"]
    pooled_features: Float[Array, "B H"]
    sequence_features: Features
    multi_scale_features: Features
    enhanced_features: Features
    encoder_output: Features
    token_attention: Float32[Array, "B S"] | None
    expert_gates: Float32[Array, "B E"] | None
    cls_attention: Float32[Array, "B N S"] | None


class EnhancedAMSDFF(PretrainedClassifier):
    """The classifier, in eval mode until `train()` is called. PyTorch: `EnhancedAMSDFF`."""

    name = "amsdff"
    can_fit_new_layers = True

    def __init__(
        self, config: ModelConfig, encoder_config: EncoderConfig, *, rngs: nnx.Rngs, platform: str | None = None
    ):
        """Builds the classifier, to compute on `platform`; None: where its numbers are made.

        Raises:
          UserError: the encoder's hidden size does not split into the scales or the heads.
        """
        hidden_size = encoder_config.dim
        config.check_hidden_size(hidden_size)
        platform = platform or default_platform()
        dtype = choose_compute_dtype(config.compute_dtype, platform)

        def block(in_features: int, out_features: int, dropout_rate: float) -> list:
            linear = Linear(in_features, out_features, dtype=dtype, rngs=rngs)
            return [linear, LayerNorm(out_features, rngs=rngs), gelu, Dropout(dropout_rate)]

        self.transformer = make_encoder(encoder_config, dtype=dtype, rngs=rngs)
        self.feature_enhancer = Sequential(block(hidden_size, hidden_size, config.dropout_rate))
        self.multi_scale_attention = (
            MultiScaleAttention(config, hidden_size, dtype=dtype, rngs=rngs) if config.multi_scale else None
        )
        self.dynamic_fusion = DynamicFusion(config, hidden_size, dtype=dtype, rngs=rngs) if config.fusion else None
        self.pooling_strategy = PoolingStrategy(config, hidden_size, dtype=dtype, rngs=rngs)
        half, quarter = hidden_size // 2, hidden_size // 4
        first_rate, second_rate = config.classifier_dropout_rates
        self.classifier = Sequential(
            [
                *block(hidden_size, half, first_rate),
                *block(half, quarter, second_rate),
                make_last_layer(quarter, config, dtype=dtype, rngs=rngs),
            ]
        )
        self._complete(config, encoder_config, platform, rngs)

    def classify(self, encoder_output: Features, mask: Mask, seed: Seed | None = None) -> AMSDFFOutput:
        """Everything after the encoder. A stage that is left out passes on what it gets."""
        enhanced = multi_scale = self.feature_enhancer(encoder_output, seed)
        if self.multi_scale_attention is not None:
            multi_scale = self.multi_scale_attention(enhanced, mask, seed)
        sequence, expert_gates = multi_scale, None
        if self.dynamic_fusion is not None:
            sequence, expert_gates = self.dynamic_fusion(multi_scale, mask, seed)
        pooled, token_attention, cls_attention = self.pooling_strategy(sequence, mask, seed)
        return AMSDFFOutput(
            logits=self.classifier(pooled, seed).astype(jnp.float32),
            pooled_features=pooled,
            sequence_features=sequence,
            multi_scale_features=multi_scale,
            enhanced_features=enhanced,
            encoder_output=encoder_output,
            token_attention=token_attention,
            expert_gates=expert_gates,
            cls_attention=cls_attention,
        )

    def fit_new_layers(self, encoder_output: Features, mask: Mask) -> None:
        """Makes the random layers suit the data, stage by stage, but for the last, whose outputs are no features."""
        start_near_identity(self.feature_enhancer)
        x = standardize_layers(self.feature_enhancer, encoder_output, mask)
        if self.multi_scale_attention is not None:
            x = fit_multi_scale(self.multi_scale_attention, x, mask)
        if self.dynamic_fusion is not None:
            x = fit_fusion(self.dynamic_fusion, x, mask)
        pooled = fit_pooling(self.pooling_strategy, x, mask)
        *hidden_layers, _ = self.classifier
        standardize_layers(hidden_layers, pooled, mask.any(axis=1))
