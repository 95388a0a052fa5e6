"""The word embeddings of a model beside the ids of its tokenizer."""

import dataclasses
import logging

import numpy as np
from jaxtyping import Float32

from amsdff_jax.data.saved_tokenizer import Tokenizer
from amsdff_jax.data.tokenization import check_vocabulary, largest_id
from amsdff_jax.interop.encoder_files import LAYOUTS
from amsdff_jax.models.pretrained import PretrainedClassifier
from amsdff_jax.models.state_dict import load_state_dict, to_state_dict
from amsdff_jax.models.variables import abstract_model

NOISE = 1e-9  # share of the covariance that new rows spread by

logger = logging.getLogger(__name__)


def fit_vocabulary(model: PretrainedClassifier, tokenizer: Tokenizer, source: str, seed: int) -> None:
    """Sees to it that there is an embedding for every id of a tokenizer.

    Args:
      model: gets as many new rows as it lacks, if its `config.resize_embeddings` says so.
      source: what an error calls the place that the tokenizer comes from.
      seed: of the new rows.

    Raises:
      UserError: an id has no embedding, and none may be added.
    """
    missing = largest_id(tokenizer) + 1 - model.encoder_config.vocab_size
    if missing > 0 and model.config.resize_embeddings:
        _add_embeddings(model, missing, seed)
        message = "word embeddings: %d added for %s, %d now (model.resize_embeddings)"
        logger.info(message, missing, source, model.encoder_config.vocab_size)
    check_vocabulary(tokenizer, model.encoder_config.vocab_size, source)


def _add_embeddings(model: PretrainedClassifier, number: int, seed: int) -> None:
    config = dataclasses.replace(model.encoder_config, vocab_size=model.encoder_config.vocab_size + number)
    larger = abstract_model(lambda rngs: type(model)(model.config, config, rngs=rngs, platform=model.platform))
    tensors, words = to_state_dict(model.transformer), LAYOUTS[config.model_type].words
    tensors[words] = np.concatenate([tensors[words], new_rows(tensors[words], number, seed)])
    load_state_dict(larger.transformer, tensors, "the resized encoder")
    model.transformer, model.encoder_config = larger.transformer, config


def new_rows(table: Float32[np.ndarray, "V E"], number: int, seed: int) -> Float32[np.ndarray, "N E"]:
    """Embeddings for words that a table lacks, drawn as transformers' `resize_token_embeddings` does.

    That is from the normal distribution with the mean of the old rows and 1e-9 of their covariance, so that they are
    hardly more than the mean; or the mean itself, where the covariance is not positive definite. See Hewitt,
    "Initializing New Word Embeddings for Pretrained Language Models", 2021.
    """
    mean = table.mean(axis=0)
    centered = table - mean
    try:
        spread = np.linalg.cholesky(NOISE * (centered.T @ centered / len(table)).astype(np.float64))
    except np.linalg.LinAlgError:
        return np.tile(mean, (number, 1))
    noise = np.random.default_rng(seed).standard_normal((number, len(mean)))
    return (mean + noise @ spread.T).astype(np.float32)
