"""What a caller adds to a trainer is computed, shown and obeyed, and an error in it loses nothing."""

import json

import jax
import numpy as np
import pytest

from amsdff_jax import Trainer, UserError, load_model
from amsdff_jax.models.baselines import LinearClassifier
from amsdff_jax.models.state_dict import to_state_dict
from amsdff_jax.training.checkpoint import has_checkpoint


@pytest.fixture
def make(tiny_config, tiny_data, tmp_path):
    """A function that makes a trainer over one folder; keywords are hooks and, with underscores, settings."""

    def make(metrics=None, on_evaluation=None, **settings) -> Trainer:
        config = tiny_config.replace(**{"train__evaluate_every": 3, "train__epochs": 1} | settings)
        return Trainer(
            LinearClassifier.from_pretrained(config.model.encoder, 2), config, tiny_data.train, tiny_data.validation,
            tmp_path / "run", devices=jax.devices()[:1], metrics=metrics, on_evaluation=on_evaluation,
        )  # fmt: skip

    return make


def hits(labels, probabilities):
    return (probabilities.argmax(-1) == labels).sum()


def test_a_metric_of_the_callers_is_shown_wherever_others_are(make, tiny_data, caplog):
    caplog.set_level("INFO")
    trainer = make({"hits": hits, "undefined": lambda *_: float("nan")})
    history = [record["validation"] for record in trainer.train()]
    assert [metrics["hits"] for metrics in history] == [round(metrics["accuracy"] * 37) for metrics in history]
    assert f"hits {history[0]['hits']:.4f}, undefined –" in caplog.text
    assert f"cross_entropy {history[0]['cross_entropy']:.4f}" in caplog.text
    logged = [json.loads(line) for line in (trainer.workdir / "metrics.jsonl").open()]
    assert [record["hits"] for record in logged if record["kind"] == "validation"] == [m["hits"] for m in history]
    assert {metrics["undefined"] for metrics in history} == {None}
    results = trainer.evaluate(tiny_data.test)
    assert results["hits"] == round(results["accuracy"] * 43)


def test_a_metric_of_the_callers_may_choose_the_best_and_greater_is_better(make):
    values = iter([1.0, 3.0, 2.0])
    trainer = make({"given": lambda *_: next(values)}, train__best_metric="given")
    trainer.train()
    assert trainer.best_step == 6
    with pytest.raises(UserError, match=r"train\.best_metric: no metric 'given'.*given to Trainer as metrics="):
        make(train__best_metric="given")


@pytest.mark.parametrize(
    ("hooks", "message"),
    [
        ({"metrics": [len]}, "metrics: expected functions by name"),
        ({"metrics": {"f": 3}}, "metrics: 'f': expected a function, got 3"),
        ({"on_evaluation": "f"}, "on_evaluation: expected a function, got 'f'"),
    ],
)
def test_what_is_no_function_is_refused_before_anything_is_made(hooks, message, make, tmp_path):
    with pytest.raises(UserError, match=message):
        make(**hooks)
    assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.parametrize(
    ("name", "message"), [("ece", "'ece' is computed already"), ("top 5", "names of letters, .* got 'top 5'")]
)
def test_names_that_cannot_be_used_are_refused_before_anything_is_made(name, message, make, tmp_path):
    with pytest.raises(UserError, match=f"metrics: .*{message}"):
        make({name: hits})
    assert not (tmp_path / "run" / "config.json").exists()


def test_on_evaluation_sees_each_evaluation_and_may_end_the_run(make, tiny_data):
    seen = []

    def on_evaluation(record, trainer):
        seen.append((record["step"], trainer.evaluate(tiny_data.validation)["loss"], record["validation"]["loss"]))
        assert trainer.history[-1] == record
        return len(seen) == 2

    trainer = make(on_evaluation=on_evaluation)
    trainer.train()
    assert [step for step, *_ in seen] == [3, 6]
    np.testing.assert_allclose([loss for _, loss, _ in seen], [loss for *_, loss in seen], rtol=1e-5)
    assert trainer.finished and int(trainer.state.step) == 6
    expected = to_state_dict(load_model(trainer.workdir / "model"))
    jax.tree.map(np.testing.assert_array_equal, to_state_dict(trainer.model), expected)
    again = make()
    again.train()
    assert again.finished and int(again.state.step) == 6  # an ended run stays so


@pytest.mark.parametrize(
    ("hooks", "settings", "message"),
    [
        ({"metrics": {"bad": lambda *_: 1 / 0}}, {}, r"metrics: 'bad': failed \(ZeroDivisionError: "),
        ({"metrics": {"bad": lambda *_: "high"}}, {}, r"metrics: 'bad': failed \(ValueError: "),
        ({"metrics": {"bad": lambda *_: float("inf")}}, {"train__best_metric": "bad"}, "'bad': failed .*gave inf"),
        ({"on_evaluation": lambda *_: 1 / 0}, {}, r"on_evaluation: failed \(ZeroDivisionError: division by zero\)"),
        ({"on_evaluation": lambda *_: {}}, {}, r"on_evaluation: failed \(TypeError: it gave {}, expected True"),
    ],
)
def test_an_error_of_the_callers_is_named_and_the_run_kept(hooks, settings, message, make, tmp_path):
    with pytest.raises(UserError, match=f"{message}.*the run is saved at step 3") as error:
        make(**hooks, **settings).train()
    assert "\n" not in str(error.value)
    assert has_checkpoint(tmp_path / "run")
    kept = {name: {"bad": hits} for name in hooks if name == "metrics"}
    resumed = make(**kept, **settings)
    resumed.train()
    assert [record["step"] for record in resumed.history] == [3, 6, 9]


def test_the_model_of_a_stopped_run_is_that_of_its_last_step(make, tiny_data):
    trainer = make()
    before = to_state_dict(trainer.model)["classifier.weight"].copy()
    trainer.train(max_steps=2)
    after = to_state_dict(trainer.model)["classifier.weight"]
    assert not trainer.finished and np.abs(after - before).max() > 0
    variables = trainer.state.variables.trainable["classifier"]["kernel"]
    np.testing.assert_array_equal(after, np.asarray(variables).T)
