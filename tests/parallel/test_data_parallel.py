"""Any number of devices, in both modes, gives the numbers of one device."""

import json
import shutil

import jax
import numpy as np
import pytest

from amsdff_jax import UserError
from amsdff_jax.benchmark.reproducibility import compare, train_steps
from amsdff_jax.data.batches import FILLER, plan_batches
from amsdff_jax.parallel.data_parallel import DataParallel
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
    for mode, devices in (("sharded", 8), ("pmap", 2), ("pmap", 8)):
        folder = tmp_path / f"{mode}-{devices}"
        assert_near(reference, trajectory(without_dropout, tiny_data, folder, devices, parallel__mode=mode))


@pytest.mark.slow
def test_dropout_masks_do_not_depend_on_the_devices(config, tiny_data, tmp_path):
    pieces = {"train__accumulation_steps": 2, "loss__contrastive": 0.3}
    reference = trajectory(config, tiny_data, tmp_path / "reference", 1, **pieces)
    for mode in ("sharded", "pmap"):
        assert_near(reference, trajectory(config, tiny_data, tmp_path / mode, 8, **pieces, parallel__mode=mode))


def test_every_text_is_evaluated_once_on_eight_devices(tiny_trainer, tiny_data, tmp_path):
    one = tiny_trainer(tmp_path / "one").run_evaluation(tiny_data.test)
    eight = tiny_trainer(tmp_path / "eight", jax.devices(), train__batch_size=16).run_evaluation(tiny_data.test)
    assert eight.logits.shape == (43, 2)
    np.testing.assert_allclose(eight.logits, one.logits, atol=1e-5)
    np.testing.assert_array_equal(eight.labels, tiny_data.test.labels)


def test_checkpoints_move_between_device_counts(tiny_trainer, tmp_path):
    one, eight = jax.devices()[:1], jax.devices()
    tiny_trainer(tmp_path, one, train__batch_size=8).train(max_steps=2)
    for step, devices in ((2, eight), (4, one)):
        resumed = tiny_trainer(tmp_path, devices, train__batch_size=8)
        saved = Checkpoints(tmp_path / "checkpoints").restore(resumed.state).state
        resumed.train(max_steps=step)
        assert {len(array.sharding.device_set) for array in jax.tree.leaves(resumed.state)} == {len(devices)}
        jax.tree.map(np.testing.assert_array_equal, jax.device_get(saved), jax.device_get(resumed.state))
        resumed.train(max_steps=step + 2)


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
