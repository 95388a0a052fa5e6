"""One update: sums instead of means, frozen parameters, learning rates, weight decay."""

import itertools

import jax
import numpy as np
import pytest
from flax import nnx, traverse_util

from amsdff_jax import UserError
from amsdff_jax.config import Config, EncoderConfig, LossConfig, ModelConfig, TrainConfig
from amsdff_jax.data.batches import Batch
from amsdff_jax.models.dropout import Dropout
from amsdff_jax.models.losses import class_divergence, class_weights, contrastive_loss, loss_parts
from amsdff_jax.models.pretrained import PretrainedClassifier
from amsdff_jax.models.registry import MODELS
from amsdff_jax.models.state_dict import parameter_names, to_state_dict, torch_name
from amsdff_jax.parallel.compilation import temporary_bytes
from amsdff_jax.training.optimizer import make_optimizer, peak_learning_rates, schedule_shares, unit_schedule
from amsdff_jax.training.step import initial_state, make_train_step, split_model, update_model
from tests.compiled import call
from tests.test_parity import CANCELLED, LARGE_EPSILON

ENCODER = EncoderConfig(vocab_size=31, max_position_embeddings=16, dim=12, n_layers=1, n_heads=3, hidden_dim=20)
C = 3


def make_model(name: str = "amsdff") -> PretrainedClassifier:
    """A model without dropout; what holds of a step with any model is tested on `linear`, the fastest to compile."""
    config = ModelConfig(name=name, num_classes=C, num_attention_heads=2, kernel_sizes=(1, 3), num_experts=2)
    model = MODELS[name](config, ENCODER, rngs=nnx.Rngs(0))
    model.set_attributes(Dropout, rate=0.0)
    return model


def make_batch(rows: int, filler: int = 0, length: int = 9) -> Batch:
    random = np.random.default_rng(7)
    lengths = random.integers(1, length + 1, rows)
    mask = (np.arange(length) < lengths[:, None]).astype(np.int32)
    ids = random.integers(5, 31, (rows, length)).astype(np.int32) * mask
    batch = Batch(ids, mask, random.integers(0, C, rows).astype(np.int32))
    return Batch(*(np.concatenate([part, np.zeros((filler, *part.shape[1:]), np.int32)]) for part in batch))


def make_step(model, weights=(1.0, 1.0, 1.0), task="single", **train):
    """The step of a model, and the state that it begins with."""
    config = Config.from_dict({"train": train, "task": {"kind": task}})
    rates = peak_learning_rates(parameter_names(model), config.train)
    graphs, variables = split_model(model, rates)
    state, optimizer = initial_state(variables, rates, config, total_steps=10)
    return jax.jit(make_train_step(graphs.train, config, optimizer, np.array(weights, np.float32))), state


def take_step(model, batch, weights=(1.0, 1.0, 1.0), **train):
    step, state = make_step(model, weights, **{"warmup_ratio": 0.0, **train})
    state, metrics = step(state, batch, jax.random.key(0))
    update_model(model, state.variables)
    return to_state_dict(model), {name: float(value) for name, value in metrics.items()}


def test_filler_changes_nothing():
    alone, metrics = take_step(make_model(), make_batch(5), epsilon=LARGE_EPSILON)
    filled, metrics_filled = take_step(make_model(), make_batch(5, filler=3), epsilon=LARGE_EPSILON)
    assert metrics_filled == pytest.approx(metrics, rel=1e-5)
    for name, value in alone.items():
        np.testing.assert_allclose(filled[name], value, atol=1e-6, err_msg=name)


def test_a_text_twice_makes_the_step_of_the_text_alone():
    # The compiler has been caught with a wrong gradient of the gate, where a device had a single text.
    alone = make_batch(1)
    twice = Batch(*(np.concatenate([part, part]) for part in alone))
    metrics, metrics_twice = (take_step(make_model(), batch)[1] for batch in (alone, twice))
    assert metrics_twice.pop("examples") == 2 * metrics.pop("examples")
    assert metrics_twice == pytest.approx(metrics, rel=1e-5)


