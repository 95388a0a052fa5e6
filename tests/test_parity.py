"""The model in reference semantics against numbers computed in PyTorch (see reference/README.md)."""

import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx, traverse_util
from safetensors.numpy import load_file

from amsdff_jax.config import LOSS_PARTS, Config, ModelConfig
from amsdff_jax.conversion.verify import STAGES
from amsdff_jax.data.batches import Batch
from amsdff_jax.interop.encoder_files import read_encoder_config
from amsdff_jax.models.amsdff import EnhancedAMSDFF
from amsdff_jax.models.dropout import Dropout
from amsdff_jax.models.losses import combine, contrastive_loss, loss_parts
from amsdff_jax.models.state_dict import LEAVES, load_state_dict, parameter_names, to_state_dict, torch_name
from amsdff_jax.training.optimizer import peak_learning_rates, unit_schedule
from amsdff_jax.training.step import initial_state, make_train_step, split_model, update_model
from tests.compiled import call

REFERENCE = Path(__file__).parent / "reference"
INTERMEDIATES = {name: field for name, field in STAGES.items() if name != "cls_attention"}  # not in the reference

# Biases that BatchNorm or a softmax takes out again: their gradients are 0 but for rounding.
CANCELLED = re.compile(r"scale_convs\.\d\.[01]\.bias|k_lin\.bias|attention_pooling\.2\.bias")

# Adam divides a gradient by its own size: with the usual epsilon of 1e-8 it makes whole steps out of gradients that are
# nothing but rounding, in a direction that every processor chooses anew. With this one, far above the rounding of the
# tests' small models, such steps stay as small as the gradients.
LARGE_EPSILON = 1e-4


@pytest.fixture(scope="module")
def expected() -> dict[str, np.ndarray]:
    return load_file(REFERENCE / "expected.safetensors")


@pytest.fixture(scope="module")
def weights() -> dict[str, np.ndarray]:
    return load_file(REFERENCE / "model.safetensors")


def reference_model(weights, mask_padding: bool = False, dropout: bool = True, **fields) -> EnhancedAMSDFF:
    config = ModelConfig(num_classes=4, mask_padding=mask_padding, **fields)
    model = EnhancedAMSDFF(config, read_encoder_config(REFERENCE / "encoder"), rngs=nnx.Rngs(0))
    load_state_dict(model, weights, "reference")
    if not dropout:
        model.set_attributes(Dropout, rate=0.0)
    return model


def training_config() -> Config:
    settings = json.loads((REFERENCE / "meta.json").read_text())["train_config"]
    return Config.from_dict(
        {
            "train": {
                "head_learning_rate": settings["learning_rate"],
                "encoder_learning_rate": settings["learning_rate"],
                "weight_decay": settings["weight_decay"],
                "warmup_ratio": settings["warmup_ratio"],
                "gradient_clip": settings["gradient_clip"],
                "decay_all": True,
            },
        }
    )


def training_batch(expected, number: int) -> Batch:
    names = ("input_ids", "attention_mask", "labels")
    return Batch(*(expected[f"train.batch{number}.{name}"].astype(np.int32) for name in names))


@pytest.mark.parametrize("name", INTERMEDIATES)
def test_every_stage_equals_pytorch(name, expected, weights):
    output = call(reference_model(weights), expected["input_ids"], expected["attention_mask"])
    actual = np.asarray(getattr(output, INTERMEDIATES[name]))
    np.testing.assert_allclose(actual, expected[f"eval.{name}"].reshape(actual.shape), atol=1e-5, rtol=1e-5)


def test_losses_equal_pytorch(expected):
    config = Config().loss
    parts = loss_parts(expected["eval.logits"], expected["labels"], config)
    valid_mask = np.ones(len(expected["labels"]), bool)
    parts["contrastive"] = contrastive_loss(expected["eval.pooled"], expected["labels"], valid_mask, config.temperature)
    assert set(parts) == set(LOSS_PARTS) - {"r_drop"}  # which is new here
    for name, values in parts.items():
        np.testing.assert_allclose(values.mean(), expected[f"loss.{name}"][0], atol=1e-6, rtol=0, err_msg=name)
    np.testing.assert_allclose(combine(parts, config).mean(), expected["loss.combined"][0], atol=1e-6, rtol=0)


