"""What AMSDFF is compared with: the same encoder, one well-known way to sum it up, one dense layer."""

import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.core import max_dim
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Float32

from amsdff_jax.config import EncoderConfig, ModelConfig
from amsdff_jax.config.encoders import ModernBertConfig
from amsdff_jax.models.attention import MultiheadAttention
from amsdff_jax.models.dispatch import choose_compute_dtype, default_platform
from amsdff_jax.models.dropout import Dropout
from amsdff_jax.models.encoders.registry import make_encoder
from amsdff_jax.models.last_layer import make_last_layer
from amsdff_jax.models.layers import LayerNorm, Linear, Sequential, gelu, masked_mean, torch_conv_uniform
from amsdff_jax.models.pooling import AttentionPool, max_pool
from amsdff_jax.models.pretrained import PretrainedClassifier
from amsdff_jax.models.recurrent import GRU, LSTM, RecurrentNetwork
from amsdff_jax.models.shapes import Features, Mask, Seed

CNN_WIDTHS = (3, 4, 5)
CNN_FILTERS = 100

# Of the head `bert`, by the `native_type` of its encoder.
POOLER_ACTIVATIONS = {
    **dict.fromkeys(("bert", "roberta", "mpnet"), jnp.tanh),
    **dict.fromkeys(("electra", "modernbert", "deberta-v2"), gelu),
    "distilbert": jax.nn.relu,
}
DROPS_BEFORE_POOLER = ("roberta", "electra", "mpnet")


class BaselineOutput(NamedTuple):
    """What a baseline computed for a batch."""

    logits: Float32[Array, "B C"]
    pooled_features: Float[Array, "B F"]
    encoder_output: Features


class Baseline(PretrainedClassifier):
    """Encoder, `pool`, dropout, `classifier`."""

    def __init__(
        self, config: ModelConfig, encoder_config: EncoderConfig, *, rngs: nnx.Rngs, platform: str | None = None
    ):
        """Builds the classifier, to compute on `platform`; None: where its numbers are made.

        Raises:
          UserError: the encoder's hidden size does not split into the heads.
        """
        config = dataclasses.replace(config, name=self.name)
        config.check_hidden_size(encoder_config.dim)
        platform = platform or default_platform()
        dtype = choose_compute_dtype(config.compute_dtype, platform)
        self.transformer = make_encoder(encoder_config, dtype=dtype, rngs=rngs)
        pooled_size = self._build(config, encoder_config.dim, dtype=dtype, rngs=rngs)
        self.dropout = Dropout(config.dropout_rate)
        self.classifier = make_last_layer(pooled_size, config, dtype=dtype, rngs=rngs)
        self._complete(config, encoder_config, platform, rngs)

    def classify(self, encoder_output: Features, mask: Mask, seed: Seed | None = None) -> BaselineOutput:
        """Everything after the encoder."""
        pooled = self.pool(encoder_output, mask, seed)
        logits = self.classifier(self.dropout(pooled, seed)).astype(jnp.float32)
        return BaselineOutput(logits, pooled, encoder_output)

    def _build(self, config: ModelConfig, hidden_size: int, *, dtype: DTypeLike, rngs: nnx.Rngs) -> int:
        """Makes the layers of `pool`; returns F."""
        raise NotImplementedError

    def pool(self, x: Features, mask: Mask, seed: Seed | None) -> Float[Array, "B F"]:
        """Sums a text's tokens up."""
        raise NotImplementedError


