"""Integrated gradients: how much each token moves a logit on the way from a text without words to the text.

Sundararajan, Taly and Yan, "Axiomatic Attribution for Deep Networks", 2017.

The baseline is the text with every word piece's embedding replaced by that of [PAD]. Special tokens, positions
and the attention mask stay, so the attributions of all word pieces add up to the logit less the baseline's
logit (completeness), up to the error of the integration.

That error is known without a finer integration, and not only for the whole: on any part of the way the
attributions must add up to the logit at its end less that at its beginning. So the parts in which they do so
worst are halved, until they do well enough. (The maximum pool makes the gradient jump wherever a feature's
maximum moves from one token to another, hundreds of times on the way, so that errors fall with the number of
points and not faster; most of them cancel.)
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Float32, Float64, Int, Shaped
from numpy.polynomial.legendre import Legendre

from amsdff_jax.models.variables import Variables

# As shares of the logit difference: the error of the whole, and the sizes of the errors of all parts together, so
# that the whole cannot come out right by chance.
TOLERANCE = 0.005
PARTS_TOLERANCE = 0.05

FIRST_PARTS = 4
MOST_PARTS = 128
NODES_PER_PART = 8  # one batch, whatever the length of the way: this bounds the memory of texts that fit

# The error of a part in float32 below which halving it gains nothing, in logits.
ROUNDING = 1e-6


class Attributions(NamedTuple):
    """Integrated gradients of one logit."""

    tokens: Float64[np.ndarray, " S"]  # the part of each token, in logits
    logit: float  # of the text
    baseline_logit: float  # of the text without words
    gradients: int  # points on the way at which the gradient was taken for this result

    @property
    def difference(self) -> float:
        """What the attributions should add up to."""
        return self.logit - self.baseline_logit

    @property
    def error(self) -> float:
        """What they add up to, less what they should."""
        return float(self.tokens.sum()) - self.difference

    @property
    def relative_error(self) -> float:
        """The error's size as a share of that of the difference; 0 where both are 0."""
        return abs(self.error) / abs(self.difference) if self.difference else float(self.error != 0)


class _Part(NamedTuple):
    """A part of the way from the baseline (0) to the text (1)."""

    start: float
    end: float
    tokens: Float64[np.ndarray, " S"]
    start_logit: float
    end_logit: float

    @property
    def error(self) -> float:
        return float(self.tokens.sum()) - (self.end_logit - self.start_logit)


PartIntegral = Callable[..., tuple[Float32[Array, " S"], Float32[Array, "2"]]]


def make_part_integral(graph: nnx.GraphDef) -> PartIntegral:
    """The function that integrates over a part of the way; jit it.

    Args:
      graph: a classifier in eval mode.

    Returns:
      (variables, input_ids, attention_mask, is_word, target, start, end) -> attributions of the S tokens and the
      logits at the start and at the end. `is_word` says which tokens the baseline goes without.
    """
    nodes, weights = _gauss_lobatto(NODES_PER_PART)

    def part_integral(
        variables: Variables,
        input_ids: Int[Array, " S"],
        attention_mask: Shaped[Array, " S"],
        is_word: Bool[Array, " S"],
        target: Int[Array, ""],
        start: Float32[Array, ""],
        end: Float32[Array, ""],
    ) -> tuple[Float32[Array, " S"], Float32[Array, "2"]]:
        model = nnx.merge(graph, *variables)
        embeddings = model.transformer.embeddings
        words = embeddings.look_up(input_ids)
        baseline = embeddings.look_up(jnp.where(is_word, embeddings.pad_token_id, input_ids))

        def slopes_at(
            places: Float32[Array, " points"],
        ) -> tuple[Float32[Array, "points S"], Float32[Array, " points"]]:
            mask = jnp.broadcast_to(attention_mask.astype(bool), (len(places), len(input_ids)))

            def logits_at(points: Float[Array, "points S H"]) -> Float32[Array, " points"]:
                return model.classify(model.encode_words(points, mask), mask).logits[:, target]

            logits, pull_back = jax.vjp(logits_at, baseline + places[:, None, None] * (words - baseline))
            (gradients,) = pull_back(jnp.ones_like(logits))  # [points,S,H]
            return jnp.sum(gradients * (words - baseline), axis=-1), logits

        places = start + (end - start) * nodes
        if model.windows is None or len(input_ids) <= model.windows.size:
            slopes, logits = slopes_at(places)
        else:  # of a long text one after another, which bounds the memory
            slopes, logits = jax.lax.map(lambda place: jax.tree.map(lambda x: x[0], slopes_at(place[None])), places)
        return (end - start) * (weights @ slopes), logits[jnp.array([0, -1])]

    return part_integral


def integrate_gradients(part_integral: Callable[[np.float32, np.float32], tuple[Any, Any]]) -> Attributions:
    """Integrates from the baseline to the text, in parts as small as completeness asks for.

    Stops when the errors are within `TOLERANCE` and `PARTS_TOLERANCE`, when they are but rounding, or with
    `MOST_PARTS` parts; `Attributions.relative_error` says what was reached.

    Args:
      part_integral: what `make_part_integral` made, of a text and the class that is explained: (start, end) ->
        attributions of the tokens, and the logits at both ends.
    """

    def integrate(start: float, end: float) -> _Part:
        tokens, logits = part_integral(np.float32(start), np.float32(end))
        return _Part(start, end, np.asarray(tokens, np.float64), *(float(logit) for logit in logits))

    parts = [integrate(*ends) for ends in pairwise(np.linspace(0, 1, FIRST_PARTS + 1))]
    difference = abs(parts[-1].end_logit - parts[0].start_logit)
    while len(parts) < MOST_PARTS:
        errors = np.array([part.error for part in parts])
        sizes = np.abs(errors)
        if abs(errors.sum()) <= TOLERANCE * difference and sizes.sum() <= PARTS_TOLERANCE * difference:
            break
        if sizes.max() <= ROUNDING:
            break
        index = int(sizes.argmax())
        start, end = parts[index].start, parts[index].end
        middle = (start + end) / 2
        parts[index : index + 1] = [integrate(start, middle), integrate(middle, end)]
    return Attributions(
        tokens=np.sum([part.tokens for part in parts], axis=0),
        logit=parts[-1].end_logit,
        baseline_logit=parts[0].start_logit,
        gradients=len(parts) * NODES_PER_PART,
    )


def _gauss_lobatto(number: int) -> tuple[Float32[np.ndarray, " points"], Float32[np.ndarray, " points"]]:
    """Nodes on [0,1], both ends among them, and weights: exact for polynomials of degree 2·number - 3."""
    polynomial = Legendre.basis(number - 1)
    nodes = np.concatenate([[-1], np.sort(polynomial.deriv().roots().real), [1]])
    weights = 2 / (number * (number - 1) * polynomial(nodes) ** 2)
    return ((nodes + 1) / 2).astype(np.float32), (weights / 2).astype(np.float32)
