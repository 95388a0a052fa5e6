"""Classifiers trained side by side on a frozen encoder are those that would be trained alone."""

import numpy as np
import pytest

from amsdff_jax import UserError
from amsdff_jax.data.batches import PlannedBatch
from amsdff_jax.data.tokenization import load_tokenizer, make_windows, tokenize
from amsdff_jax.evaluation.features import encode_once
from amsdff_jax.experiments.frozen import run_frozen
from amsdff_jax.models.baselines import LinearClassifier


def run(config, data, seeds, rates):
    return run_frozen(config, data, seeds, rates, epochs=2)


def test_members_do_not_touch_each_other(tiny_config, tiny_data):
    config = tiny_config.replace(model__name="attention")
    together = run(config, tiny_data, [3, 4], [1e-2])
    (alone,) = run(config, tiny_data, [4], [1e-2])
    np.testing.assert_allclose(together[1].evaluation.logits, alone.evaluation.logits, atol=0.03)
    assert np.abs(together[0].evaluation.logits - alone.evaluation.logits).max() > 0.1


def test_the_better_learning_rate_is_chosen_and_the_encoder_left_alone(tiny_config, tiny_data):
    config = tiny_config.replace(model__name="linear")
    (outcome,) = run(config, tiny_data, [0], [1e-7, 3e-2])
    assert outcome.learning_rate == 3e-2
    assert outcome.parameters == 24 * 2 + 2
    assert [point["epoch"] for point in outcome.curve] == [1, 2]
    assert outcome.evaluation.labels.tolist() == tiny_data.test.labels.tolist()


def test_a_learning_rate_at_the_edge_is_told(tiny_config, tiny_data, caplog):
    run(tiny_config.replace(model__name="linear"), tiny_data, [0], [1e-7, 3e-2])
    assert "seed 0: 0.03 did best, the highest learning rate" in caplog.text


def test_a_learning_rate_that_is_far_too_high_ends_no_other(tiny_config, tiny_data):
    config = tiny_config.replace(model__name="linear", train__warmup_ratio=0.0)
    with pytest.raises(UserError, match=r"learning_rates: none of .* led to finite numbers"):
        run(config, tiny_data, [0], [1e38])
    (outcome,) = run(config, tiny_data, [0], [1e38, 3e-2])
    assert outcome.learning_rate == 3e-2
    assert len(outcome.curve) == 2


def test_unknown_metric_is_refused_before_anything_is_trained(tiny_config, tiny_data):
    with pytest.raises(UserError, match="did you mean macro_f1"):
        run(tiny_config.replace(model__name="linear", train__best_metric="makro_f1"), tiny_data, [0], [1e-2])


def test_new_layers_are_fitted_to_the_features(tiny_config, tiny_data):
    configs = [tiny_config.replace(train__data_dependent_init=fit) for fit in (True, False)]
    fitted, random = (run(config, tiny_data, [0], [1e-9])[0].evaluation.logits for config in configs)
    assert fitted.std(0).mean() > 3 * random.std(0).mean()


def test_texts_are_encoded_whole_and_epochs_read_excerpts(tiny_config, tiny_data):
    limits = {"data__max_length": 14, "data__window_overlap": 2, "data__max_windows": 1}
    config = tiny_config.replace(model__name="linear", data__long_texts="windows", **limits)
    (outcome,) = run(config, tiny_data, [0], [3e-2])
    assert np.isfinite(outcome.evaluation.logits).all() and outcome.evaluation.truncated == 0
    tokenizer = load_tokenizer(config.model.encoder)
    model = LinearClassifier.from_pretrained(config.model.encoder, 2)
    model.read_in_windows(make_windows(config.data, tokenizer))
    whole = encode_once(model, tokenize(tiny_data.train, tokenizer, 14, "windows"))
    own = whole.excerpts(model.windows, 1, (0, 1))
    assert own.lengths.tolist() == np.minimum(whole.lengths, 14).tolist()
    row = int(whole.lengths.argmax())
    (features, _, _) = own.make_batch(PlannedBatch(14, np.array([row])))
    first, end = own.tokens.offsets[row : row + 2]
    np.testing.assert_array_equal(features[0], whole.features[own.places[first:end]])
    np.testing.assert_array_equal(own.tokens.token_ids[first:end], whole.tokens.token_ids[own.places[first:end]])
    (alone,) = encode_once(model, whole.tokens.select(np.array([row]))).features[None]
    np.testing.assert_allclose(whole.features[slice(*whole.tokens.offsets[row : row + 2])], alone, atol=2e-3)


def test_a_sweep_stops_when_asked(tiny_config, tiny_data):
    from amsdff_jax.evaluation.inference import StoppedError

    config = tiny_config.replace(model__name="linear")
    with pytest.raises(StoppedError):
        run_frozen(config, tiny_data, [0], [1e-2], 1, should_stop=lambda: True)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("model.mask_padding", False), ("model.lora_rank", 2), ("train.linear_probe", True)),
        *(("train.init_from", "m.pt"), ("train.max_steps", 5), ("train.keep_best", False)),
    ],
)
def test_what_would_decide_nothing_is_refused(field, value, tiny_config, tiny_data):
    config = tiny_config.replace(model__name="linear", **{field.replace(".", "__"): value})
    with pytest.raises(UserError, match=rf"^{field}: {value}, but .*; use mode=finetuned$"):
        run(config, tiny_data, [0], [1e-2])


def test_a_head_without_dropout_is_trained_whatever_the_encoder_computes_in(tiny_config, tiny_data):
    """A vmapped product with one side in common, which XLA's CPU backend fails at in bfloat16."""
    settings = {"model__name": "linear", "model__dropout_rate": 0.0, "model__compute_dtype": "bfloat16"}
    (outcome,) = run_frozen(tiny_config.replace(**settings), tiny_data, [0], [1e-2, 1e-3], 1)
    assert np.isfinite(outcome.evaluation.logits).all()