@pytest.mark.parametrize("rate", [0.0, 0.4])
def test_r_drop_is_the_mean_of_two_passes_and_how_far_they_are_apart(rate):
    model, batch, key = make_model("linear"), make_batch(5, filler=2), jax.random.key(3)
    model.set_attributes(Dropout, rate=rate)
    settings = Config().replace(loss__r_drop=0.5, train__warmup_ratio=0.0)
    graphs, variables = split_model(model, peak_learning_rates(parameter_names(model), settings.train))
    rates, of_key = peak_learning_rates(parameter_names(model), settings.train), jax.random.fold_in(key, 0)
    metrics, states = [], []
    for config in (settings, settings.replace(loss__r_drop=0.0)):
        state, optimizer = initial_state(variables, rates, config, total_steps=10)
        step = make_train_step(graphs.train, config, optimizer, np.ones(C, np.float32))
        state, found = jax.jit(step)(state, batch, key)
        states.append(state.variables.trainable)
        metrics.append(found)
    of_key = jax.random.fold_in(of_key, 0)  # of the first of one piece
    passes = [
        np.asarray(call(nnx.merge(graphs.train, *variables), batch.input_ids, batch.attention_mask, each).logits)[:5]
        for each in (of_key, jax.random.fold_in(of_key, 1))
    ]
    losses = [loss_parts(logits, batch.labels[:5], settings.loss)["ce"].mean() for logits in passes]
    np.testing.assert_allclose(metrics[0]["ce"], np.mean(losses), rtol=1e-5)
    np.testing.assert_allclose(metrics[0]["r_drop"], class_divergence(*passes).mean(), rtol=1e-4, atol=1e-7)
    if rate:
        assert metrics[0]["r_drop"] > 1e-3
    else:  # nothing is dropped, so the two are the same
        jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, atol=1e-6), *states)


@pytest.mark.parametrize("task", ["single", "multi_label"])
def test_accumulated_losses_are_those_of_the_whole_batch(task):
    # Without BatchNorm the pieces do not depend on each other.
    def metrics(pieces, filler=2):
        step, state = make_step(make_model("linear"), (1.0, 2.0, 0.5), task, batch_size=8, accumulation_steps=pieces)
        batch = make_batch(6, filler)
        if task == "multi_label":
            batch = batch._replace(labels=batch.labels[:, None] <= np.arange(C))  # of filler, which must not count, too
        return step(state, batch, jax.random.key(0))[1]

    whole, parts = metrics(1), metrics(4)
    assert whole["loss"] == pytest.approx(float(metrics(1, filler=0)["loss"]), rel=1e-5)
    for name, value in whole.items():
        np.testing.assert_allclose(parts[name], value, rtol=1e-5, err_msg=name)


def test_a_batch_in_pieces_takes_less_memory():
    def memory(pieces):
        step, state = make_step(make_model("linear"), batch_size=64, accumulation_steps=pieces)
        return temporary_bytes(step.lower(state, make_batch(64), jax.random.key(0)).compile())

    assert memory(8) < 0.5 * memory(1)


def test_class_weight_of_zero_takes_a_class_out():
    batch = make_batch(7)
    kept = np.flatnonzero(batch.labels != 1)
    _, weighted = take_step(make_model("linear"), batch, weights=(1.0, 0.0, 1.0))
    losses = {name: weighted[name] for name in ("ce", "focal", "label_smoothing")}
    model = make_model("linear")
    model.train()
    logits = np.asarray(call(model, batch.input_ids, batch.attention_mask).logits, np.float64)
    ce = np.log(np.exp(logits).sum(-1)) - logits[np.arange(7), batch.labels]
    assert losses["ce"] == pytest.approx(ce[kept].mean(), rel=1e-5)
    assert weighted["examples"] == 7


