"""A run begun in one framework continues in the other."""

from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from flax import nnx, traverse_util

torch = pytest.importorskip("torch", reason="needs PyTorch")

from torch.optim.lr_scheduler import LambdaLR

from amsdff_jax import UserError
from amsdff_jax.config import Config, ModelConfig
from amsdff_jax.conversion.convert import from_torch, to_torch
from amsdff_jax.conversion.torch_model import load_arrays, make_adamw, make_twin
from amsdff_jax.data.batches import Batch
from amsdff_jax.interop.encoder_files import read_encoder_config
from amsdff_jax.interop.torch_checkpoint import read_torch_file, write_torch_file
from amsdff_jax.interop.weights_file import read_weights_file
from amsdff_jax.models.amsdff import EnhancedAMSDFF
from amsdff_jax.models.dropout import Dropout
from amsdff_jax.models.state_dict import load_state_dict, parameter_names, to_state_dict, to_torch_layout, torch_name
from amsdff_jax.training.optimizer import peak_learning_rates, schedule_shares, unit_schedule
from amsdff_jax.training.optimizer_state import optimizer_from_torch, optimizer_to_torch, schedule_to_torch
from amsdff_jax.training.step import TrainState, initial_state, make_train_step, split_model, update_model
from tests.conversion.test_torch_model import arrays, make_batch, make_pair, run, torch_loss
from tests.test_parity import LARGE_EPSILON, REFERENCE

PUBLISHED = Path(__file__).parents[3] / "shared" / "fixtures" / "amsdff_tiny" / "trainer_checkpoint.pt"
TOTAL_STEPS, WARMUP, RATE = 9, 0.3, 1e-4
CONFIG = Config.from_dict(
    {
        "train": {
            "head_learning_rate": RATE, "encoder_learning_rate": RATE, "decay_all": True, "warmup_ratio": WARMUP,
            "epsilon": LARGE_EPSILON,
        }
    }
)  # fmt: skip


class TorchRun:
    """The published trainer's optimizer and schedule."""

    def __init__(self, model: torch.nn.Module, total_steps: int = TOTAL_STEPS):
        self.model = model.train()
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01, eps=LARGE_EPSILON)
        self.schedule = LambdaLR(self.optimizer, lambda step: float(unit_schedule(total_steps, WARMUP)(step)))

    def step(self, batch: Batch) -> None:
        self.optimizer.zero_grad()
        torch_loss(run(self.model, batch).logits, batch.labels).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.schedule.step()

    def checkpoint(self) -> dict:
        return {
            "model_state_dict": self.model.state_dict(),
            "optimizer_state_dict": self.optimizer.state_dict(),
            "scheduler_state_dict": self.schedule.state_dict(),
        }


class FlaxRun:
    """The train step of this project, on a model without dropout."""

    def __init__(self, model, config: Config = CONFIG):
        self.model, self.rates = model, peak_learning_rates(parameter_names(model), config.train)
        graphs, variables = split_model(model, self.rates)
        self.state, optimizer = initial_state(variables, self.rates, config, TOTAL_STEPS)
        self.function = jax.jit(
            make_train_step(graphs.train, config, optimizer, np.ones(model.config.num_classes, np.float32))
        )

    def step(self, batch: Batch) -> None:
        self.state, _ = self.function(self.state, batch, jax.random.key(0))

    def weights(self) -> dict[str, np.ndarray]:
        update_model(self.model, self.state.variables)
        return to_state_dict(self.model)

    def optimizer(self) -> dict:
        step = int(self.state.step)
        paths = traverse_util.flatten_dict(self.state.variables.trainable)
        shares = schedule_shares(self.rates, CONFIG.train, TOTAL_STEPS, step)
        return optimizer_to_torch(self.state.optimizer_state, step, paths, self.rates, shares, CONFIG.train)


