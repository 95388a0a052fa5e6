"""The last layer of every classifier: a logit for each class, or cumulative logits of ordered ones."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Float32, Int

from amsdff_jax.config import ModelConfig
from amsdff_jax.models.dispatch import choose_logits_dtype
from amsdff_jax.models.layers import Linear, xavier_uniform
from amsdff_jax.models.matmul import dense

SMALLEST_STEP = 1e-6  # between two thresholds, so that every class has some probability
SMALLEST_FITTED_STEP = 1e-3  # at the start, so that a class without texts can still grow


class CumulativeLogits(nnx.Module):
    """Ordered classes by one score of a text and thresholds between the classes, the proportional-odds model.

    P(class <= k) = sigmoid(threshold_k - score) for k = 0, ..., C - 2 (McCullagh, "Regression Models for Ordinal Data",
    1980). There is no bias: it would move all thresholds alike. PyTorch: `CumulativeLogits`.

    Attributes:
      kernel: [F,1], Xavier-uniform.
      thresholds: [C-1]; the first one, and what softplus makes a step of from each to the next, so that they rise
        whatever an optimizer does. At first all classes are equally likely for a score of 0.
    """

    def __init__(self, in_features: int, num_classes: int, *, rngs: nnx.Rngs):
        self.kernel = nnx.Param(xavier_uniform(rngs.params(), (in_features, 1), jnp.float32))
        self.thresholds = nnx.Param(jnp.asarray(_thresholds_of(np.ones(num_classes))))
        self.in_features, self.out_features = in_features, num_classes

    def __call__(self, x: Float[Array, "*rows I"]) -> Float32[Array, "*rows C"]:
        """The logarithms of the probabilities, whose softmax are these; computed in float32 throughout."""
        scores = dense(x, self.kernel[...], jnp.zeros(1), jnp.float32)
        return log_probabilities(scores, self.thresholds[...])

    def fit(self, counts: Int[np.ndarray, " C"]) -> None:
        """Moves the thresholds to where a score of 0 gives every class its share of `counts`, the texts of each."""
        self.thresholds[...] = jnp.asarray(_thresholds_of(counts + 1))


def log_probabilities(scores: Float32[Array, "*rows 1"], thresholds: Float32[Array, " K"]) -> Float32[Array, "*rows C"]:
    """Of C = K + 1 ordered classes, by cumulative logits; finite wherever scores and thresholds are.

    The difference of two sigmoids is taken as a product: for b > a, sigmoid(b) - sigmoid(a) =
    sigmoid(b) sigmoid(-a) (1 - exp(a - b)).

    Args:
      thresholds: as `CumulativeLogits` keeps them.
    """
    steps = jax.nn.softplus(thresholds[1:]) + SMALLEST_STEP
    margins = jnp.cumsum(jnp.concatenate([thresholds[:1], steps])) - scores
    below, above = jax.nn.log_sigmoid(margins), jax.nn.log_sigmoid(-margins)  # of P(class <= k), P(class > k)
    between = below[..., 1:] + above[..., :-1] + jnp.log(-jnp.expm1(-steps))
    return jnp.concatenate([below[..., :1], between, above[..., -1:]], axis=-1)


def make_last_layer(
    in_features: int, config: ModelConfig, *, dtype: DTypeLike, rngs: nnx.Rngs
) -> Linear | CumulativeLogits:
    """The layer from what a classifier has summed up of a text to its logits; `dtype` is that of the products."""
    if config.ordinal:
        return CumulativeLogits(in_features, config.num_classes, rngs=rngs)
    logits_dtype = choose_logits_dtype(config.num_classes, dtype)
    return Linear(in_features, config.num_classes, dtype=logits_dtype, rngs=rngs)


def last_layer_of(model: nnx.Module) -> Linear | CumulativeLogits:
    """The last layer of a classifier, which is all of `classifier`, or ends it."""
    last = getattr(model, "classifier")  # noqa: B009 - every classifier has it
    return last if isinstance(last, (Linear, CumulativeLogits)) else last[-1]


def last_layer_inputs(model: nnx.Module, pooled_features: Float[Array, "B F"]) -> Float[Array, "B G"]:
    """What the last layer of a classifier reads in eval mode, where it has summed its texts up so."""
    if last_layer_of(model) is getattr(model, "classifier"):  # noqa: B009
        return pooled_features
    *layers, _ = getattr(model, "classifier")  # noqa: B009
    for layer in layers:
        pooled_features = layer(pooled_features)
    return pooled_features


def _thresholds_of(counts: Float[np.ndarray, " C"] | Int[np.ndarray, " C"]) -> Float32[np.ndarray, " K"]:
    """Those, as `CumulativeLogits` keeps them, that give a score of 0 these shares; no count is 0."""
    below = np.cumsum(counts[:-1]) / counts.sum()
    cumulative = np.log(below) - np.log1p(-below)
    steps = np.maximum(np.diff(cumulative), SMALLEST_FITTED_STEP)
    inverse_softplus = steps + np.log(-np.expm1(-steps))
    return np.concatenate([cumulative[:1], inverse_softplus]).astype(np.float32)