def test_frozen_parameters_do_not_move():
    before = to_state_dict(make_model())
    after, _ = take_step(make_model(), make_batch(5), learning_rate_table=((r"^transformer\.", 0.0), ("", 1e-2)))
    for name, value in before.items():
        if name.startswith("transformer."):
            np.testing.assert_array_equal(after[name], value, err_msg=name)
        elif not CANCELLED.search(name):  # those move by rounding or, where it happens to be 0, not at all
            assert np.abs(after[name] - value).max() > 0, name


def test_learning_rates_reach_their_parameters():
    before = to_state_dict(make_model("linear"))
    table = ((r"^classifier\.", 4e-3), ("", 1e-3))
    after, _ = take_step(
        make_model("linear"), make_batch(5), learning_rate_table=table, weight_decay=0.0, gradient_clip=0.0
    )
    for name, rate in [("classifier.weight", 4e-3), ("transformer.transformer.layer.0.ffn.lin1.weight", 1e-3)]:
        # Adam's first step is the rate itself wherever the gradient is not tiny.
        assert np.median(np.abs(after[name] - before[name])) == pytest.approx(rate, rel=1e-2), name


def test_what_the_table_leaves_out_has_the_rate_of_encoder_or_new_layers():
    names = ["transformer.embeddings.LayerNorm.bias", "transformer.transformer.layer.0.ffn.lin1.weight",
             "classifier.0.weight", "classifier.8.weight"]  # fmt: skip
    table = (("embeddings", 0.0), (r"^classifier\.8", 3e-3), ("LayerNorm|classifier", 9.0))
    config = TrainConfig(head_learning_rate=5e-4, encoder_learning_rate=2e-5, learning_rate_table=table[:2])
    assert list(peak_learning_rates(names, config).values()) == [0.0, 2e-5, 5e-4, 3e-3]
    config = TrainConfig(head_learning_rate=5e-4, encoder_learning_rate=2e-5, learning_rate_table=table)
    assert list(peak_learning_rates(names, config).values()) == [0.0, 2e-5, 9.0, 3e-3]


@pytest.mark.parametrize("decay_all", [False, True])
def test_only_matrices_decay_unless_asked(decay_all):
    model = make_model()
    config = TrainConfig(weight_decay=0.5, decay_all=decay_all, warmup_ratio=0.0)
    rates = peak_learning_rates(parameter_names(model), config)
    variables = split_model(model, rates)[1]
    ones = jax.tree.map(lambda x: x * 0 + 1, variables.trainable)
    optimizer = make_optimizer(variables.trainable, rates, config, total_steps=10)
    nothing = jax.tree.map(lambda x: x * 0, variables.trainable)
    updates, _ = jax.jit(optimizer.update)(nothing, optimizer.init(ones), ones)
    decayed = {torch_name(path) for path, value in traverse_util.flatten_dict(updates).items() if np.any(value)}
    matrices = {
        name for name, value in to_state_dict(model).items()
        if value.ndim >= 2 and "embeddings" not in name and "cls_token" not in name
    }  # fmt: skip
    assert decayed == (set(rates) if decay_all else matrices)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"learning_rate_table": (("clasifier", 1e-3), ("", 1e-3))}, "'clasifier' decides no parameter"),
        ({"learning_rate_table": (("", 1e-3), ("^classifier", 1e-2))}, r"'\^classifier' decides no parameter"),
        ({"learning_rate_table": (("", 0.0),)}, "every parameter is frozen"),
        ({"learning_rate_table": (("", 2e-4),), "head_learning_rate": 1e-3},
         r"^train\.head_learning_rate: 0\.001 decides nothing, because train\.learning_rate_table decides all"),
        ({"learning_rate_table": (("^transformer", 2e-4),), "encoder_learning_rate": 0.0},
         r"^train\.encoder_learning_rate: 0\.0 decides nothing, .* empty it with --config\.train\.learning_rate_table"),
    ],
)  # fmt: skip
def test_what_decides_no_rate_and_what_leaves_nothing_to_train_is_named(train, message):
    with pytest.raises(UserError, match=message):
        peak_learning_rates(parameter_names(make_model()), TrainConfig(**train))


