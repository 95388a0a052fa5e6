"""Cumulative logits: probabilities of ordered classes, whatever the numbers, and the same in PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.special import expit

from amsdff_jax.models.last_layer import CumulativeLogits, log_probabilities

FAR = [0.0, 1e-3, -37.5, 1e4, -1e4, 1e30, -1e30]


@pytest.mark.parametrize("classes", [2, 3, 7, 41])
def test_probabilities_are_those_of_the_proportional_odds_model(classes):
    rng = np.random.default_rng(classes)
    scores, kept = (rng.normal(size=size).astype(np.float32) * 3 for size in ((13, 1), classes - 1))
    found = np.asarray(log_probabilities(jnp.asarray(scores), jnp.asarray(kept)), np.float64)
    thresholds = kept[0] + np.concatenate([[0], np.cumsum(np.log1p(np.exp(kept[1:].astype(np.float64))) + 1e-6)])
    cumulative = np.concatenate([np.zeros((13, 1)), expit(thresholds - scores), np.ones((13, 1))], axis=1)
    np.testing.assert_allclose(np.exp(found), np.diff(cumulative), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("kept", [[0.0, 0.0, 0.0], [1e4, -1e4, 1e4], [-1e30, -1e30, 30.0], [5.0, -200.0, -200.0]])
def test_losses_and_gradients_are_finite_however_far_scores_and_thresholds_are(dtype, kept):
    scores = jnp.array(FAR, dtype)[:, None]

    def loss(scores: jax.Array, thresholds: jax.Array) -> jax.Array:
        logits = jax.nn.log_softmax(log_probabilities(scores.astype(jnp.float32), thresholds))
        return logits / (1 + jnp.abs(jax.lax.stop_gradient(logits)))  # so that a sum of 1e30 stays one

    thresholds = jnp.array(kept)
    assert np.isfinite(loss(scores, thresholds)).all()
    for label in range(4):
        for number in range(len(FAR)):
            one = scores[number : number + 1]
            gradients = jax.grad(lambda s, t, k=label: loss(s, t)[0, k], argnums=(0, 1))(one, thresholds)
            assert all(np.isfinite(np.asarray(part, np.float32)).all() for part in gradients), (label, FAR[number])


def test_a_greater_score_never_lowers_the_class():
    layer = CumulativeLogits(1, 6, rngs=nnx.Rngs(0))
    layer.thresholds[...] = jnp.array([-2.0, 1.0, -9.0, 3.0, 0.5])
    layer.kernel[...] = jnp.ones((1, 1))
    cumulative = np.exp(np.asarray(layer(jnp.linspace(-9, 20, 97)[:, None]), np.float64)).cumsum(axis=1)
    assert (np.diff(cumulative, axis=0) <= 1e-6).all() and (np.diff(cumulative, axis=1) >= 0).all()


@pytest.mark.parametrize("counts", [[3, 5], [1, 0, 7, 40], [0, 0, 0, 2, 1_000_000]])
def test_thresholds_are_fitted_to_the_shares_of_the_classes(counts):
    layer = CumulativeLogits(5, len(counts), rngs=nnx.Rngs(1))
    layer.fit(np.array(counts))
    shares = np.exp(np.asarray(layer(jnp.zeros((1, 5))), np.float64))[0]
    expected = np.add(counts, 1) / np.add(counts, 1).sum()
    np.testing.assert_allclose(shares, expected, rtol=1e-3, atol=1e-4)
    assert (shares > 0).all()


@pytest.mark.parametrize("classes", [2, 5])
def test_the_layer_of_pytorch_begins_and_answers_alike(classes, torch):
    from amsdff_jax.interop.torch_architecture import CumulativeLogits as TorchCumulativeLogits

    ours, theirs = CumulativeLogits(7, classes, rngs=nnx.Rngs(2)), TorchCumulativeLogits(7, classes)
    np.testing.assert_allclose(theirs.thresholds.detach().numpy(), ours.thresholds[...], atol=1e-6)
    theirs.load_state_dict(
        {"weight": torch.tensor(np.asarray(ours.kernel[...]).T.copy()), "thresholds": torch.zeros(classes - 1)}
    )
    ours.thresholds[...] = jnp.zeros(classes - 1)
    x = np.random.default_rng(0).normal(size=(11, 7)).astype(np.float32)
    with torch.no_grad():
        np.testing.assert_allclose(theirs(torch.tensor(x)).numpy(), ours(jnp.asarray(x)), atol=1e-5)
