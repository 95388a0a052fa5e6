"""Any number of devices, in all modes, gives the numbers of one device."""

import gc
import json
import shutil
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amsdff_jax import UserError
from amsdff_jax.benchmark.reproducibility import compare, train_steps
from amsdff_jax.config import PARALLEL_MODES
from amsdff_jax.data.batches import FILLER, plan_batches
from amsdff_jax.models.dropout import Dropout
from amsdff_jax.models.model_folder import load_model
from amsdff_jax.models.variables import Variables
from amsdff_jax.parallel.data_parallel import AXIS, DataParallel
from amsdff_jax.training.checkpoint import Checkpoints
from tests.test_parity import LARGE_EPSILON

STEPS = 10  # of 7 an epoch, one of which holds 5 texts in 16 rows: six of eight devices have nothing but filler
TOLERANCE = 1e-5

WITHOUT_DROPOUT = {
    "model__dropout_rate": 0.0, "model__attention_dropout_rate": 0.0, "model__expert_dropout_rate": 0.0,
    "model__pooling_dropout_rate": 0.0, "model__classifier_dropout_rates": (0.0, 0.0),
}  # fmt: skip
HEAD = {"model__num_attention_heads": 4, "model__kernel_sizes": (1, 3), "model__num_experts": 2}


@pytest.fixture
def config(tiny_config):
    # So low that the rounding of one step has not grown out of the tolerance nine steps later.
    rates = {"train__head_learning_rate": 2e-4, "train__encoder_learning_rate": 2e-4, "train__epsilon": LARGE_EPSILON}
    # Nothing but training is compared, so nothing else is compiled.
    return tiny_config.replace(
        **HEAD, **rates, train__batch_size=16, train__evaluate_every=1000, train__data_dependent_init=False
    )


@pytest.fixture
def without_dropout(config, tmp_path):
    encoder = shutil.copytree(config.model.encoder, tmp_path / "encoder")
    sizes = json.loads((encoder / "config.json").read_text())
    (encoder / "config.json").write_text(json.dumps(sizes | {"dropout": 0.0, "attention_dropout": 0.0}))
    return config.replace(**WITHOUT_DROPOUT, model__encoder=str(encoder))


def assert_near(reference, other):
    comparison = compare("", reference, other, TOLERANCE)
    assert len(comparison.loss) == STEPS
    assert comparison.equal, comparison


def trajectory(config, data, folder, devices, **changes):
    return train_steps(config.replace(**changes), data, folder, [STEPS], jax.devices()[:devices])


@pytest.mark.slow
def test_devices_and_modes_agree_without_dropout(without_dropout, tiny_data, tmp_path):
    reference = trajectory(without_dropout, tiny_data, tmp_path / "reference", 1)
    for mode, devices in (("sharded", 8), ("pmap", 2)):  # all modes on 8 are compared below, with dropout
        folder = tmp_path / f"{mode}-{devices}"
        assert_near(reference, trajectory(without_dropout, tiny_data, folder, devices, parallel__mode=mode))


@pytest.mark.slow
def test_split_weights_and_optimizer_make_the_same_steps(config, tiny_data, tmp_path, split_small_arrays):
    settings = {"model__name": "linear", "train__gradient_clip": 0.5}
    whole = trajectory(config, tiny_data, tmp_path / "sharded", 8, **settings)
    assert whole.gradient_norm.max() > 0.5
    for devices in (2, 4):  # 8 are compared below
        split = trajectory(config, tiny_data, tmp_path / f"{devices}", devices, **settings, parallel__mode="fsdp")
        assert_near(whole, split)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=TOLERANCE, atol=TOLERANCE), split.state, whole.state)


@pytest.mark.slow
def test_dropout_masks_do_not_depend_on_the_devices(config, tiny_data, tmp_path, split_small_arrays):
    windows = {"data__max_length": 12, "data__long_texts": "windows", "data__window_overlap": 2}
    pieces = {"train__accumulation_steps": 2, "loss__contrastive": 0.3, **windows}
    reference = trajectory(config, tiny_data, tmp_path / "reference", 1, **pieces)
    for mode in PARALLEL_MODES:
        assert_near(reference, trajectory(config, tiny_data, tmp_path / mode, 8, **pieces, parallel__mode=mode))


@pytest.mark.expensive
def test_both_passes_of_r_drop_do_not_depend_on_the_devices(config, tiny_data, tmp_path):
    settings = {"model__name": "linear", "loss__r_drop": 0.5}
    reference = trajectory(config, tiny_data, tmp_path / "reference", 1, **settings)
    pmap = trajectory(config, tiny_data, tmp_path / "pmap", 8, **settings, parallel__mode="pmap")
    assert_near(reference, pmap)


@pytest.mark.parametrize("of_texts", [True, False])
def test_devices_drop_the_same_of_what_they_have_in_common(of_texts):
    dropout = Dropout(0.5, of_texts=of_texts)
    dropout.axis_name = AXIS
    dropped = jax.pmap(lambda x: dropout(x, jnp.arange(2, dtype=jnp.uint32)), axis_name=AXIS)(jnp.ones((8, 5, 7)))
    assert (len(np.unique(dropped, axis=0)) == 1) == (not of_texts)