def test_schedule_rises_and_falls_to_zero():
    rates = [float(unit_schedule(20, 0.25)(step)) for step in range(21)]
    np.testing.assert_allclose(rates[:6], np.arange(6) / 5, atol=1e-6)
    assert all(a > b for a, b in itertools.pairwise(rates[5:]))
    assert rates[20] == pytest.approx(0, abs=1e-6)


def test_a_waiting_encoder_stays_as_it_is_and_then_warms_up():
    model = make_model()
    config = TrainConfig(head_learning_rate=2e-3, encoder_learning_rate=1e-3, encoder_delay=0.4, warmup_ratio=0.25)
    rates = peak_learning_rates(parameter_names(model), config)
    variables = split_model(model, rates)[1]
    optimizer = make_optimizer(variables.trainable, rates, config, total_steps=20)
    update = jax.jit(optimizer.update)
    state, moved = optimizer.init(variables.trainable), {"encoder": [], "head": []}
    for step in range(20):
        gradients = jax.tree.map(lambda x: x * 0 + 1, variables.trainable)
        updates, state = update(gradients, state, variables.trainable)
        bias = updates["transformer"]["embeddings"]["LayerNorm"]["bias"]  # biases do not decay
        moved["encoder"].append(float(-bias[0]))
        moved["head"].append(float(-updates["classifier"][8]["bias"][0]))
        shares = schedule_shares(rates, config, 20, step)
        assert moved["encoder"][-1] == pytest.approx(1e-3 * shares["transformer.embeddings.LayerNorm.bias"], rel=1e-3)
        assert moved["head"][-1] == pytest.approx(2e-3 * shares["classifier.8.bias"], rel=1e-3)
    assert moved["encoder"][:9] == [0.0] * 9  # eight of waiting, the ninth is the first of the warm-up
    np.testing.assert_allclose(moved["encoder"][8:12], 1e-3 * np.arange(4) / 3, rtol=1e-3)
    assert max(moved["head"][:8]) == pytest.approx(2e-3, rel=1e-3)


NAMES = ("neg", "neu", "pos")


def test_balanced_weights_make_classes_equal():
    labels = np.array([0] * 6 + [1] * 3 + [2])
    weights = class_weights(LossConfig(class_weights="balanced"), labels, NAMES)
    assert (np.bincount(labels) * weights).tolist() == pytest.approx([10 / 3] * 3)


@pytest.mark.parametrize("given", [(1.0, 2.0, 3.5), {"pos": 3.5, "neg": 1, "neu": 2}, "{pos:3.5, neg:1, neu:2}"])
def test_weights_of_classes_in_their_order_or_by_name_are_logged(given, caplog):
    caplog.set_level("INFO")
    assert class_weights(LossConfig(class_weights=given), np.arange(3), NAMES).tolist() == [1, 2, 3.5]
    assert "class weights: neg 1.0, neu 2.0, pos 3.5" in caplog.text


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            (1.0, 2.0),
            "expected 3 weights, one a class and not all 0, got .*; the classes, in their order: neg, neu, pos",
        ),
        ({"neg": 0, "neu": 0, "pos": 0}, "expected 3 weights, one a class and not all 0"),
        ({"neg": 1, "nue": 2, "pos": 1}, "no class 'nue', only neg, neu, pos; did you mean neu"),
        ({"neg": 1, "pos": 2}, "expected a weight for each class, got none for neu"),
    ],
)
def test_weights_that_do_not_fit_the_classes_are_one_line(given, message):
    with pytest.raises(UserError, match=r"loss\.class_weights: " + message):
        class_weights(LossConfig(class_weights=given), np.arange(3), NAMES)


def test_contrastive_loss_ignores_filler():
    features = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    labels = np.array([0, 1, 0, 1, 1])
    alone = contrastive_loss(features[:4], labels[:4], np.ones(4, bool), 0.1)
    filled = contrastive_loss(features, labels, np.array([1, 1, 1, 1, 0], bool), 0.1)
    np.testing.assert_allclose(filled[:4], alone, rtol=1e-5)
