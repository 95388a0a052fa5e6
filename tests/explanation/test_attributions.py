"""Integrated gradients: complete, of the words alone, and right for every word."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from amsdff_jax.config import ModelConfig
from amsdff_jax.config.encoder_families import read_encoder_values
from amsdff_jax.data.tokenization import load_tokenizer
from amsdff_jax.explanation import attributions
from amsdff_jax.explanation.attributions import integrate_gradients
from amsdff_jax.explanation.explain import Explainer
from amsdff_jax.models.baselines import LinearClassifier
from amsdff_jax.models.model_folder import SavedModel
from tests.compiled import call
from tests.conftest import make_texts
from tests.explanation.conftest import CLASS_NAMES
from tests.tiny_encoders import TINY, new_families

TEXTS = ["w3", "w1 w30 w1 w22, zebra!", *make_texts(4, seed=8)[0]]


@pytest.mark.parametrize("mask_padding", [True, False])
def test_attributions_add_up_to_the_logit_difference(make_explainer, make_saved, mask_padding):
    model = make_saved(mask_padding=mask_padding).model
    for text in TEXTS:
        explanation = make_explainer(mask_padding=mask_padding).explain(text)
        found, target = explanation.attributions, explanation.target
        ids = np.zeros((1, 16), np.int32)
        ids[0, : len(explanation.reading.tokens)] = [token.id for token in explanation.reading.tokens]
        mask = np.arange(16)[None] < len(explanation.reading.tokens)
        baseline = np.where(ids > 3, 0, ids)  # [PAD] is 0, [CLS] 2, [SEP] 3
        baseline[ids == 1] = 0  # [UNK]
        logits, of_baseline = (call(model, tokens, mask).logits[0, target] for tokens in (ids, baseline))
        difference = logits - of_baseline
        assert found.difference == pytest.approx(float(difference), abs=1e-5)
        assert found.tokens.sum() == pytest.approx(found.difference, rel=0.01)
        assert found.relative_error == abs(found.error) / abs(found.difference) <= 0.01


@new_families
def test_every_encoder_can_be_explained(family, tiny_encoder):
    encoder = read_encoder_values(TINY[family] | {"vocab_size": 45})
    model = LinearClassifier(ModelConfig(num_classes=3), encoder, rngs=nnx.Rngs(0))
    explanation = Explainer(SavedModel(model, load_tokenizer(tiny_encoder), CLASS_NAMES, 16)).explain("w1 w30 w1 w22")
    found = explanation.attributions
    assert found.relative_error <= 0.01
    assert found.tokens[0] == found.tokens[-1] == 0
    assert np.abs(found.tokens[1:-1]).min() > 0


def test_every_words_share_is_its_integral(make_explainer, make_saved):
    model = make_saved().model
    explanation = make_explainer().explain("w1 w30 w1 w22")
    ids = jnp.array([[token.id for token in explanation.reading.tokens]])
    look_up = model.transformer.embeddings.look_up
    words, baseline = look_up(ids), look_up(jnp.where(ids > 3, 0, ids))

    @jax.jit
    def gradients(places):
        points = baseline + places[:, None, None] * (words - baseline)
        mask = jnp.ones(points.shape[:2], bool)

        def total(points):
            return (
                model.classify(model.transformer.encode_words(points, mask), mask).logits[:, explanation.target].sum()
            )

        return jax.grad(total)(points)

    places = (jnp.arange(2000) + 0.5) / 2000
    expected = ((words - baseline)[0] * gradients(places).mean(axis=0)).sum(axis=-1)
    np.testing.assert_allclose(explanation.attributions.tokens, expected, atol=0.03 * np.abs(expected).sum())
    # Coarser than the assertion above allows by far: words differ in their shares.
    assert np.abs(expected[1:-1]).max() > 0.1 * np.abs(expected).sum()


def test_what_the_baseline_keeps_has_no_share(make_explainer):
    explanation = make_explainer().explain("w1 w30 w22")
    values = explanation.attributions.tokens
    assert values[0] == values[-1] == 0
    assert np.abs(values[1:-1]).min() > 0


def test_a_text_without_words_has_nothing_to_attribute(make_explainer):
    found = make_explainer().explain("").attributions
    assert found.difference == found.error == found.relative_error == 0


def test_quadrature_is_exact_for_polynomials():
    nodes, weights = attributions._gauss_lobatto(5)
    assert nodes[0] == 0 and nodes[-1] == 1
    for degree in range(8):
        assert weights @ nodes**degree == pytest.approx(1 / (degree + 1), abs=1e-6)
    assert weights @ nodes**8 != pytest.approx(1 / 9, abs=1e-6)


def integrate(function, slope):
    """The attributions of a single token, if the model were a function of the place alone."""
    nodes, weights = attributions._gauss_lobatto(8)

    def part_integral(start, end):
        places = start + (end - start) * nodes
        return np.array([(end - start) * (weights @ slope(places))]), np.array([function(start), function(end)])

    return integrate_gradients(part_integral)


def test_a_kink_is_closed_in_on():
    found = integrate(lambda place: np.maximum(place, 0.3), lambda place: (place > 0.3) * 1.0)
    assert found.relative_error <= attributions.TOLERANCE
    # The nodes are spent where they are needed, not everywhere.
    assert found.gradients <= 8 * (attributions.FIRST_PARTS + 5)


def test_errors_that_cancel_are_not_taken_for_success():
    # Over the whole way the wrong slopes cancel exactly, in no part do they.
    found = integrate(lambda place: place, lambda place: np.where(place < 0.5, 0.0, 2.0))
    assert found.gradients == 8 * attributions.MOST_PARTS


def test_what_cannot_be_integrated_ends_and_tells_its_error():
    found = integrate(lambda place: place, np.zeros_like)
    assert found.gradients == 8 * attributions.MOST_PARTS
    assert found.relative_error == 1