def first_gradients(model, expected) -> dict[str, np.ndarray]:
    """The gradients of the first training batch, by PyTorch's names and in its layout."""
    config = training_config()
    model.train()
    graph, parameters, statistics = nnx.split(model, nnx.Param, nnx.BatchStat)
    parameters, statistics = nnx.to_pure_dict(parameters), nnx.to_pure_dict(statistics)
    batch = training_batch(expected, 0)

    def loss(parameters):
        logits = nnx.merge(graph, parameters, statistics)(batch.input_ids, batch.attention_mask).logits
        return combine(loss_parts(logits, batch.labels, config.loss), config.loss).mean()

    gradients = traverse_util.flatten_dict(jax.jit(jax.grad(loss))(parameters))
    return {torch_name(path): LEAVES[path[-1]].to_torch(np.asarray(value)) for path, value in gradients.items()}


def reference_gradients() -> dict[str, np.ndarray]:
    stored = load_file(REFERENCE / "grads.safetensors")
    return {name.removeprefix("grad."): value for name, value in stored.items()}


def test_first_gradients_equal_pytorch(expected, weights):
    actual = first_gradients(reference_model(weights, dropout=False), expected)
    reference = reference_gradients()
    assert set(actual) == set(reference)
    for name, value in reference.items():
        difference = np.abs(actual[name] - value).max()
        if CANCELLED.search(name):
            assert max(np.abs(value).max(), np.abs(actual[name]).max()) < 1e-6, name
        else:
            assert difference <= 1e-5 * np.abs(value).max(), name


def test_six_training_steps_equal_pytorch(expected, weights):
    model, config = reference_model(weights, dropout=False), training_config()
    rates = peak_learning_rates(parameter_names(model), config.train)
    graphs, variables = split_model(model, rates)
    state, optimizer = initial_state(variables, rates, config, total_steps=6)
    step = jax.jit(make_train_step(graphs.train, config, optimizer, np.ones(4, np.float32)))
    losses = []
    for number in range(6):
        state, metrics = step(state, training_batch(expected, number % 3), jax.random.key(0))
        losses.append(float(metrics["loss"]))
        if number == 0:
            np.testing.assert_allclose(metrics["gradient_norm"], expected["train.grad_norm0"][0], rtol=1e-5)
    np.testing.assert_allclose(losses, expected["train.losses"], atol=1e-4, rtol=0)
    update_model(model, state.variables)
    final = call(model, expected["input_ids"], expected["attention_mask"]).logits
    # Where a gradient is almost 0, its rounding decides which way Adam takes a whole step.
    np.testing.assert_allclose(final, expected["final.eval.logits"], atol=1e-2, rtol=0)


def test_learning_rates_equal_pytorch(expected):
    config = training_config().train
    schedule = unit_schedule(len(expected["train.lrs"]), config.warmup_ratio)
    rates = [config.head_learning_rate * float(schedule(step)) for step in range(len(expected["train.lrs"]))]
    # Exact up to the rounding of a float32.
    np.testing.assert_allclose(rates, expected["train.lrs"], rtol=2e-7, atol=1e-10)


@pytest.mark.parametrize("length", [19, 32, 64])
def test_masked_logits_do_not_see_padding(length, expected, weights):
    model = reference_model(weights, mask_padding=True)
    ids, mask = expected["input_ids"], expected["attention_mask"]
    longest = mask.sum(axis=1).max()
    shortest_padding = call(model, ids[:, :longest], mask[:, :longest]).logits
    padding = ((0, 0), (0, length - ids.shape[1]))
    padded = call(model, np.pad(ids, padding), np.pad(mask, padding)).logits
    np.testing.assert_allclose(padded, shortest_padding, atol=1e-5, rtol=0)


def test_reference_logits_do_see_padding(expected, weights):
    model = reference_model(weights)
    ids, mask = expected["input_ids"], expected["attention_mask"]
    padding = ((0, 0), (0, 45))
    padded = call(model, np.pad(ids, padding), np.pad(mask, padding)).logits
    moved = np.abs(padded - call(model, ids, mask).logits).max()
    assert moved > 0.01


def test_weights_survive_the_way_through_the_model(weights):
    back = to_state_dict(reference_model(weights))
    assert back.keys() == weights.keys()
    for name, value in weights.items():
        assert (back[name].dtype, back[name].shape) == (value.dtype, value.shape), name
        np.testing.assert_array_equal(back[name], value, err_msg=name)
