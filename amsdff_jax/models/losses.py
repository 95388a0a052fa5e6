"""The combined loss, kept per text so that sums and counts, not means of means, are averaged."""

import functools
import logging
import operator
from collections.abc import Mapping, Sequence
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Int

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.validation import first_of, nearest
from amsdff_jax.config import LOSS_PARTS, LossConfig
from amsdff_jax.data.dataset import by_class

logger = logging.getLogger(__name__)

Loss = TypeVar("Loss", float, Array)


def loss_parts(
    logits: Float32[Array | np.ndarray, "B C"], labels: Int[Array | np.ndarray, " B"], config: LossConfig
) -> dict[str, Float32[Array, " B"]]:
    """The three losses that a text has by itself.

    Cross-entropy; focal loss (Lin et al., 2017); cross-entropy against labels smoothed by
    `config.smoothing / C` for every class (Szegedy et al., 2016).

    Returns:
      `ce`, `focal` and `label_smoothing` of each text.
    """
    log_probabilities = jax.nn.log_softmax(logits, axis=-1)
    ce = -jnp.take_along_axis(log_probabilities, labels[:, None], axis=-1)[:, 0]
    focal = config.focal_alpha * (1 - jnp.exp(-ce)) ** config.focal_gamma * ce
    smoothed = (1 - config.smoothing) * ce - config.smoothing * log_probabilities.mean(axis=-1)
    return {"ce": ce, "focal": focal, "label_smoothing": smoothed}


def contrastive_loss(
    features: Float[Array | np.ndarray, "B H"],
    labels: Int[Array | np.ndarray, " B"],
    valid_mask: Bool[Array | np.ndarray, " B"],
    temperature: float,
    axis_name: str | None = None,
) -> Float32[Array, " B"]:
    """Supervised contrastive loss of each text within its batch (Khosla et al., 2020).

    As in the published PyTorch code, a text counts among its own positives and in its own
    denominator, so that a text without a partner of its class has a loss too.

    Args:
      valid_mask: false on filler, which is nobody's partner.
      temperature: what similarities are divided by.
      axis_name: under `jax.pmap`, the axis over which the batch is spread: the texts of all devices
        are partners.
    """
    features = features.astype(jnp.float32)
    normalized = features / jnp.maximum(jnp.linalg.norm(features, axis=-1, keepdims=True), 1e-12)
    partners, partner_labels = normalized, labels
    if axis_name:
        partners, partner_labels, valid_mask = jax.lax.all_gather((partners, labels, valid_mask), axis_name, tiled=True)
    similarities = jnp.where(valid_mask[None, :], normalized @ partners.T / temperature, -jnp.inf)
    log_probabilities = similarities - jax.nn.logsumexp(similarities, axis=-1, keepdims=True)
    positives = (labels[:, None] == partner_labels[None, :]) & valid_mask[None, :]
    return -jnp.where(positives, log_probabilities, 0).sum(-1) / jnp.maximum(positives.sum(-1), 1)


def combine(parts: Mapping[str, Loss], config: LossConfig) -> Loss:
    """The weighted sum of the parts of the loss, which are numbers or arrays."""
    weighted = [getattr(config, name) * parts[name] for name in LOSS_PARTS if name in parts]
    return functools.reduce(operator.add, weighted)


def class_weights(
    config: LossConfig, labels: Int[np.ndarray, " N"], class_names: Sequence[str]
) -> Float32[np.ndarray, " C"]:
    """The weight of each class in the training loss, which are logged if they differ.

    Args:
      labels: all training labels; "balanced" gives class c the weight N / (C * N_c).
      class_names: the C classes.

    Raises:
      UserError: not one weight for each class, or only weights of 0.
    """
    given, number = config.class_weights, len(class_names)
    if not given:
        return np.ones(number, np.float32)
    if given == "balanced":
        counts = np.bincount(labels, minlength=number)
        weights = len(labels) / (number * np.maximum(counts, 1))
    elif isinstance(given[0], tuple):
        weights = _in_order(dict(given), class_names)
    else:
        weights = list(given)
    if len(weights) != number or not sum(weights):
        raise UserError(
            f"loss.class_weights: expected {number} weights, one a class and not all 0, got {given}; "
            f"the classes, in their order: {first_of(class_names)}"
        )
    logger.info("class weights: %s", by_class(class_names, (float(f"{weight:.6g}") for weight in weights)))
    return np.array(weights, np.float32)


def _in_order(weights: dict[str, float], class_names: Sequence[str]) -> list[float]:
    for name in weights:
        if name not in class_names:
            raise UserError(
                f"loss.class_weights: no class {name!r}, only {first_of(class_names)}{nearest(name, class_names)}"
            )
    missing = [name for name in class_names if name not in weights]
    if missing:
        raise UserError(f"loss.class_weights: expected a weight for each class, got none for {first_of(missing)}")
    return [weights[name] for name in class_names]
