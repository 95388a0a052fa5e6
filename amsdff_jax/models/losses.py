"""The combined loss, kept per text so that sums and counts, not means of means, are averaged."""

import functools
import logging
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Float32, Int

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.validation import first_of, nearest
from amsdff_jax.config import LOSS_PARTS, REGRESSION_LOSS_PARTS, LossConfig
from amsdff_jax.data.dataset import by_class
from amsdff_jax.data.encoded_labels import count_classes, is_distribution, likeliest_classes, task_of_labels

logger = logging.getLogger(__name__)

Loss = TypeVar("Loss", float, Array)

SMALLEST_NORM = 1e-12  # of a vector, as in PyTorch's `normalize`
SMALLEST_BASE = 1e-30  # of a power, whose gradient at 0 may be infinite


def loss_parts(
    logits: Float32[Array | np.ndarray, "B C"],
    labels: Int[Array | np.ndarray, " B"] | Float32[Array | np.ndarray, "B C"],
    config: LossConfig,
    weights: Float32[Array | np.ndarray, " C"] | None = None,
) -> dict[str, Float32[Array, " B"]]:
    """The three losses that a text has by itself.

    Cross-entropy; focal loss (Lin et al., 2017); cross-entropy against labels smoothed by
    `config.smoothing / C` for every class (Szegedy et al., 2016).

    Args:
      labels: classes, or distributions over them: a loss is then the mean of those that the text would have with each
        class, weighted by its probability. Of `ce` and `label_smoothing` that is PyTorch's `cross_entropy`.
      weights: of each class in that mean; None: 1. Of classes they change nothing here: `Objective.text_weights`.

    Returns:
      `ce`, `focal` and `label_smoothing` of each text.
    """
    log_probabilities, distribution = jax.nn.log_softmax(logits, axis=-1), is_distribution(labels)
    given = (
        log_probabilities if distribution else jnp.take_along_axis(log_probabilities, labels[:, None], axis=-1)[:, 0]
    )
    ce = -given  # [B], or of each class [B,C]
    wrong = jnp.maximum(1 - jnp.exp(-ce), SMALLEST_BASE)
    focal = config.focal_alpha * wrong**config.focal_gamma * ce
    smoothed = (1 - config.smoothing) * ce
    smoothed -= config.smoothing * log_probabilities.mean(axis=-1, keepdims=distribution)
    parts = {"ce": ce, "focal": focal, "label_smoothing": smoothed}
    if not distribution:
        return parts
    shares = jnp.asarray(labels)
    if weights is not None:  # what is left of a text's weight, which `text_weights` has
        weighted = shares * jnp.asarray(weights)
        shares = weighted / jnp.maximum(weighted.sum(axis=-1, keepdims=True), jnp.finfo(jnp.float32).tiny)
    return {name: (part * shares).sum(axis=-1) for name, part in parts.items()}


def multi_label_loss_parts(
    logits: Float32[Array | np.ndarray, "B C"],
    labels: Bool[Array | np.ndarray, "B C"],
    config: LossConfig,
    weights: Float32[Array | np.ndarray, " C"] | None = None,
) -> dict[str, Float32[Array, " B"]]:
    """The same three losses where a text may have several classes, each of which is a question of yes or no.

    Binary cross-entropy; its focal form, by the probability of the right answer (Lin et al., 2017); binary
    cross-entropy against answers smoothed by `config.smoothing / 2`. All are means over the classes.

    Args:
      weights: of each class in the loss of texts that have it, PyTorch's `pos_weight`; None: 1.

    Returns:
      `ce`, `focal` and `label_smoothing` of each text.
    """
    yes, no = -jax.nn.log_sigmoid(logits), -jax.nn.log_sigmoid(-logits)
    if weights is not None:
        yes *= jnp.asarray(weights)
    ce, other = jnp.where(labels, yes, no), jnp.where(labels, no, yes)
    wrong = jax.nn.sigmoid(jnp.where(labels, -logits, logits))  # the probability that is not given to the right answer
    focal = config.focal_alpha * jnp.maximum(wrong, SMALLEST_BASE) ** config.focal_gamma * ce
    smoothed = (1 - config.smoothing / 2) * ce + config.smoothing / 2 * other
    return {name: part.mean(axis=-1) for name, part in (("ce", ce), ("focal", focal), ("label_smoothing", smoothed))}


def regression_loss_parts(
    logits: Float32[Array | np.ndarray, "B 1"], labels: Float32[Array | np.ndarray, " B"], config: LossConfig
) -> dict[str, Float32[Array, " B"]]:
    """The two losses of a text whose label is a number.

    Squared error; Huber's loss (Huber, 1964), half the squared error up to `config.huber_delta`, linear beyond.

    Args:
      logits, labels: predicted and true numbers, both in standard deviations of the training labels.

    Returns:
      `mse` and `huber` of each text.
    """
    error = logits[:, 0] - labels
    return {"mse": jnp.square(error), "huber": optax.losses.huber_loss(error, delta=config.huber_delta)}


