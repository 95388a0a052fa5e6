"""A damaged checkpoint is recognised and named, and the one before it is used."""

import json
import logging
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from amsdff_jax import UserError
from amsdff_jax.base import files
from amsdff_jax.models.variables import Variables
from amsdff_jax.parallel.data_parallel import AXIS, DataParallel
from amsdff_jax.training import checkpoint
from amsdff_jax.training.checkpoint import Checkpoints, check_path
from amsdff_jax.training.step import TrainState


def make_state(step: int) -> TrainState:
    values = jax.random.normal(jax.random.key(step), (5, 700))
    state = TrainState(jnp.int32(step), Variables({"a": values}, {}, {"b": values[:, 3]}), {"m": values * 2})
    return jax.device_put(state, jax.devices()[0])


@pytest.fixture
def checkpoints(tmp_path):
    saved = Checkpoints(tmp_path)
    for step in (3, 5, 8):
        saved.save(make_state(step), {"best": step * 10})
    return saved


def largest_file(folder):
    return max((file for file in folder.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)


def cut_short(folder):
    file = largest_file(folder)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def emptied(folder):
    shutil.rmtree(folder)
    folder.mkdir()


def without_its_largest_file(folder):
    largest_file(folder).unlink()


def details_cut_short(folder):
    file = folder.with_suffix(".json")
    file.write_text(file.read_text()[:20])


def other_progress(folder):
    file = folder.with_suffix(".json")
    details = json.loads(file.read_text())
    file.write_text(json.dumps(details | {"progress": {"best": 81}}))


def another_checksum(folder):
    file = folder.with_suffix(".json")
    details = json.loads(file.read_text())
    file.write_text(json.dumps(details | {"checksum": details["checksum"] ^ 1}))


DAMAGES = [cut_short, emptied, without_its_largest_file, details_cut_short, another_checksum]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_passed_over(damage, checkpoints, tmp_path, caplog):
    damage(tmp_path / "latest" / "8")
    with caplog.at_level(logging.WARNING):
        state, progress = Checkpoints(tmp_path).restore(make_state(0))
    jax.tree.map(np.testing.assert_array_equal, state, make_state(5))
    assert progress == {"best": 50}
    assert f"{tmp_path}/latest/8: this checkpoint" in caplog.text
    assert "resuming from step 5" in caplog.text


@pytest.mark.parametrize("rows", [2, 8])
def test_a_state_of_other_sizes_does_not_fit(rows, checkpoints, tmp_path):
    parts = NamedSharding(DataParallel(devices=jax.devices()[:2]).mesh, PartitionSpec(AXIS))
    like = make_state(0)._replace(optimizer_state={"m": jax.device_put(np.ones((rows, 700), np.float32), parts)})
    with pytest.raises(UserError, match=rf"shape \(5, 700\), expected \({rows}, 700\)"):
        Checkpoints(tmp_path).restore(like)


def test_nothing_is_made_up_when_all_are_damaged(checkpoints, tmp_path):
    cut_short(tmp_path / "latest" / "8")
    details_cut_short(tmp_path / "latest" / "5")
    with pytest.raises(
        UserError, match=r"latest/8: this checkpoint .*latest/5: this checkpoint .*no checkpoint is left"
    ):
        Checkpoints(tmp_path).restore(make_state(0))


def test_two_are_kept_and_no_more(checkpoints, tmp_path):
    assert sorted(path.name for path in (tmp_path / "latest").iterdir()) == ["5", "5.json", "8", "8.json"]


def test_a_run_that_goes_on_from_an_older_step_forgets_the_later_ones(checkpoints, tmp_path):
    checkpoints.delete_checkpoints_after(5)
    assert checkpoints.latest_step() == 5
    checkpoints.save(make_state(6), {"best": 60})
    assert Checkpoints(tmp_path).restore(make_state(0)).progress == {"best": 60}


def test_what_a_killed_process_left_goes_and_no_checkpoint_does(checkpoints, tmp_path):
    for folder in (tmp_path / "latest", tmp_path / "best"):
        (folder / "9.orbax-checkpoint-tmp" / "default").mkdir(parents=True)
    checkpoints.remove_unfinished()
    assert not list(tmp_path.rglob("*tmp*"))
    assert Checkpoints(tmp_path).restore(make_state(0)).progress == {"best": 80}


def test_a_history_of_thousands_of_evaluations_is_read(tmp_path):
    saved, history = Checkpoints(tmp_path), ["x" * 100] * 200_000
    saved.save(make_state(3), {"history": history})
    assert (tmp_path / "latest" / "3.json").stat().st_size > files.LARGEST_FILE
    assert Checkpoints(tmp_path).restore(make_state(0)).progress == {"history": history}


def test_a_checkpoint_of_an_earlier_version_is_read(tmp_path):
    shutil.copytree(Path(__file__).parents[1] / "reference" / "checkpoint", tmp_path, dirs_exist_ok=True)
    values = jnp.arange(6, dtype=jnp.float32).reshape(2, 3)
    variables = Variables({"a": values}, {}, {"b": values[:, 1]})
    saved = jax.device_put(TrainState(jnp.int32(3), variables, {"m": values * 2}), jax.devices()[0])
    state, progress = Checkpoints(tmp_path).restore(jax.tree.map(jnp.zeros_like, saved))
    jax.tree.map(np.testing.assert_array_equal, state, saved)
    assert progress == {"best": 30}


@pytest.mark.parametrize("name", ["run[v2]", "[!x]{a,b}", "a**b", "?*%20#h", "~", "né\n", "x:"])
def test_a_folder_may_have_any_name(name, tmp_path):
    check_path(tmp_path / name)
    saved = Checkpoints(tmp_path / name / "checkpoints")
    for step in (1, 2):
        saved.save(make_state(step), {})
    restored = Checkpoints(tmp_path / name / "checkpoints").restore(make_state(0)).state
    jax.tree.map(np.testing.assert_array_equal, restored, make_state(2))


@pytest.mark.parametrize("name", ["/gs/run", "/home/settings:/run", "/home/s3:", "/home/run\udcff"])
def test_a_path_that_holds_no_checkpoints_is_refused(name):
    with pytest.raises(UserError, match="use another --workdir"):
        check_path(Path(name))


def test_what_cannot_be_read_back_is_told_after_the_first_checkpoint(tmp_path, monkeypatch):
    # So orbax merges nothing of what it writes, and says nothing.
    monkeypatch.setattr(checkpoint._Folder, "glob", lambda self, pattern: iter(()))
    saved = Checkpoints(tmp_path)
    for save in (lambda: saved.save(make_state(3), {}), lambda: saved.save_best(3, make_state(3).variables)):
        with pytest.raises(UserError, match=r"/3: this checkpoint cannot be read .* was only just written"):
            save()
    assert saved.latest_step() is None
