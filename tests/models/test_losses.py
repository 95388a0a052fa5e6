"""Losses of distributions, and where a gradient is easily not a number: zeros, and answers that cannot be righter."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit, softmax
from scipy.stats import entropy

from amsdff_jax.config import LossConfig
from amsdff_jax.models.losses import OBJECTIVES, class_weights, contrastive_loss, loss_parts, multi_label_loss_parts


def test_a_vector_of_zeros_changes_no_other_gradient():
    features = jnp.array([[0.0, 0.0, 0.0], [1.0, 2.0, -1.0], [0.5, 1.0, 3.0]])
    labels = jnp.array([0, 1, 1])

    def total(features, valid_mask):
        return (contrastive_loss(features, labels, valid_mask, 0.1) * valid_mask).sum()

    for valid_mask in (jnp.array([True, True, True]), jnp.array([False, True, True])):
        assert jnp.isfinite(jax.grad(total)(features, valid_mask)).all()
    without = jax.grad(total)(features.at[0].set(1.0), valid_mask)
    np.testing.assert_allclose(jax.grad(total)(features, valid_mask)[1:], without[1:], atol=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize(
    ("parts", "labels"),
    [
        (loss_parts, np.array([0])),
        (loss_parts, np.array([[1, 0]], np.float32)),
        (multi_label_loss_parts, np.array([[True, False]])),
    ],
)
def test_texts_that_are_right_beyond_doubt_have_no_gradient(parts, labels, gamma):
    config = LossConfig(focal_gamma=gamma, smoothing=0.0)
    gradients = jax.grad(lambda x: sum(part.sum() for part in parts(x, labels, config).values()))
    np.testing.assert_allclose(gradients(jnp.array([[200.0, -200.0]])), 0, atol=1e-12)


CONFIG = LossConfig(smoothing=0.2, focal_alpha=0.7, focal_gamma=1.5)
WEIGHTS = np.array([0.5, 1, 4], np.float32)


@pytest.fixture
def uncertain():
    """Logits and distributions, of which the last row is certain, and one does not add up to 1 but for rounding."""
    random = np.random.default_rng(0)
    labels = random.dirichlet([0.5, 1, 2], 5).astype(np.float32)
    labels[3:] = [[0.333, 0.333, 0.333], [0, 1, 0]]
    return 3 * random.standard_normal((5, 3)).astype(np.float32), labels


def test_two_answers_are_as_far_apart_as_their_distributions():
    logits, others = 3 * np.random.default_rng(0).standard_normal((2, 7, 4)).astype(np.float32)
    logits[0], others[0] = [200, 0, 0, -200], [0, 200, 0, 0]  # as sure as can be
    one, other = softmax(logits, axis=1), softmax(others, axis=1)
    found = OBJECTIVES["single"].divergence(logits, others)
    np.testing.assert_allclose(
        found[1:], (entropy(one, other, axis=1) + entropy(other, one, axis=1))[1:] / 2, rtol=1e-4
    )
    assert found[0] == 200
    yes, no = ([expit(each), expit(-each)] for each in (logits[1:], others[1:]))
    expected = (entropy(yes, no, axis=0) + entropy(no, yes, axis=0)).mean(axis=1) / 2
    np.testing.assert_allclose(OBJECTIVES["multi_label"].divergence(logits[1:], others[1:]), expected, rtol=1e-4)
    for task, objective in OBJECTIVES.items():
        assert (np.asarray(objective.divergence(logits, logits)) == 0).all(), task
        gradients = jax.grad(lambda x, of=objective: of.divergence(x, others).sum())(logits)
        assert np.isfinite(gradients).all(), task


def test_the_loss_of_distributions_is_that_of_pytorch(uncertain, torch):
    logits, labels = uncertain

    def expected(**options):
        tensors = torch.tensor(logits), torch.tensor(labels)
        return torch.nn.functional.cross_entropy(*tensors, reduction="none", **options).numpy()

    parts = loss_parts(logits, labels, CONFIG)
    np.testing.assert_allclose(parts["ce"], expected(), rtol=1e-5)
    whole = np.array([0, 1, 2, 4])  # of others PyTorch smooths with another share
    np.testing.assert_allclose(parts["label_smoothing"][whole], expected(label_smoothing=0.2)[whole], rtol=1e-5)
    weighted = OBJECTIVES["single"].loss_parts(logits, labels, CONFIG, WEIGHTS)["ce"]
    text_weights = OBJECTIVES["single"].text_weights(labels, WEIGHTS)
    np.testing.assert_allclose(weighted * text_weights, expected(weight=torch.tensor(WEIGHTS)), rtol=1e-5)


def test_a_distribution_counts_as_the_text_with_each_of_its_classes(uncertain):
    logits, labels = uncertain
    objective = OBJECTIVES["single"]
    parts = objective.loss_parts(logits, labels, CONFIG, WEIGHTS)
    text_weights = objective.text_weights(labels, WEIGHTS)
    np.testing.assert_allclose(text_weights, labels @ WEIGHTS, rtol=1e-6)
    for name, part in parts.items():
        each = np.stack([loss_parts(logits, np.full(5, label), CONFIG)[name] for label in range(3)], axis=1)
        np.testing.assert_allclose(part * text_weights, (labels * WEIGHTS * each).sum(axis=1), rtol=1e-5)
        np.testing.assert_allclose(loss_parts(logits, labels, CONFIG)[name], (labels * each).sum(axis=1), rtol=1e-5)
    assert objective.is_right(jnp.asarray(logits), labels).tolist() == (logits.argmax(1) == labels.argmax(1)).tolist()
    nothing = objective.loss_parts(logits, 0 * labels, CONFIG, WEIGHTS)
    assert all((part == 0).all() for part in nothing.values())


def test_balanced_weights_count_probabilities(uncertain):
    labels, names, balanced = uncertain[1], ("a", "b", "c"), LossConfig(class_weights="balanced")
    certain = np.array([0, 1, 1, 2])
    expected = class_weights(balanced, certain, names)
    np.testing.assert_array_equal(class_weights(balanced, np.eye(3, dtype=np.float32)[certain], names), expected)
    many = np.tile(labels, (9, 1))
    weights = class_weights(balanced, many, names)
    np.testing.assert_allclose((many * weights).sum(axis=0), np.full(3, 15), rtol=1e-5)