def class_divergence(
    logits: Float32[Array | np.ndarray, "B C"], others: Float32[Array | np.ndarray, "B C"]
) -> Float32[Array, " B"]:
    """The mean of both Kullback-Leibler divergences between two answers to each text, in nats; a text has one class."""
    one, other = jax.nn.log_softmax(logits), jax.nn.log_softmax(others)
    return ((jnp.exp(one) - jnp.exp(other)) * (one - other)).sum(axis=-1) / 2


def label_divergence(
    logits: Float32[Array | np.ndarray, "B C"], others: Float32[Array | np.ndarray, "B C"]
) -> Float32[Array, " B"]:
    """The same where a text may have several classes, each of which is a question of yes or no: the mean over them."""
    return ((jax.nn.sigmoid(logits) - jax.nn.sigmoid(others)) * (logits - others)).mean(axis=-1) / 2


class Objective(NamedTuple):
    """What a kind of task is trained for.

    Attributes:
      loss_parts: (logits [B,C], labels, settings, weights of the classes [C]) -> the parts of each text's loss, [B].
      text_weights: (labels, weights of the classes [C]) -> what each text weighs in the mean, [B].
      divergence: (logits [B,C], others [B,C]) -> how far two answers to each text are apart, [B], for R-Drop (Liang et
        al., 2021).
      is_right: (logits [B,C], labels) -> whether the answer is the truth, [B] bool; None where answers are numbers.
    """

    loss_parts: Callable[[Array, Any, LossConfig, Any], dict[str, Array]]
    text_weights: Callable[[Any, Any], Array]
    divergence: Callable[[Array, Array], Array]
    is_right: Callable[[Array, Any], Array] | None


_ONE_CLASS = Objective(
    loss_parts=loss_parts,
    text_weights=lambda labels, weights: (
        (labels * weights).sum(axis=-1) if is_distribution(labels) else weights[labels]
    ),
    divergence=class_divergence,
    is_right=lambda logits, labels: logits.argmax(axis=-1) == likeliest_classes(labels),
)
OBJECTIVES = {
    "single": _ONE_CLASS,
    "ordinal": _ONE_CLASS,
    "multi_label": Objective(
        loss_parts=multi_label_loss_parts,
        text_weights=lambda labels, _: jnp.ones(labels.shape[:1], jnp.float32),
        divergence=label_divergence,
        is_right=lambda logits, labels: ((logits >= 0) == labels).all(axis=-1),
    ),
    "regression": Objective(
        loss_parts=lambda logits, labels, config, _: regression_loss_parts(logits, labels, config),
        text_weights=lambda labels, _: jnp.ones(labels.shape, jnp.float32),
        divergence=lambda logits, others: jnp.square(logits - others)[:, 0],
        is_right=None,
    ),
}


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
    # The square is bounded, not the root, whose gradient at a vector of zeros, which filler can be, is not a number.
    squares = jnp.square(features).sum(axis=-1, keepdims=True)
    normalized = features / jnp.sqrt(jnp.maximum(squares, SMALLEST_NORM**2))
    partners, partner_labels = normalized, labels
    if axis_name:
        partners, partner_labels, valid_mask = jax.lax.all_gather((partners, labels, valid_mask), axis_name, tiled=True)
    similarities = jnp.where(valid_mask[None, :], normalized @ partners.T / temperature, -jnp.inf)
    log_probabilities = similarities - jax.nn.logsumexp(similarities, axis=-1, keepdims=True)
    positives = (labels[:, None] == partner_labels[None, :]) & valid_mask[None, :]
    return -jnp.where(positives, log_probabilities, 0).sum(-1) / jnp.maximum(positives.sum(-1), 1)


def combine(parts: Mapping[str, Loss], config: LossConfig) -> Loss:
    """The weighted sum of the parts of the loss, which are numbers or arrays."""
    weighted = [getattr(config, name) * parts[name] for name in (*LOSS_PARTS, *REGRESSION_LOSS_PARTS) if name in parts]
    return functools.reduce(operator.add, weighted)


def class_weights(
    config: LossConfig,
    labels: Int[np.ndarray, " N"] | Bool[np.ndarray, "N C"] | Float[np.ndarray, " N"] | Float32[np.ndarray, "N C"],
    class_names: Sequence[str],
) -> Float32[np.ndarray, " C"]:
    """The weight of each class in the training loss, which are logged if they differ.

    Args:
      labels: all training labels; "balanced" gives class c the weight N / (C * N_c), where N_c is the sum of its
        probabilities if labels are distributions, or, where a text may have several, (N - N_c) / N_c, so that those
        that have it weigh as much as those that have not. Numbers all weigh the same.
      class_names: the C classes.

    Raises:
      UserError: not one weight for each class, or only weights of 0.
    """
    given, number = config.class_weights, len(class_names)
    task = task_of_labels(labels)
    if not given or task == "regression":
        return np.ones(number, np.float32)
    if given == "balanced":
        texts = labels.sum(axis=0, dtype=np.float64) if is_distribution(labels) else count_classes(labels, number)
        counts = np.maximum(texts, 1)
        several = task == "multi_label"
        weights = np.maximum(len(labels) - counts, 1) / counts if several else len(labels) / (number * counts)
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
