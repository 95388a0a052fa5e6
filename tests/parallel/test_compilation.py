"""Steps are compiled before they are needed, once a length."""

import logging
import os
import re
import subprocess
import sys
import textwrap
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amsdff_jax.data.batches import Batch
from amsdff_jax.parallel import compilation
from amsdff_jax.parallel.compilation import StepByLength, keep_compiled_steps
from tests.processes import ROOT


def make_batch(length):
    return Batch(np.ones((2, length), np.int32), np.ones((2, length), np.int32), np.zeros(2, np.int32))


@pytest.fixture
def traced():
    return []


@pytest.fixture
def step(traced):
    def count(state, batch):
        traced.append(batch.input_ids.shape[-1])
        return state + batch.input_ids.sum()

    return StepByLength(jax.jit(count), "training")


def test_lengths_are_compiled_once_and_ahead(step, traced, caplog):
    caplog.set_level(logging.INFO)
    step.compile({length: (1.0, make_batch(length)) for length in (5, 8)})
    assert sorted(traced) == [5, 8]
    assert re.search(r"training: compiled for texts of 5, 8 tokens in .* takes up to \d+ MB of memory", caplog.text)
    step.compile({8: (1.0, make_batch(8))})
    assert [float(step(1.0, make_batch(length))) for length in (8, 5, 8)] == [17.0, 11.0, 17.0]
    assert sorted(traced) == [5, 8]
    assert "not compiled" not in caplog.text


def test_work_begins_with_the_first_length_and_the_others_follow_beside_it(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)  # so one length at a time
    traced, may_trace_8 = [], threading.Event()

    def count(state, batch):
        length = batch.input_ids.shape[-1]
        traced.append(length)
        if length == 8:
            may_trace_8.wait()
        return state + batch.input_ids.sum()

    step = StepByLength(jax.jit(count, donate_argnums=0), "training")
    state = jnp.float32(1)
    with step.compiling({length: (state, make_batch(length)) for length in (5, 8, 3, 9)}):
        state = step(state, make_batch(5))  # donates the state that the others are compiled for
        assert 3 not in traced
        may_trace_8.set()
        assert [float(step(jnp.float32(1), make_batch(length))) for length in (3, 8)] == [7.0, 17.0]
        assert float(step(state, make_batch(9))) == 29.0
    assert traced == [5, 8, 3, 9]
    assert len(re.findall("compiled for texts of 3, 5, 8, 9 tokens", caplog.text)) == 1
    assert "not compiled" not in caplog.text


def test_what_is_no_longer_needed_is_not_compiled(monkeypatch, caplog):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    traced, tracing_8, may_trace_8 = [], threading.Event(), threading.Event()

    def count(state, batch):
        length = batch.input_ids.shape[-1]
        traced.append(length)
        if length == 8:
            tracing_8.set()
            may_trace_8.wait()
        return state + batch.input_ids.sum()

    step = StepByLength(jax.jit(count), "training")
    with step.compiling({length: (1.0, make_batch(length)) for length in (5, 8, 3)}):
        tracing_8.wait()
    may_trace_8.set()
    step.compile({8: (1.0, make_batch(8))})
    assert traced == [5, 8]
    step.compile({3: (1.0, make_batch(3))})
    assert float(step(1.0, make_batch(3))) == 7.0
    assert traced == [5, 8, 3]
    assert "not compiled" not in caplog.text


def test_a_compilation_that_fails_says_so_where_its_length_is_needed():
    def count(state, batch):
        if batch.input_ids.shape[-1] == 8:
            raise FloatingPointError("of 8")
        return state + batch.input_ids.sum()

    step = StepByLength(jax.jit(count), "training")
    with step.compiling({length: (1.0, make_batch(length)) for length in (5, 8)}):
        assert float(step(1.0, make_batch(5))) == 11.0
        with pytest.raises(FloatingPointError, match="of 8"):
            step(1.0, make_batch(8))


def test_a_later_compilation_is_told(step, traced, caplog):
    step.compile({5: (1.0, make_batch(5))})
    assert float(step(1.0, make_batch(3))) == 7.0
    assert "texts of 3 tokens were not compiled ahead of time" in caplog.text


def test_a_run_compiles_nothing_after_its_first_step(tiny_trainer, caplog):
    caplog.set_level(logging.INFO)
    trainer = tiny_trainer(data__num_buckets=2, train__epochs=2)
    trainer.train()
    assert caplog.text.count("training: compiled for texts of") == 1
    assert "not compiled ahead of time" not in caplog.text


@pytest.fixture
def told_no_folder(monkeypatch):
    """JAX as in a process of a user, who has told it no cache folder; what a test makes of that is undone."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: jax.config.values[name] for name in names}
    monkeypatch.setattr(compilation, "_executables", None)
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_a_cache_that_cannot_be_made_is_told_once(told_no_folder, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AMSDFF_CACHE", str(tmp_path / "file"))
    keep_compiled_steps()
    assert jax.config.jax_compilation_cache_dir is None
    assert caplog.text.count("file/compiled: compiled steps cannot be kept there (Not a directory)") == 1


def test_devices_and_hosts_can_be_chosen_after_it(tmp_path):
    code = """
        import jax
        from amsdff_jax.parallel import compilation
        compilation.keep_compiled_steps()
        assert compilation._executables is not None
        jax.config.update("jax_num_cpu_devices", 3)
        assert len(jax.devices("cpu")) == 3
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    environment |= {"PYTHONPATH": str(ROOT), "AMSDFF_CACHE": str(tmp_path), "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], env=environment, check=True)


@pytest.fixture
def full_folder(tmp_path, monkeypatch):
    """30 bytes in three entries, where 25 are allowed."""
    folder = tmp_path / "compiled"
    folder.mkdir()
    for age, name in enumerate(("newest", "middle", "oldest")):
        (folder / f"{name}-cache").write_bytes(b"x" * 10)
        os.utime(folder / f"{name}-cache", (1000 - age,) * 2)
    monkeypatch.setenv("AMSDFF_CACHE", str(tmp_path))
    monkeypatch.setattr(compilation, "LARGEST_CACHE", 25)
    return folder


def test_what_is_kept_between_processes_stays_within_a_limit(told_no_folder, full_folder):
    keep_compiled_steps()
    assert jax.config.jax_compilation_cache_dir == str(full_folder)
    assert {file.name for file in full_folder.iterdir()} == {"newest-cache", "middle-cache"}


def test_a_folder_that_the_user_told_jax_is_left_alone(full_folder):
    keep_compiled_steps()
    assert len(list(full_folder.iterdir())) == 3
    assert compilation._executables is None
