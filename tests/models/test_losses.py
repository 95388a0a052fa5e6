"""Losses where a gradient is easily not a number: vectors of zeros, and answers that cannot be righter."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amsdff_jax.config import LossConfig
from amsdff_jax.models.losses import contrastive_loss, loss_parts, multi_label_loss_parts


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
    ("parts", "labels"), [(loss_parts, np.array([0])), (multi_label_loss_parts, np.array([[True, False]]))]
)
def test_texts_that_are_right_beyond_doubt_have_no_gradient(parts, labels, gamma):
    config = LossConfig(focal_gamma=gamma, smoothing=0.0)
    gradients = jax.grad(lambda x: sum(part.sum() for part in parts(x, labels, config).values()))
    np.testing.assert_allclose(gradients(jnp.array([[200.0, -200.0]])), 0, atol=1e-12)
