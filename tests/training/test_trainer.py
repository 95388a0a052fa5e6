"""The training loop: it learns, keeps the best, and resumes exactly where it stopped."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from amsdff_jax import Trainer, UserError, load_model
from amsdff_jax.data.batches import make_batch, plan_sample
from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.data.token_cache import tokenize_once
from amsdff_jax.data.tokenization import load_tokenizer
from amsdff_jax.models.baselines import LinearClassifier
from amsdff_jax.models.dropout import Dropout
from amsdff_jax.models.model_folder import read_model_folder
from amsdff_jax.models.state_dict import to_state_dict
from amsdff_jax.training.checkpoint import Checkpoints
from amsdff_jax.training.start import SAMPLED_TEXTS
from amsdff_jax.training.train_run import make_trainer
from tests.compiled import call
from tests.conftest import TINY_HEAD


def assert_same_weights(one: nnx.Module, other: nnx.Module) -> None:
    one, other = to_state_dict(one), to_state_dict(other)
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


def test_learns_and_leaves_a_model_behind(tiny_trainer, tiny_data):
    rates = {"train__head_learning_rate": 3e-3, "train__encoder_learning_rate": 1e-3}
    trainer = tiny_trainer(model__name="amsdff", train__epochs=10, train__evaluate_every=60, **rates)
    before = trainer.evaluate(tiny_data.test)
    history = trainer.train()
    results = trainer.evaluate(tiny_data.test)
    assert before["accuracy"] < 0.75
    assert results["accuracy"] > 0.9
    assert [record["step"] for record in history] == [60, 90]
    assert trainer.finished
    loaded = load_model(trainer.workdir / "model")
    assert_same_weights(loaded, trainer.model)
    batch = jax.random.randint(jax.random.key(0), (3, 7), 5, 40), np.ones((3, 7), np.int32)
    np.testing.assert_array_equal(call(loaded, *batch).logits, call(trainer.model, *batch).logits)


def test_resumed_runs_end_bitwise_the_same(tiny_trainer, tmp_path):
    settings = {"model__name": "amsdff", "train__epochs": 2}
    whole = tiny_trainer(tmp_path / "whole", **settings)
    whole.train()
    stopped = tiny_trainer(tmp_path / "parts", **settings)
    stopped.train(max_steps=4)  # within an epoch
    assert not stopped.finished
    tiny_trainer(tmp_path / "parts", **settings).train(max_steps=9)  # at its end
    resumed = tiny_trainer(tmp_path / "parts", **settings)
    resumed.train()
    jax.tree.map(np.testing.assert_array_equal, whole.state, resumed.state)
    assert_same_weights(whole.model, resumed.model)
    assert without_speed(whole.history) == without_speed(resumed.history)
    assert without_speed(logged(whole)) == without_speed(logged(resumed))
    # Every fourth step, and what is left over at the end.
    assert [record["step"] for record in logged(whole) if record["kind"] == "train"] == [4, 8, 12, 16, 18]


def logged(trainer: Trainer) -> list[dict]:
    return [json.loads(line) for line in (trainer.workdir / "metrics.jsonl").open()]


def without_speed(records):
    """The records without what a clock decides."""
    if isinstance(records, list):
        return [without_speed(record) for record in records]
    if isinstance(records, dict):
        return {name: without_speed(value) for name, value in records.items() if name != "examples_per_second"}
    return records


def test_killed_run_resumes_from_the_last_checkpoint(tiny_trainer, tmp_path):
    stopped = tiny_trainer(tmp_path / "run", train__epochs=1, train__checkpoint_every=4)
    recorded = []

    class Killed(BaseException):
        pass

    step = stopped.train_step

    def dies_at_step_7(state, batch, key):
        if len(recorded) == 6:
            raise Killed
        recorded.append(batch)
        return step(state, batch, key)

    dies_at_step_7.compiling = step.compiling
    stopped.train_step = dies_at_step_7
    with pytest.raises(Killed):
        stopped.train()
    resumed = tiny_trainer(tmp_path / "run", train__epochs=1, train__checkpoint_every=4)
    resumed.train()
    whole = tiny_trainer(tmp_path / "whole", train__epochs=1, train__checkpoint_every=4)
    whole.train()
    assert_same_weights(whole.model, resumed.model)


@pytest.mark.parametrize(("epochs", "max_steps", "steps"), [(3, 2, 2), (2, 11, 11), (1, 11, 9), (1, 0, 9)])
def test_a_run_has_as_many_steps_as_epochs_and_max_steps_allow(epochs, max_steps, steps, tiny_trainer):
    assert tiny_trainer(train__epochs=epochs, train__max_steps=max_steps).total_steps == steps


def test_stop_request_saves_and_returns(tiny_trainer, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    trainer = tiny_trainer("~/run[v2]")
    trainer.train(should_stop=lambda: True)
    assert not trainer.finished
    again = tiny_trainer(tmp_path / "run[v2]")
    again.train(max_steps=3)
    assert int(again.state.step) == 3


@pytest.mark.parametrize("keep_best", [True, False])
def test_the_weights_that_are_kept_are_really_the_best_or_the_last(keep_best, tiny_config, tiny_data, tmp_path):
    # Labels are turned round in the texts to choose by: the more is learned, the worse.
    turned = dataclasses.replace(tiny_data.validation, labels=1 - tiny_data.validation.labels)
    config = tiny_config.replace(train__evaluate_every=3, train__best_metric="loss", train__keep_best=keep_best)
    model = LinearClassifier.from_pretrained(config.model.encoder, 2)
    trainer = Trainer(model, config, tiny_data.train, turned, tmp_path / "run", devices=jax.devices()[:1])
    losses = [record["validation"]["loss"] for record in trainer.train()]
    assert losses[-1] > min(losses)
    kept = int(np.argmin(losses)) if keep_best else len(losses) - 1
    assert trainer.best_step == 3 * (1 + kept)
    np.testing.assert_allclose(trainer.evaluate(turned)["loss"], losses[kept], rtol=1e-5)


def test_early_stopping_ends_the_run(tiny_trainer):
    trainer = tiny_trainer(train__patience=2, train__epochs=20, train__evaluate_every=9, train__best_metric="accuracy",
                           train__log_every=1000)  # fmt: skip
    values = [record["validation"]["accuracy"] for record in trainer.train()]
    assert trainer.finished
    assert len(values) < 20
    assert max(values[:-2]) >= max(values[-2:])
    assert [record["step"] for record in logged(trainer) if record["kind"] == "train"] == [9 * len(values)]
    assert (trainer.workdir / "model").exists()


def test_loss_that_is_not_finite_stops_the_run(tiny_trainer):
    # Finite until the first update has been made; then the weights have left the range of a float32.
    trainer = tiny_trainer(train__head_learning_rate=1e37, train__encoder_learning_rate=1e37, train__warmup_ratio=0.0)
    with pytest.raises(UserError, match=r"step \d+: loss .*not finite.*learning rate that is too high"):
        trainer.train()


def test_a_run_goes_on_with_the_same_data_only(tiny_trainer, tiny_config, tiny_data, tmp_path):
    tiny_trainer().train(max_steps=2)
    with pytest.raises(UserError, match=r"train\.epochs was 3, is 4.*another --workdir.*--init_from"):
        tiny_trainer(train__epochs=4)
    model = LinearClassifier.from_pretrained(tiny_config.model.encoder, 2, **TINY_HEAD)
    for number, what in enumerate(("training", "validation")):
        splits = list(tiny_data[:2])
        splits[number] = splits[number].take(np.arange(len(splits[number]))[::-1], "swapped")
        with pytest.raises(
            UserError, match=rf"run: holds a run with other {what} data .*now swapped.*another --workdir"
        ):
            Trainer(model, tiny_config, *splits, tmp_path / "run", devices=jax.devices()[:1])


def test_new_layers_are_fitted_to_the_training_texts_once(tiny_trainer, tiny_config, tiny_data, tmp_path):
    fitted = tiny_trainer(model__name="amsdff")
    random = tiny_trainer(tmp_path / "random", model__name="amsdff", train__data_dependent_init=False)
    output = call(fitted.model, *next(fitted.stream.batches(0, 1))[:2])
    assert np.abs(np.asarray(output.pooled_features).std(0) - 1).mean() < 0.5
    assert np.asarray(call(random.model, *next(random.stream.batches(0, 1))[:2]).pooled_features).std(0).mean() < 0.3
    before = jax.tree.map(np.asarray, to_state_dict(fitted.model))
    again = Trainer(fitted.model, tiny_config, tiny_data.validation, tiny_data.train, tmp_path / "again",
                    devices=jax.devices()[:1])  # fmt: skip
    jax.tree.map(np.testing.assert_array_equal, to_state_dict(again.model), before)


def test_unknown_metric_is_refused_at_once(tiny_trainer):
    with pytest.raises(UserError, match=r"train\.best_metric: no metric 'makro_f1'; did you mean macro_f1\?"):
        tiny_trainer(train__best_metric="makro_f1")


def test_model_and_data_must_agree_on_the_classes(tiny_config, tiny_data, tmp_path):
    model = LinearClassifier.from_pretrained(tiny_config.model.encoder, 3)
    with pytest.raises(UserError, match=r"model\.num_classes: the model has 3, but .* has 2"):
        Trainer(model, tiny_config, tiny_data.train, tiny_data.validation, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_other_classes_are_not_evaluated(tiny_trainer, tiny_data):
    turned = dataclasses.replace(tiny_data.test, class_names=tiny_data.test.class_names[::-1], name="turned")
    with pytest.raises(UserError, match=r"turned: its 2 classes \(low, high\) are not the 2 of the training data"):
        tiny_trainer().evaluate(turned)


def test_pairs_are_not_evaluated_where_single_texts_were_learned(tiny_trainer, tiny_data):
    pairs = dataclasses.replace(tiny_data.test, text_pairs=tiny_data.test.texts, name="pairs")
    with pytest.raises(UserError, match=r"^pairs: has pairs of texts, but the training data has single texts; exp"):
        tiny_trainer().evaluate(pairs)


def test_pairs_are_not_chosen_by_single_texts(tiny_config, tiny_data, tmp_path):
    model = LinearClassifier.from_pretrained(tiny_config.model.encoder, 2)
    pairs = dataclasses.replace(tiny_data.train, text_pairs=tiny_data.train.texts, name="pairs")
    single = dataclasses.replace(tiny_data.validation, name="single")
    with pytest.raises(UserError, match=r"^single: has single texts, but pairs has pairs of texts; expected the same$"):
        Trainer(model, tiny_config, pairs, single, tmp_path / "run")


def test_a_model_of_pairs_says_so(tiny_config, tiny_data, tmp_path):
    model = LinearClassifier.from_pretrained(tiny_config.model.encoder, 2)
    pairs = [dataclasses.replace(split, text_pairs=split.texts) for split in tiny_data[:2]]
    trainer = Trainer(model, tiny_config.replace(train__epochs=1), *pairs, tmp_path / "run",
                      devices=jax.devices()[:1])  # fmt: skip
    trainer.train()
    assert read_model_folder(tmp_path / "run" / "model").reads_pairs is True


def test_a_finished_model_is_not_replaced_for_lack_of_checkpoints(tiny_trainer):
    trainer = tiny_trainer(train__epochs=1)
    trainer.train()
    shutil.rmtree(trainer.workdir / "checkpoints")
    with pytest.raises(UserError, match="run: holds a finished model without the checkpoints of its run"):
        tiny_trainer(train__epochs=1)


def test_a_tokenizer_needs_no_encoder_beside_it(tiny_config, tiny_data, tmp_path):
    load_tokenizer(tiny_config.model.encoder).save_pretrained(tmp_path / "tokenizer")
    assert not (tmp_path / "tokenizer" / "config.json").exists()
    config = tiny_config.replace(data__tokenizer=str(tmp_path / "tokenizer"))
    model = LinearClassifier.from_pretrained(tiny_config.model.encoder, 2)
    splits = tiny_data.train, tiny_data.validation
    trainer = Trainer(model, config, *splits, tmp_path / "run", devices=jax.devices()[:1])
    assert Path(trainer.tokenizer.name_or_path) == tmp_path / "tokenizer"


def test_a_random_encoder_needs_a_tokenizer_by_name(tiny_config, tiny_data, tmp_path):
    sizes = f"{tiny_config.model.encoder}/config.json"
    config = tiny_config.replace(model__encoder="", model__encoder_config=sizes)
    with pytest.raises(UserError, match=r"data\.tokenizer: not given, and a random encoder"):
        make_trainer(config, tiny_data, tmp_path / "run", jax.devices()[:1])
    config = config.replace(data__tokenizer=tiny_config.model.encoder)
    assert make_trainer(config, tiny_data, tmp_path / "run", jax.devices()[:1]).tokenizer


def test_damaged_checkpoint_is_named(tiny_trainer):
    trainer = tiny_trainer()
    trainer.train(max_steps=2)
    for file in (trainer.workdir / "checkpoints" / "latest" / "2").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    with pytest.raises(UserError, match=r"latest/2: this checkpoint cannot be read"):
        tiny_trainer().train()


def test_best_weights_of_a_run_that_had_no_checkpoint_are_not_taken_for_those_of_the_next(tiny_trainer):
    first = tiny_trainer()
    first.train(max_steps=9)
    shutil.rmtree(first.workdir / "checkpoints" / "latest")  # as on a disk with room for weights alone
    second = tiny_trainer(train__head_learning_rate=1e-3)
    assert len(second.train()) == 3 and second.finished


def test_weights_that_there_was_no_room_for_are_evaluated_and_saved_again(tiny_trainer, monkeypatch):
    trainer, whole = tiny_trainer(), Checkpoints.save_best

    def full(*_):
        raise UserError("make room")

    monkeypatch.setattr(Checkpoints, "save_best", full)
    with pytest.raises(UserError, match="make room"):
        trainer.train()
    assert trainer.history == []
    monkeypatch.setattr(Checkpoints, "save_best", whole)
    assert [record["step"] for record in trainer.train()] == [9, 18, 27] and trainer.finished


def test_r_drop_wants_dropout(tiny_config, tiny_data):
    config = tiny_config.replace(model__name="linear", loss__r_drop=1.0)
    model = LinearClassifier.from_pretrained(config.model.encoder, 2)
    model.set_attributes(Dropout, rate=0.0)
    with pytest.raises(UserError, match=r"^loss\.r_drop: 1\.0, but nothing of the model is dropped"):
        Trainer(model, config, tiny_data.train, tiny_data.validation, devices=jax.devices()[:1])


def test_a_contrastive_loss_wants_more_than_one_text_a_piece(tiny_trainer):
    with pytest.raises(UserError, match=r"^loss\.contrastive: 0\.5, but train\.batch_size=12 in .*=12 is one text"):
        tiny_trainer(loss__contrastive=0.5, train__accumulation_steps=12)


@pytest.mark.parametrize(("field", "value"), [("loss.focal_alpha", 0), ("loss.focal_gamma", -1), ("train.epsilon", 0)])
def test_what_trains_nothing_or_the_wrong_way_is_refused(field, value, tiny_trainer):
    with pytest.raises(UserError, match=rf"^{field}: expected "):
        tiny_trainer(**{field.replace(".", "__"): float(value)})


def test_reference_mode_fits_new_layers_at_the_padding_that_they_see(tiny_trainer):
    trainer = tiny_trainer(model__name="amsdff", model__mask_padding=False)
    texts = trainer.stream.texts(0)
    batch = make_batch(texts, plan_sample(texts.lengths, SAMPLED_TEXTS, trainer.config.seed, padded=24))
    assert batch.attention_mask.any(axis=0).sum() < 24  # there is padding that no text of these reaches into
    pooled = np.asarray(call(trainer.model, *batch[:2]).pooled_features)
    np.testing.assert_allclose(pooled.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(pooled.std(axis=0), 1, atol=1e-3)


def test_reference_mode_pads_to_max_length(tiny_trainer):
    trainer = tiny_trainer(model__mask_padding=False)
    assert {batch.input_ids.shape for batch in trainer.stream.batches(0, 9)} == {(12, 24)}


def test_only_what_is_read_of_long_texts_can_decide(tiny_config, tmp_path):
    random = np.random.default_rng(0)
    labels = random.permutation([0, 1] * 36)
    words = random.integers(0, 20, (72, 60))
    endings = random.integers(20, 30, (72, 4)) + 10 * labels[:, None]  # the last words alone tell the class
    texts = [" ".join(f"w{word}" for word in row) for row in np.concatenate([words, endings], axis=1)]
    others = [text.rsplit(maxsplit=4)[0] + " w20 w21 w22 w23" for text in texts]
    names = ("high", "low")
    train, test = (TextDataset(texts[rows], labels[rows], names) for rows in (slice(36), slice(36, 72)))
    other = TextDataset(others[36:], labels[36:], names)

    def make(long_texts):
        changes = {"data__max_length": 12, "data__long_texts": long_texts, "train__epochs": 16}
        model = LinearClassifier.from_pretrained(tiny_config.model.encoder, 2)
        config = tiny_config.replace(train__evaluate_every=100, **changes)
        return Trainer(model, config, train, train, tmp_path / long_texts, devices=jax.devices()[:1])

    trainer = make("truncate")
    evaluations = [trainer.run_evaluation(dataset) for dataset in (test, other)]
    np.testing.assert_array_equal(evaluations[0].logits, evaluations[1].logits)
    assert [evaluation.truncated for evaluation in evaluations] == [36, 36]
    trainer = make("head_tail")
    trainer.train()
    results = trainer.evaluate(test)
    assert results["accuracy"] >= 0.95
    assert read_model_folder(trainer.workdir / "model").long_texts == "head_tail"


def test_every_text_is_seen_once_an_epoch(tiny_trainer, tiny_data, caplog):
    caplog.set_level("INFO")
    trainer = tiny_trainer()
    numbers = re.search(r"2 classes, with so many training texts: high (\d+), low (\d+)", caplog.text)
    assert int(numbers[1]) + int(numbers[2]) == 101
    for epoch in range(2):
        rows = [
            tuple(row[mask == 1])
            for batch in trainer.stream.batches(9 * epoch, 9 * (epoch + 1))
            for row, mask in zip(batch.input_ids, batch.attention_mask, strict=True)
            if mask.any()
        ]
        tokens = tokenize_once(tiny_data.train, trainer.tokenizer, 24)
        expected = [tuple(tokens.token_ids[a:b]) for a, b in zip(tokens.offsets, tokens.offsets[1:], strict=False)]
        assert sorted(rows) == sorted(expected)


def test_evaluation_does_not_depend_on_the_batch_size(tiny_trainer, tiny_data, tmp_path):
    results = [
        tiny_trainer(tmp_path / str(size), train__eval_batch_size=size).run_evaluation(tiny_data.test)
        for size in (1, 10, 64)
    ]
    for other in results[1:]:
        np.testing.assert_allclose(other.logits, results[0].logits, atol=1e-5)


def test_texts_of_any_kind_are_data(tiny_trainer):
    texts = ["", "😀 w1", "w2 " * 50_000, "w3\x00w4", "\ud7ff\u200b"]
    dataset = TextDataset(texts, np.zeros(5, np.int32), ("high", "low"))
    evaluation = tiny_trainer().run_evaluation(dataset)
    assert np.isfinite(evaluation.logits).all()
    assert evaluation.truncated == 1