def assert_same_weights(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        np.testing.assert_allclose(value, theirs[name], atol=1e-6, rtol=1e-5, err_msg=name)


def test_a_run_of_pytorch_continues_here(tmp_path):
    model, twin = make_pair("amsdff", True)
    theirs = TorchRun(twin)
    for seed in range(4):
        theirs.step(make_batch(seed))
    torch.save(theirs.checkpoint(), tmp_path / "run.pt")

    weights = read_weights_file(tmp_path / "run.pt")
    load_state_dict(model, weights.tensors, "run.pt")
    ours = FlaxRun(model)
    saved = weights.training["optimizer_state_dict"]
    optimizer, step = optimizer_from_torch(saved, list(weights.tensors), ours.state.optimizer_state, "run.pt")
    assert step == weights.training["scheduler_state_dict"]["last_epoch"] == 4
    ours.state = TrainState(jax.numpy.int32(step), ours.state.variables, optimizer)
    for seed in (4, 5):
        ours.step(make_batch(seed))
        theirs.step(make_batch(seed))
        assert_same_weights(ours.weights(), arrays(twin))


@pytest.mark.skipif(not PUBLISHED.exists(), reason="a checkpoint with an optimizer's state is too large to ship")
def test_the_published_trainers_run_continues_here():
    config = ModelConfig(num_classes=4, mask_padding=False)
    encoder = read_encoder_config(REFERENCE / "encoder")
    weights = read_weights_file(PUBLISHED)
    model = nnx.eval_shape(lambda: EnhancedAMSDFF(config, encoder, rngs=nnx.Rngs(0)))
    load_state_dict(model, weights.tensors, "published")
    model.set_attributes(Dropout, rate=0.0)
    twin = make_twin(config, encoder)
    load_arrays(twin, weights.tensors, "published")
    for module in twin.modules():
        for name in ("p", "dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    theirs = TorchRun(twin)
    saved = torch.load(PUBLISHED, weights_only=False)
    theirs.optimizer.load_state_dict(saved["optimizer_state_dict"])
    theirs.schedule.load_state_dict(saved["scheduler_state_dict"])
    # The six steps were the whole run there, so the rate had come down to 0; here they are 6 of 9.
    theirs.optimizer.param_groups[0]["lr"] = RATE * float(unit_schedule(TOTAL_STEPS, WARMUP)(6))
    theirs.optimizer.param_groups[0]["eps"] = LARGE_EPSILON
    ours = FlaxRun(model)
    state = ours.state.optimizer_state
    state, step = optimizer_from_torch(weights.training["optimizer_state_dict"], list(weights.tensors), state, "f")
    assert step == 6
    ours.state = TrainState(jax.numpy.int32(step), ours.state.variables, state)
    batch = make_batch(0)
    batch = batch._replace(labels=batch.labels % 4)
    ours.step(batch)
    theirs.step(batch)
    assert_same_weights(ours.weights(), arrays(twin))


def test_a_run_of_ours_continues_in_pytorch(tmp_path):
    model, twin = make_pair("amsdff", False)
    ours = FlaxRun(model)
    for seed in range(4):
        ours.step(make_batch(seed))
    optimizer = ours.optimizer()
    write_torch_file(tmp_path / "run.pt", {
        "model_state_dict": ours.weights(), "optimizer_state_dict": optimizer,
        "scheduler_state_dict": schedule_to_torch(4, optimizer),
    })  # fmt: skip

    loaded = torch.load(tmp_path / "run.pt", weights_only=True)
    twin.load_state_dict(loaded["model_state_dict"])
    theirs = TorchRun(twin)
    theirs.optimizer.load_state_dict(loaded["optimizer_state_dict"])
    theirs.schedule.load_state_dict(loaded["scheduler_state_dict"])
    for seed in (4, 5):
        ours.step(make_batch(seed))
        theirs.step(make_batch(seed))
        assert_same_weights(ours.weights(), arrays(twin))


def test_groups_say_whose_moments_they_hold(tmp_path):
    """Two rates, decay on matrices only: four groups, which come back by name and in PyTorch's own optimizer."""
    config = Config.from_dict(
        {"train": {"learning_rate_table": (("embeddings", 0.0), ("^transformer", 1e-5), ("", RATE))}}
    )
    model, twin = make_pair("attention", True)
    ours = FlaxRun(model, config)
    ours.step(make_batch(0))
    paths = [*traverse_util.flatten_dict(ours.state.variables.trainable),
             *traverse_util.flatten_dict(ours.state.variables.frozen)]  # fmt: skip
    saved = optimizer_to_torch(
        ours.state.optimizer_state, 1, paths, ours.rates, dict.fromkeys(ours.rates, 0.5), config.train
    )
    rates = {name: group["initial_lr"] for group in saved["param_groups"] for name in group["param_names"]}
    decays = {name: group["weight_decay"] for group in saved["param_groups"] for name in group["param_names"]}
    assert rates == ours.rates
    assert decays["classifier.weight"] == 0.01
    assert decays["classifier.bias"] == decays["transformer.embeddings.word_embeddings.weight"] == 0
    write_torch_file(tmp_path / "optimizer.pt", saved)
    optimizer = make_adamw(twin, torch.load(tmp_path / "optimizer.pt", weights_only=True))
    moments = {name: optimizer.state[parameter]["exp_avg"] for name, parameter in twin.named_parameters()
               if parameter in optimizer.state}  # fmt: skip
    assert set(moments) == {name for name, rate in rates.items() if rate}
    flat = traverse_util.flatten_dict(optax.tree_utils.tree_get(ours.state.optimizer_state, "mu"))
    for path, value in flat.items():
        np.testing.assert_array_equal(moments[torch_name(path)], to_torch_layout(path, value))
    read = read_torch_file(tmp_path / "optimizer.pt")
    for group in read["param_groups"]:  # as DataParallel would call them
        group["param_names"] = [f"module.{name}" for name in group["param_names"]]
    state, step = optimizer_from_torch(read, list(rates), ours.state.optimizer_state, "f")
    assert step == 1
    jax.tree.map(np.testing.assert_array_equal, state, ours.state.optimizer_state)


def change(saved: dict, what: str) -> dict:
    """A damaged copy of an optimizer's state."""
    if what == "nothing known":
        return {"params": []}
    if what == "numbers of another kind":
        return saved | {"param_groups": [{"params": [[0]]}]}
    first, *others = saved["param_groups"][0]["params"]
    if what == "two groups":
        group = saved["param_groups"][0]
        return saved | {"param_groups": [group | {"params": [first]}, group | {"params": others}]}
    entry = saved["state"][0]
    changed = {
        "another kind": {"step": entry["step"], "momentum_buffer": entry["exp_avg"]},
        "another shape": entry | {"exp_avg": np.zeros((2, 2), np.float32)},
        "other steps": entry | {"step": np.float32(9)},
        "no step": entry | {"step": "nine"},
        "many steps": entry | {"step": np.ones(2)},
        "no number": entry | {"exp_avg": np.full_like(entry["exp_avg"], np.nan)},
    }[what]
    return saved | {"state": saved["state"] | {0: changed}}


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("two groups", "has 2 groups without param_names"),
        (
            "another kind",
            "holds step, momentum_buffer for transformer.embeddings.word_embeddings.weight; expected",
        ),
        ("another shape", r"exp_avg of transformer\.embeddings\.word_embeddings\.weight has shape \(2, 2\), expected"),
        ("nothing known", "state is not of PyTorch's form"),
        ("other steps", r"has made \[1.0, 9.0\] steps"),
        ("no step", "step of transformer.embeddings.word_embeddings.weight is no number"),
        ("many steps", "step of transformer.embeddings.word_embeddings.weight is no number"),
        ("no number", "exp_avg of transformer.embeddings.word_embeddings.weight holds NaN, infinity or no numbers"),
        ("numbers of another kind", "state is not of PyTorch's form"),
    ],
)
def test_an_optimizer_that_cannot_be_understood_is_an_error(what, message, tmp_path):
    model, twin = make_pair("attention", True)
    theirs = TorchRun(twin)
    theirs.step(make_batch(0))
    torch.save(theirs.optimizer.state_dict(), tmp_path / "optimizer.pt")
    saved = change(read_torch_file(tmp_path / "optimizer.pt"), what)
    with pytest.raises(UserError, match=f"FILE: its optimizer('s)? {message}"):
        optimizer_from_torch(saved, list(twin.state_dict()), FlaxRun(model).state.optimizer_state, "FILE")


