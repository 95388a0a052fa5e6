"""Linear classifiers on a frozen encoder, cross-validated: what the other texts make of a text's label."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int

from amsdff_jax.data.folds import fold_numbers

FOLDS, SEEDS = 5, 3  # a classifier for each fold of each seed
EPOCHS, LEARNING_RATE = 20, 1e-3  # of Adam, whose rate falls to 0 along a cosine
LARGEST_BATCH, SMALLEST_BATCH, FEWEST_STEPS = 256, 8, 20  # texts, texts, steps of an epoch


class Inputs(NamedTuple):
    """Vectors of texts as the classifiers take them: unit length, then centred, then a mean square of 1.

    Attributes:
      vectors: [N,H] float32.
      lengths: [N,1] float32, of the vectors that were given.
      mean: [H] float32, of the vectors of unit length.
      scale: what they were divided by after that.
    """

    vectors: np.ndarray
    lengths: np.ndarray
    mean: np.ndarray
    scale: float


class Probe(NamedTuple):
    """What the classifiers say of N texts, by C classes.

    Attributes:
      held_out: [N,C] float64, the probabilities by those that were not trained on the text; the mean over the seeds.
      trained: [N,C] float64, by those that were trained on it; the mean over them and their epochs.
      variability: [N] float64, the standard deviation over the epochs of what the latter give to the text's own label.
      weights: [SEEDS*FOLDS,H,C] float32, of all classifiers.
      folds: [SEEDS,N] int, the fold that holds each text out.
    """

    held_out: np.ndarray
    trained: np.ndarray
    variability: np.ndarray
    weights: np.ndarray
    folds: np.ndarray

    def direction(self, text: int, towards: int, away: int) -> np.ndarray:
        """[H] float32: the weights of one class minus those of another behind what `held_out` says of a text."""
        members = np.arange(SEEDS) * FOLDS + self.folds[:, text]
        return (self.weights[members, :, towards] - self.weights[members, :, away]).mean(axis=0)


def normalize(vectors: np.ndarray) -> Inputs:
    """The vectors [N,H] of texts, as the classifiers take them."""
    lengths = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    units = vectors / lengths
    mean = units.mean(axis=0)
    centred = units - mean
    scale = float(np.sqrt((centred**2).mean())) or 1.0
    return Inputs((centred / scale).astype(np.float32), lengths, mean, scale)


def cross_validate(vectors: Float[np.ndarray, "N H"], labels: Int[np.ndarray, " N"], classes: int) -> Probe:
    """Trains a linear classifier for every fold of every seed, all at a time, on the texts outside of the fold.

    Every class keeps its share in every fold. The loss is cross-entropy, the first bias the logarithm of the classes'
    shares; all classifiers see the same batches, in which the texts that they are not trained on weigh nothing.

    Args:
      vectors: of `normalize`.
      labels: of the texts, below `classes`; a class at least has `FOLDS` texts.
      classes: how many there are.
    """
    number = len(labels)
    folds = np.stack([fold_numbers(labels, FOLDS, seed) for seed in range(SEEDS)])
    trains_on = (folds[:, None, :] != np.arange(FOLDS)[:, None]).reshape(SEEDS * FOLDS, number)
    batch = int(np.clip(number // FEWEST_STEPS, SMALLEST_BATCH, LARGEST_BATCH))
    steps = -(-number // batch)
    shares = (np.bincount(labels, minlength=classes) + 1) / (number + classes)
    parameters: Any = {
        "weights": jnp.zeros((SEEDS * FOLDS, vectors.shape[1], classes)),
        "bias": jnp.tile(jnp.log(shares), (SEEDS * FOLDS, 1)),
    }
    state, order = _optimizer(steps).init(parameters), np.random.default_rng(0)
    texts, own, weigh = jnp.asarray(vectors), jnp.asarray(labels), jnp.asarray(trains_on)
    held_out, trained, given, squares = np.zeros((4, 1, 1))
    for _ in range(EPOCHS):
        rows = jnp.asarray(np.resize(order.permutation(number), (steps, batch)))
        parameters, state = _epoch(parameters, state, texts, own, weigh, rows)
        seen, held_out = (np.asarray(sums, np.float64) for sums in _predict(parameters, texts, weigh))
        seen /= trains_on.sum(axis=0)[:, None]
        of_label = seen[np.arange(number), labels]
        trained, given, squares = trained + seen / EPOCHS, given + of_label / EPOCHS, squares + of_label**2 / EPOCHS
    variability = np.sqrt(np.maximum(squares - given**2, 0)).reshape(number)
    return Probe(held_out / SEEDS, trained, variability, np.asarray(parameters["weights"]), folds)


def _optimizer(steps: int) -> optax.GradientTransformation:
    return optax.adam(optax.cosine_decay_schedule(LEARNING_RATE, EPOCHS * steps))


@jax.jit
def _epoch(
    parameters: Mapping[str, Array],
    state: Any,
    texts: Float[Array, "N H"],
    labels: Int[Array, " N"],
    weigh: Bool[Array, "M N"],
    batches: Int[Array, "steps B"],
) -> tuple[Any, Any]:
    def member_loss(own: Mapping[str, Array], weights: Array, rows: Array) -> Array:
        logits = texts[rows] @ own["weights"] + own["bias"]
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels[rows])
        return (losses * weights).sum() / jnp.maximum(weights.sum(), 1)

    def step(carry: Any, rows: Array) -> tuple[Any, None]:
        parameters, state = carry
        gradients = jax.vmap(jax.grad(member_loss), (0, 0, None))(parameters, weigh[:, rows], rows)
        updates, state = _optimizer(len(batches)).update(gradients, state)
        return (optax.apply_updates(parameters, updates), state), None

    return jax.lax.scan(step, (parameters, state), batches)[0]


@jax.jit
def _predict(
    parameters: Mapping[str, Array], texts: Float[Array, "N H"], trains_on: Bool[Array, "M N"]
) -> tuple[Float[Array, "N C"], Float[Array, "N C"]]:
    """The sums of the probabilities by classifiers that train on a text, and by those that do not."""

    def add(sums: tuple[Array, Array], member: Any) -> tuple[tuple[Array, Array], None]:
        own, trains = member
        probabilities = jax.nn.softmax(texts @ own["weights"] + own["bias"])
        seen = jnp.where(trains[:, None], probabilities, 0)
        return (sums[0] + seen, sums[1] + probabilities - seen), None

    nothing = jnp.zeros((len(texts), parameters["bias"].shape[1]))
    return jax.lax.scan(add, (nothing, nothing), (parameters, trains_on))[0]
