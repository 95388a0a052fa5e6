"""Fits a classifier's new layers to the training texts, before the first step."""

import logging

import jax
from flax import nnx

from amsdff_jax.data.batches import make_batch, plan_sample
from amsdff_jax.data.tokenization import TokenizedDataset
from amsdff_jax.models.encoder import DistilBertEncoder
from amsdff_jax.models.pretrained import PretrainedClassifier

SAMPLED_TEXTS = 64

logger = logging.getLogger(__name__)


def fit_new_layers(model: PretrainedClassifier, tokens: TokenizedDataset, seed: int) -> None:
    """Fits the random layers of `model` to some texts of `tokens`, chosen by `seed`."""
    batch = make_batch(tokens, plan_sample(tokens.lengths, SAMPLED_TEXTS, seed))
    mask = batch.attention_mask.astype(bool)
    fit_to_features(model, _encode(model.transformer, batch.input_ids, mask), mask)
    logger.info("new layers fitted to %d training texts", len(batch.labels))


def fit_to_features(model: PretrainedClassifier, encoder_output: jax.Array, mask: jax.Array) -> None:
    """The same to what the encoder has made of some texts: [B,S,H], and mask [B,S] bool."""
    _fit(model, encoder_output, mask)
    model.needs_data_init = False


@nnx.jit
def _encode(encoder: DistilBertEncoder, input_ids: jax.Array, mask: jax.Array) -> jax.Array:
    return encoder(input_ids, mask)


@nnx.jit
def _fit(model: PretrainedClassifier, encoder_output: jax.Array, mask: jax.Array) -> None:
    model.fit_new_layers(encoder_output, mask)