def test_a_trainer_begins_from_its_own_export(tiny_trainer, tmp_path):
    first = tiny_trainer(tmp_path / "first")
    first.train(max_steps=5)
    to_torch(tmp_path / "first", tmp_path / "run.pt", layout="trainer")
    settings = {"train__init_from": str(tmp_path / "run.pt"), "train__evaluate_every": 5}
    second = tiny_trainer(tmp_path / "second", **settings)
    jax.tree.map(np.testing.assert_array_equal, second.state, first.state)
    assert second.train(max_steps=6) == []  # the state of step 5 is the file's, and not this run's to evaluate
    first = tiny_trainer(tmp_path / "first")
    first.train(max_steps=6)
    jax.tree.map(np.testing.assert_array_equal, second.state, first.state)
    loaded = torch.load(tmp_path / "run.pt", weights_only=True)
    assert loaded["scheduler_state_dict"]["last_epoch"] == 5
    assert loaded["config"]["train"]["epochs"] == 3
    (tmp_path / "run.pt").unlink()  # from its own checkpoint on, a run needs the file no more
    again = tiny_trainer(tmp_path / "second", **settings)
    again.train(max_steps=7)
    assert int(again.state.step) == 7


def test_weights_of_other_heads_are_refused_and_other_padding_and_classes_told(tiny_trainer, tmp_path, caplog):
    first = tiny_trainer(tmp_path / "first", model__name="transformer")
    first.train(max_steps=1)
    to_torch(tmp_path / "first", tmp_path / "run.pt", layout="trainer")
    settings = {"model__name": "transformer", "train__init_from": str(tmp_path / "run.pt")}
    with pytest.raises(UserError, match=r"layers have 4 attention heads, and this one's have 2; set --config\.model"):
        tiny_trainer(tmp_path / "heads", model__num_attention_heads=2, **settings)
    content = torch.load(tmp_path / "run.pt", weights_only=True)
    content["config"]["class_names"] = content["config"]["class_names"][::-1]
    torch.save(content, tmp_path / "run.pt")
    caplog.clear()
    tiny_trainer(tmp_path / "other", model__mask_padding=False, **settings)
    assert "run.pt: was trained with masked padding, and this run's is reference" in caplog.text
    high, low = first.class_names
    assert f"its classes are {low}, {high}, and here the same rows of the last layer are {high}, {low}" in caplog.text


def test_an_export_tells_what_tensors_do_not(tiny_trainer, tiny_encoder, tmp_path):
    trainer = tiny_trainer(tmp_path / "run")
    trainer.train(max_steps=1)
    to_torch(tmp_path / "run", tmp_path / "run.pt", layout="trainer")
    saved = from_torch(tmp_path / "run.pt", tmp_path / "model", encoder_config=str(tiny_encoder))
    assert saved.class_names == trainer.class_names
    assert saved.max_length == 24
    assert (saved.model.config.mask_padding, saved.model.config.num_attention_heads) == (True, 4)


def test_an_optimizer_past_the_end_is_refused_and_nothing_changes(tiny_trainer, tmp_path):
    tiny_trainer(tmp_path / "first").train(max_steps=10)
    to_torch(tmp_path / "first", tmp_path / "run.pt", layout="trainer")
    with pytest.raises(UserError, match=r"has made 10 steps, and this run has only 9; raise train\.epochs"):
        tiny_trainer(tmp_path / "second", train__epochs=1, train__init_from=str(tmp_path / "run.pt"))
    assert not (tmp_path / "second").exists()
