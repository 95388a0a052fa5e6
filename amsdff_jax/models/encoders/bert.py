"""RoBERTa, with its kin, and ELECTRA: BERT's blocks under other embeddings.

Liu et al., "RoBERTa: A Robustly Optimized BERT Pretraining Approach", 2019; Conneau et al., "Unsupervised
Cross-lingual Representation Learning at Scale", 2020 (XLM-R); Martin et al., "CamemBERT: a Tasty French Language
Model", 2020; Clark et al., "ELECTRA: Pre-training Text Encoders as Discriminators Rather Than Generators", 2020.
PyTorch: transformers' `RobertaModel` and `ElectraModel`.
"""

import functools

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from amsdff_jax.config.encoders import ElectraConfig, PostNormConfig, RobertaConfig
from amsdff_jax.models.attention import attend
from amsdff_jax.models.dropout import Dropout
from amsdff_jax.models.encoders.blocks import Attention, Embeddings, Encoder, Layers, project_heads
from amsdff_jax.models.layers import Linear
from amsdff_jax.models.shapes import Features, Features32, Mask, Seed


class SelfAttention(nnx.Module):
    """Multi-head attention without the dense layer behind it."""

    def __init__(self, config: PostNormConfig, *, dtype: DTypeLike, rngs: nnx.Rngs):
        init = nnx.initializers.normal(config.initializer_range)
        self.query, self.key, self.value = (
            Linear(config.dim, config.dim, kernel_init=init, dtype=dtype, rngs=rngs) for _ in range(3)
        )
        self.dropout = Dropout(config.attention_dropout)
        self.num_heads = config.n_heads
        self.implementation = "xla"  # as in `attend`

    def __call__(self, x: Features, mask: Mask, seed: Seed | None) -> Features:
        """Lets the tokens attend to each other where `mask` is true."""
        query, key, value = project_heads(x, (self.query, self.key, self.value), self.num_heads, seed)
        return attend(query, key, value, mask[:, None, None], self.dropout, seed, self.implementation)


class RobertaEncoder(Encoder):
    """RoBERTa without a head: positions count from behind the padding token's."""

    def __init__(self, config: RobertaConfig, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        self.embeddings = Embeddings(
            config, config.dim, epsilon=config.layer_norm_eps, segments=config.type_vocab_size, rngs=rngs
        )
        self.encoder = Layers(functools.partial(Attention, SelfAttention), config, dtype=dtype, rngs=rngs)
        self._complete(config)

    def encode_words(self, words: Features, mask: Mask, seed: Seed | None = None) -> Features32:
        """See the base class."""
        return self._run(self.encoder.layer, self.embeddings.complete(words, mask, seed), mask, seed)


class ElectraEncoder(Encoder):
    """ELECTRA's discriminator without its head: embeddings may be narrower than the blocks."""

    def __init__(self, config: ElectraConfig, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        size = config.embedding_size
        self.embeddings = Embeddings(
            config, size, epsilon=config.layer_norm_eps, segments=config.type_vocab_size, rngs=rngs
        )
        init = nnx.initializers.normal(config.initializer_range)
        self.embeddings_project = (
            Linear(size, config.dim, kernel_init=init, dtype=dtype, rngs=rngs) if size != config.dim else None
        )
        self.encoder = Layers(functools.partial(Attention, SelfAttention), config, dtype=dtype, rngs=rngs)
        self._complete(config)

    def encode_words(self, words: Float[Array, "B S E"], mask: Mask, seed: Seed | None = None) -> Features32:
        """See the base class."""
        x = self.embeddings.complete(words, mask, seed)
        if self.embeddings_project is not None:
            x = self.embeddings_project(x, seed)
        return self._run(self.encoder.layer, x, mask, seed)
