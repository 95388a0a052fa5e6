"""A last layer to begin with: the regression that scikit-learn has for what the layer reads, and nothing else moves."""

import jax
import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.linear_model import LogisticRegression, Ridge

from amsdff_jax import UserError
from amsdff_jax.config import ModelConfig
from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.data.tokenization import load_tokenizer, tokenize
from amsdff_jax.models.last_layer import last_layer_inputs, last_layer_of
from amsdff_jax.models.registry import make_model
from amsdff_jax.models.state_dict import to_state_dict
from amsdff_jax.training import linear_probe
from amsdff_jax.training.linear_probe import INVERSE_REGULARIZATION, fit_linear_probe
from tests.compiled import call
from tests.conftest import TINY_HEAD, make_texts

TEXTS = 61


def make_tokens(tiny_encoder, labels, names):
    texts, _ = make_texts(TEXTS, 0)
    dataset = TextDataset(texts, labels, names)
    return tokenize(dataset, load_tokenizer(tiny_encoder), 24)


def read(model, tokens):
    """Logits and standardized inputs of the last layer, text for text, without padding."""
    logits, inputs = [], []
    for row in range(len(tokens)):
        ids = tokens.select(np.array([row])).token_ids[None]
        output = call(model, np.pad(ids, ((0, 0), (0, 24 - ids.shape[1]))), np.arange(24)[None] < ids.shape[1])
        logits.append(np.asarray(output.logits)[0])
        inputs.append(np.asarray(last_layer_inputs(model, output.pooled_features))[0])
    inputs = np.array(inputs, np.float64)
    centred = inputs - inputs.mean(axis=0)
    return np.array(logits, np.float64), centred / np.sqrt(np.square(centred).sum(axis=1).mean())


def make_tiny(tiny_encoder, name, classes, **changes):
    fields = {"name": name, "encoder": str(tiny_encoder), "num_classes": classes}
    return make_model(ModelConfig(**fields | TINY_HEAD | changes), seed=3)


@pytest.mark.parametrize(
    ("name", "classes", "padded"), [("linear", 2, None), ("linear", 4, None), ("amsdff", 3, None), ("lstm", 2, 24)]
)
def test_it_is_logistic_regression_on_what_the_last_layer_reads(name, classes, padded, tiny_encoder):
    """Of the LSTM in reference semantics, in which it runs over the padding."""
    labels = np.random.default_rng(1).integers(0, classes, TEXTS).astype(np.int32)
    tokens = make_tokens(tiny_encoder, labels, tuple("abcd"[:classes]))
    model = make_tiny(tiny_encoder, name, classes, mask_padding=not padded)
    before = to_state_dict(model)
    fit_linear_probe(model, tokens, seed=0, padded=padded)
    logits, inputs = read(model, tokens)
    expected = LogisticRegression(C=INVERSE_REGULARIZATION, max_iter=1000).fit(inputs, labels)
    np.testing.assert_allclose(softmax(logits, axis=-1), expected.predict_proba(inputs), atol=2e-3)
    after = to_state_dict(model)
    moved = {name for name, tensor in after.items() if not np.array_equal(tensor, before[name])}
    last = "classifier.8." if name == "amsdff" else "classifier."
    assert moved == {f"{last}weight", f"{last}bias"}


def test_a_class_of_no_text_is_the_least_likely_everywhere(tiny_encoder):
    labels = np.random.default_rng(1).choice([0, 2, 3], TEXTS).astype(np.int32)
    tokens = make_tokens(tiny_encoder, labels, ("a", "b", "c", "d"))
    model = make_tiny(tiny_encoder, "linear", 4)
    fit_linear_probe(model, tokens, seed=0)
    logits, _ = read(model, tokens)
    assert (logits.argmin(axis=-1) == 1).all()