class RecurrentClassifier(Baseline):
    """Two bidirectional recurrent layers; in reference semantics they run over the padding too."""

    network: ClassVar[type[RecurrentNetwork]]  # kept under the classifier's name, as in PyTorch

    def _build(self, config: ModelConfig, hidden_size: int, *, dtype: DTypeLike, rngs: nnx.Rngs) -> int:
        network = self.network(hidden_size, hidden_size // 2, config.dropout_rate, dtype=dtype, rngs=rngs)
        setattr(self, self.name, network)
        return 2 * (hidden_size // 2)

    def pool(self, x: Features, mask: Mask, seed: Seed | None) -> Float[Array, "B F"]:
        """See the base class."""
        mask = mask if self.config.mask_padding else jnp.ones_like(mask)
        return getattr(self, self.name)(x, mask, seed)


class LSTMClassifier(RecurrentClassifier):
    """Long short-term memory."""

    name, network = "lstm", LSTM


class GRUClassifier(RecurrentClassifier):
    """Gated recurrent units."""

    name, network = "gru", GRU


class TransformerClassifier(Baseline):
    """One more self-attention, the mean over the tokens, a dense layer with tanh."""

    name = "transformer"

    def _build(self, config: ModelConfig, hidden_size: int, *, dtype: DTypeLike, rngs: nnx.Rngs) -> int:
        self.attention = MultiheadAttention(
            hidden_size, config.num_attention_heads, config.attention_dropout_rate, dtype=dtype, rngs=rngs
        )
        self.pooler = Sequential([Linear(hidden_size, hidden_size, dtype=dtype, rngs=rngs), jnp.tanh])
        return hidden_size

    def pool(self, x: Features, mask: Mask, seed: Seed | None) -> Float[Array, "B F"]:
        """See the base class."""
        return self.pooler(masked_mean(self.attention(x, mask, seed), mask))


class Conv(nnx.Module):
    """A convolution over the tokens without padding. PyTorch: `Conv1d(H, F, width)`."""

    def __init__(self, in_features: int, filters: int, width: int, *, dtype: DTypeLike, rngs: nnx.Rngs):
        init = torch_conv_uniform(fan_in=in_features * width)
        self.conv_kernel = nnx.Param(init(rngs.params(), (width, in_features, filters)))
        self.bias = nnx.Param(init(rngs.params(), (filters,)))
        self.dtype = dtype

    def __call__(self, x: Features) -> Float[Array, "B W F"]:
        """Features of the W = S - width + 1 windows, in the compute type."""
        kernel = self.conv_kernel[...].astype(self.dtype)
        windows = x.shape[1] - kernel.shape[0] + 1
        taps = (x[:, offset : offset + windows].astype(self.dtype) @ tap for offset, tap in enumerate(kernel))
        return sum(taps) + self.bias[...].astype(self.dtype)


class CNNClassifier(Baseline):
    """Convolutions of widths 3, 4 and 5, ReLU, the maximum over the tokens (Kim, 2014).

    In masked semantics only windows of real tokens count, and the first one, which a text shorter
    than the window fills up with zeros; in reference semantics every window does.
    """

    name = "cnn"

    def _build(self, config: ModelConfig, hidden_size: int, *, dtype: DTypeLike, rngs: nnx.Rngs) -> int:
        self.convs = nnx.List([Conv(hidden_size, CNN_FILTERS, width, dtype=dtype, rngs=rngs) for width in CNN_WIDTHS])
        return CNN_FILTERS * len(CNN_WIDTHS)

    def pool(self, x: Features, mask: Mask, seed: Seed | None) -> Float32[Array, "B F"]:
        """The filters of all widths, side by side."""
        missing = max_dim(0, max(CNN_WIDTHS) - x.shape[1])  # of a length that may be symbolic, too
        if self.config.mask_padding:
            x = jnp.where(mask[..., None], x, 0)
        x, mask = jnp.pad(x, ((0, 0), (0, missing), (0, 0))), jnp.pad(mask, ((0, 0), (0, missing)))
        return jnp.concatenate([self._strongest(conv, x, mask) for conv in self.convs], axis=-1)

    def _strongest(self, conv: Conv, x: Features, mask: Mask) -> Float32[Array, "B F"]:
        activations = jax.nn.relu(conv(x).astype(jnp.float32))
        windows = activations.shape[1]
        if self.config.mask_padding:
            counts = mask[:, -windows:] | (jnp.arange(windows) == 0)  # by a window's last token
        else:
            counts = jnp.ones(activations.shape[:2], bool)
        return max_pool(activations, counts)


class AttentionClassifier(Baseline):
    """The attention pool alone."""

    name = "attention"

    def _build(self, config: ModelConfig, hidden_size: int, *, dtype: DTypeLike, rngs: nnx.Rngs) -> int:
        self.attention = AttentionPool(hidden_size, dtype=dtype, rngs=rngs)
        return hidden_size

    def pool(self, x: Features, mask: Mask, seed: Seed | None) -> Float[Array, "B F"]:
        """See the base class."""
        return self.attention(x, mask)[0]


class LinearClassifier(Baseline):
    """The mean over the tokens, straight into the last layer: what anyone would try first."""

    name = "linear"

    def _build(self, config: ModelConfig, hidden_size: int, *, dtype: DTypeLike, rngs: nnx.Rngs) -> int:
        return hidden_size

    def pool(self, x: Features, mask: Mask, seed: Seed | None) -> Float[Array, "B F"]:
        """See the base class."""
        return masked_mean(x, mask)


class Pooler(nnx.Module):
    """What transformers' class for sequence classification puts between a family's encoder and the last layer."""

    def __init__(self, config: ModelConfig, encoder: EncoderConfig, *, dtype: DTypeLike, rngs: nnx.Rngs):
        kind, hidden_size = encoder.native_type, encoder.dim
        has_norm = isinstance(encoder, ModernBertConfig)
        self.dropout = Dropout(config.dropout_rate if kind in DROPS_BEFORE_POOLER else 0.0)
        self.dense = Linear(hidden_size, hidden_size, use_bias=not has_norm, dtype=dtype, rngs=rngs)
        epsilon = encoder.norm_eps if has_norm else 0.0
        self.LayerNorm = LayerNorm(hidden_size, epsilon=epsilon, use_bias=False, rngs=rngs) if has_norm else None
        self.activation = POOLER_ACTIVATIONS[kind]
        self.reads_mean = has_norm and encoder.classifier_pooling == "mean"

    def __call__(self, x: Features, mask: Mask, seed: Seed | None) -> Float[Array, "B H"]:
        """The first token, or the mean, through the dense layer."""
        pooled = masked_mean(x, mask) if self.reads_mean else x[:, 0]
        pooled = self.activation(self.dense(self.dropout(pooled, seed), seed))
        return pooled if self.LayerNorm is None else self.LayerNorm(pooled)


class BertClassifier(Baseline):
    """The head of transformers' class for sequence classification, such as `BertForSequenceClassification`.

    It reads the first token through a dense layer: BERT's pooler, DistilBERT's pre-classifier.
    """

    name = "bert"

    def _build(self, config: ModelConfig, hidden_size: int, *, dtype: DTypeLike, rngs: nnx.Rngs) -> int:
        self.pooler = Pooler(config, self.transformer.config, dtype=dtype, rngs=rngs)
        return hidden_size

    def pool(self, x: Features, mask: Mask, seed: Seed | None) -> Float[Array, "B F"]:
        """See the base class."""
        return self.pooler(x, mask, seed)
