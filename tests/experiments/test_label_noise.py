"""Flips are as many as asked for, and never to the label that was there."""

import numpy as np
import pytest

from amsdff_jax.experiments.label_noise import KINDS, Condition, flip_labels


@pytest.mark.parametrize("kind", KINDS)
def test_as_many_labels_are_flipped_as_asked_for_and_the_seed_decides_which(kind):
    generator = np.random.default_rng(1)
    labels, probabilities = generator.integers(0, 5, 211), generator.dirichlet(np.ones(5), 211)
    flipped = flip_labels(labels, probabilities, Condition(kind, 0.1, 0))
    wrong = np.flatnonzero(flipped != labels)
    assert len(wrong) == 21 and ((flipped >= 0) & (flipped < 5)).all()
    np.testing.assert_array_equal(flip_labels(labels, probabilities, Condition(kind, 0.1, 0)), flipped)
    assert (flip_labels(labels, probabilities, Condition(kind, 0.1, 1)) != flipped).any()
    if kind == "likeliest":
        others = np.where(np.arange(5) == labels[:, None], -1, probabilities)
        assert (flipped[wrong] == others.argmax(axis=1)[wrong]).all()