def test_of_distributions_every_class_counts_by_its_probability(tiny_encoder):
    votes = np.random.default_rng(1).multinomial(4, [0.5, 0.3, 0.2], TEXTS)
    tokens = make_tokens(tiny_encoder, (votes / 4).astype(np.float32), ("a", "b", "c"))
    model = make_tiny(tiny_encoder, "linear", 3)
    fit_linear_probe(model, tokens, seed=0)
    logits, inputs = read(model, tokens)
    rows, classes = np.nonzero(votes)
    repeated = np.repeat(np.arange(len(rows)), votes[rows, classes])  # each vote a text that weighs a quarter
    regression = LogisticRegression(C=INVERSE_REGULARIZATION / 4, max_iter=1000)
    expected = regression.fit(inputs[rows[repeated]], classes[repeated]).predict_proba(inputs)
    np.testing.assert_allclose(softmax(logits, axis=-1), expected, atol=2e-3)


def test_where_a_text_may_have_several_classes_each_is_one_against_the_rest(tiny_encoder):
    labels = np.random.default_rng(1).random((TEXTS, 4)) < [0.3, 0.6, 0, 1]
    tokens = make_tokens(tiny_encoder, labels, ("a", "b", "never", "always"))
    model = make_tiny(tiny_encoder, "linear", 4)
    fit_linear_probe(model, tokens, seed=0)
    logits, inputs = read(model, tokens)
    for label in (0, 1):
        expected = LogisticRegression(C=INVERSE_REGULARIZATION, max_iter=1000).fit(inputs, labels[:, label])
        np.testing.assert_allclose(expit(logits[:, label]), expected.predict_proba(inputs)[:, 1], atol=2e-3)
    assert (logits[:, 2] < 0).all()
    assert (logits[:, 3] > 0).all()


def test_of_numbers_it_is_a_ridge_regression(tiny_encoder):
    labels = np.random.default_rng(1).normal(size=TEXTS)
    tokens = make_tokens(tiny_encoder, labels, ("grade",))
    model = make_tiny(tiny_encoder, "linear", 1)
    fit_linear_probe(model, tokens, seed=0)
    logits, inputs = read(model, tokens)
    expected = Ridge(alpha=1 / INVERSE_REGULARIZATION).fit(inputs, labels)
    np.testing.assert_allclose(logits[:, 0], expected.predict(inputs), atol=1e-3)


def test_of_many_texts_some_are_drawn_by_the_seed(tiny_encoder, monkeypatch):
    labels = np.random.default_rng(1).integers(0, 2, TEXTS).astype(np.int32)
    tokens = make_tokens(tiny_encoder, labels, ("a", "b"))
    monkeypatch.setattr(linear_probe, "PROBED_TEXTS", 30)
    kernels = []
    for seed in (0, 0, 1):
        model = make_tiny(tiny_encoder, "linear", 2)
        fit_linear_probe(model, tokens, seed)
        kernels.append(np.asarray(last_layer_of(model).kernel[...]))
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert not np.allclose(kernels[0], kernels[2])


def test_a_run_begins_with_it(tiny_trainer, tiny_data):
    trainer = tiny_trainer(train__linear_probe=True)
    random = tiny_trainer()
    assert trainer.evaluate(tiny_data.train)["cross_entropy"] < random.evaluate(tiny_data.train)["cross_entropy"] - 0.1


def test_a_run_solves_it_at_the_padding_that_it_trains_with(tiny_trainer, tiny_config, tiny_data, tmp_path):
    settings = {"model__name": "lstm", "model__mask_padding": False, "train__linear_probe": True}
    trainer = tiny_trainer(tmp_path / "run", **settings)
    model = make_model(trainer.config.model, seed=0)
    tokens = tokenize(tiny_data.train, load_tokenizer(tiny_config.model.encoder), 24)
    fit_linear_probe(model, tokens, tiny_config.seed, padded=24)
    expected = to_state_dict(model)["classifier.weight"]
    np.testing.assert_allclose(to_state_dict(trainer.model)["classifier.weight"], expected, atol=1e-4)


def test_ordered_classes_are_refused(tiny_config, tiny_data, tmp_path):
    from amsdff_jax.training.train_run import make_trainer

    config = tiny_config.replace(task__kind="ordinal", train__linear_probe=True)
    with pytest.raises(UserError, match=r"^train\.linear_probe: True, but ordered classes"):
        make_trainer(config, tiny_data, tmp_path / "run", devices=jax.devices()[:1])