def test_every_text_is_evaluated_once_on_eight_devices(tiny_trainer, tiny_data, tmp_path):
    one = tiny_trainer(tmp_path / "one").run_evaluation(tiny_data.test)
    eight = tiny_trainer(tmp_path / "eight", jax.devices(), train__batch_size=16).run_evaluation(tiny_data.test)
    assert eight.logits.shape == (43, 2)
    np.testing.assert_allclose(eight.logits, one.logits, atol=1e-5)
    np.testing.assert_array_equal(eight.labels, tiny_data.test.labels)


def test_checkpoints_move_between_device_counts_and_modes(tiny_trainer, tmp_path, split_small_arrays):
    one, eight = jax.devices()[:1], jax.devices()
    tiny_trainer(tmp_path, one, train__batch_size=8).train(max_steps=2)
    for step, devices, mode in ((2, eight, "fsdp"), (4, eight, "sharded"), (6, eight[:2], "fsdp"), (8, one, "sharded")):
        resumed = tiny_trainer(tmp_path, devices, train__batch_size=8, parallel__mode=mode)
        saved = Checkpoints(tmp_path / "checkpoints").restore(resumed.state).state
        resumed.train(max_steps=step)
        assert {len(array.sharding.device_set) for array in jax.tree.leaves(resumed.state)} == {len(devices)}
        jax.tree.map(np.testing.assert_array_equal, jax.device_get(saved), jax.device_get(resumed.state))
        resumed.train(max_steps=step + 2)


def test_a_finished_run_leaves_whole_weights(tiny_trainer, tiny_data, tmp_path, split_small_arrays):
    trainer = tiny_trainer(tmp_path, jax.devices(), train__batch_size=8, train__max_steps=3, parallel__mode="fsdp")
    trainer.train()
    saved = load_model(tmp_path / "model")
    for variables in (Variables.of(trainer.model), Variables.of(saved)):
        jax.tree.map(np.testing.assert_array_equal, variables.trainable, trainer.state.variables.trainable)
    accuracy = trainer.history[-1]["validation"]["accuracy"]
    assert trainer.evaluate(tiny_data.validation)["accuracy"] == accuracy


def test_a_step_leaves_every_device_its_part_and_no_second_state(tiny_trainer, split_small_arrays):
    trainer = tiny_trainer(devices=jax.devices(), train__batch_size=8, parallel__mode="fsdp")
    before = trainer.state
    trainer.train(max_steps=1)
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(trainer.state), strict=True):
        assert old.is_deleted()
        assert {shard.data.size for shard in new.addressable_shards} == {new.size // (8 if new.size > 500 else 1)}


@pytest.mark.parametrize("mode", ["fsdp", "sharded"])
def test_no_array_is_whole_on_a_device_while_a_split_run_trains(mode, tiny_trainer, split_small_arrays):
    before, (first, second) = {*map(id, jax.live_arrays())}, jax.devices()[4:6]
    with jax.default_device(first):
        trainer = tiny_trainer(devices=[first, second], parallel__mode=mode)
        gc.collect()
    whole = [
        array for array in jax.live_arrays()
        if array.size > 500 and id(array) not in before and first in array.devices()
        and any(shard.data.size == array.size for shard in array.addressable_shards)
    ]  # fmt: skip
    assert trainer.trained_parameters > 5000
    assert (not whole) == (mode == "fsdp")


@pytest.mark.parametrize(
    ("shape", "part"),
    [
        ((16, 40), (16, 5)),  # the largest axis
        ((24, 44), (3, 44)),  # that the devices divide
        ((3, 8, 44), (3, 1, 44)),
        ((21, 44), (21, 44)),
        ((496,), (496,)),  # too small
        ((504,), (63,)),
        ((), ()),
    ],
)
def test_large_arrays_of_the_state_are_split_along_an_axis(shape, part, split_small_arrays):
    numbers = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    placed = DataParallel("fsdp").place_state({"kernel": numbers})["kernel"]
    np.testing.assert_array_equal(placed, numbers)
    assert {shard.data.shape for shard in placed.addressable_shards} == {part}


def test_batch_size_must_divide_over_the_devices(tiny_trainer):
    with pytest.raises(UserError, match=r"train\.batch_size: 12 .* over 8 devices; the nearest that do: 8 and 16"):
        tiny_trainer(devices=jax.devices())
    with pytest.raises(UserError, match=r"over 8 devices in 3 pieces .*: 24"):
        tiny_trainer(devices=jax.devices(), train__accumulation_steps=3)


def test_the_parts_of_all_devices_make_the_batch():
    parallel = DataParallel()
    rows = np.arange(24 * 5).reshape(24, 5)
    placed = parallel.place_batch(rows[parallel.own_rows(24)])
    np.testing.assert_array_equal(placed, rows)
    assert {shard.data.shape for shard in placed.addressable_shards} == {(3, 5)}


def test_filler_is_more_than_a_device_holds():
    # What makes the comparisons above hard: devices whose rows are all filler.
    plan = plan_batches(np.full(101, 7), (8,), 16, (0, 0))
    assert [int((planned.indices == FILLER).sum()) for planned in plan if FILLER in planned.indices] == [11]
