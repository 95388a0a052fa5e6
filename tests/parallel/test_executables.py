"""Executables of earlier processes take the place of tracing, but never that of another function."""

import hashlib
import logging
import os
import pickle
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from amsdff_jax.data.batches import Batch
from amsdff_jax.data.tokenization import load_tokenizer
from amsdff_jax.models.amsdff import EnhancedAMSDFF
from amsdff_jax.models.layers import Linear
from amsdff_jax.models.model_folder import SavedModel, load_model, save_model
from amsdff_jax.models.variables import graph_identity
from amsdff_jax.parallel import compilation
from amsdff_jax.parallel.compilation import StepByLength
from amsdff_jax.parallel.data_parallel import DataParallel
from amsdff_jax.parallel.executables import DIGEST_SIZE, SUFFIX, ExecutableCache, executable_key, program_key
from amsdff_jax.training.step import step_identity

pytestmark = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="files have no owner here")


def make_batch(length):
    return Batch(np.ones((2, length), np.int32), np.ones((2, length), np.int32), np.zeros(2, np.int32))


def make_arguments():
    return {"state": jnp.arange(3.0)}, make_batch(5)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    cache = ExecutableCache(tmp_path / "executables")
    monkeypatch.setattr(compilation, "_executables", cache)
    return cache


@pytest.fixture
def tiny_model(tiny_config, tiny_encoder):
    return EnhancedAMSDFF.from_pretrained(str(tiny_encoder), num_classes=2, kernel_sizes=(1, 3, 5))


@pytest.fixture
def entry(cache, tmp_path):
    """The file that the one function that is kept is found by, and a way to run it as a new process would."""
    number = time.time() % 1  # JAX's own cache, which tests share, must not know the function

    def run(identity="count"):
        """The result for a batch of 5 tokens, and whether the function was traced."""
        traced = []

        def count(state, batch):
            traced.append(batch.input_ids.shape[-1])
            return jax.tree.map(lambda x: x / 3 + number * batch.input_ids.sum(), state)

        step = StepByLength(jax.jit(count, donate_argnums=0), "training", identity)
        arguments = make_arguments()
        step.compile({5: arguments})
        return np.asarray(step(*arguments)["state"]), bool(traced)

    _, was_traced = run()
    assert was_traced
    arguments = jax.tree.map(compilation._abstract, make_arguments())
    return tmp_path / "executables" / f"{executable_key('count', arguments, jax.devices()[:1])}{SUFFIX}", run


def test_it_gives_the_same_bits_without_tracing(entry, caplog):
    file, run = entry
    caplog.set_level(logging.INFO)
    loaded, was_traced = run()
    assert not was_traced
    assert "training: loaded for texts of 5 tokens" in caplog.text
    file.unlink()
    compiled, was_traced = run()
    assert was_traced
    np.testing.assert_array_equal(loaded, compiled)


def test_other_code_that_lowers_to_the_same_program_is_not_compiled_again(entry, caplog):
    file, run = entry
    caplog.set_level(logging.INFO)
    first, _ = run()
    caplog.clear()
    again, was_traced = run("count, from another version of the package")
    assert was_traced
    assert "training: loaded for texts of 5 tokens" in caplog.text
    np.testing.assert_array_equal(first, again)
    assert len({other.stat().st_ino for other in file.parent.iterdir()}) == 1
    assert not run("count, from another version of the package")[1]


def test_programs_are_told_apart_by_what_they_compute_and_how_results_are_called():
    functions = [lambda x: {"a": x + 1}, lambda x: {"a": x + 1}, lambda x: {"a": x + 2}, lambda x: {"b": x + 1}]
    arguments, devices = (jnp.arange(3.0),), jax.devices()[:1]
    first, same, *others = (program_key(jax.jit(f).lower(*arguments), arguments, devices) for f in functions)
    assert first == same
    assert len({first, *others}) == 3


def test_what_jax_loads_from_its_own_cache_is_not_kept(cache, tmp_path):
    number = time.time() % 1
    before = jax.config.values["jax_persistent_cache_min_compile_time_secs"]
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    try:
        arguments = (jnp.arange(5.0),)
        for name in ("first", "second"):
            function = jax.jit(lambda x: jnp.sin(x).sum() * number)  # which is compiled once for both
            cache.load_or_compile(name, arguments, lambda function=function: function.lower(*arguments))
            kept = list((tmp_path / "executables").iterdir())
            assert bool(kept) == (name == "first")
            for file in kept:
                file.unlink()
    finally:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", before)


def test_it_is_nobody_elses_to_write(entry):
    file, _ = entry
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_a_function_without_identity_is_not_kept(entry):
    file, run = entry
    before = set(file.parent.iterdir())
    assert run(None)[1]
    assert set(file.parent.iterdir()) == before


def truncate(file):
    file.write_bytes(file.read_bytes()[:-1])


def flip_a_bit(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def put_another_pickle(file):
    content = pickle.dumps("something else")
    file.write_bytes(hashlib.blake2b(content, digest_size=DIGEST_SIZE).digest() + content)


def let_others_write(file):
    file.chmod(0o622)


def link_elsewhere(file):
    other = file.parent.with_name("other")
    file.rename(other)
    file.symlink_to(other)


@pytest.mark.parametrize(
    "damage", [truncate, flip_a_bit, put_another_pickle, let_others_write, link_elsewhere, os.unlink]
)
def test_a_damaged_or_foreign_entry_is_compiled_again(entry, damage):
    file, run = entry
    damage(file)
    assert run()[1]


def test_nothing_is_unpickled_that_another_user_could_have_written(entry):
    class Bomb:
        def __reduce__(self):
            return (os.mkdir, (str(file.parent.with_name("exploded")),))

    file, run = entry
    content = pickle.dumps(Bomb())
    file.write_bytes(hashlib.blake2b(content, digest_size=DIGEST_SIZE).digest() + content)
    file.chmod(0o606)
    assert run()[1]
    assert not file.parent.with_name("exploded").exists()


@pytest.mark.skipif(os.name == "posix" and os.geteuid() != 0, reason="only root gives files away")
def test_an_entry_of_another_user_is_compiled_again(entry):
    file, run = entry
    os.chown(file, 12345, -1)
    assert run()[1]


def test_a_folder_that_others_may_write_to_is_refused(tmp_path):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o777)
    with pytest.raises(OSError, match="others than you may write there"):
        ExecutableCache(tmp_path / "shared")


def test_the_key_tells_apart_what_is_compiled_apart():
    batch, replicated = make_batch(5), DataParallel(devices=jax.devices()[:1]).replicate(jnp.float32(1))

    def key(identity, arguments, devices=1):
        return executable_key(identity, arguments, jax.devices()[:devices])

    keys = [
        key("count", (jnp.float32(1), batch)),
        key("other", (jnp.float32(1), batch)),
        key("count", (jnp.int32(1), batch)),
        key("count", (1.0, batch)),  # weakly typed
        key("count", (replicated, batch)),
        key("count", ({"state": jnp.float32(1)}, batch)),
        key("count", (jnp.float32(1), make_batch(6))),
        key("count", (jnp.float32(1), batch), devices=2),
    ]
    with jax.default_matmul_precision("highest"):
        keys.append(key("count", (jnp.float32(1), batch)))
    assert len(set(keys)) == len(keys)
    assert key("count", (jnp.float32(2), make_batch(5))) == keys[0]


def test_a_models_identity_tells_what_it_computes(tiny_model):
    graph = nnx.graphdef(tiny_model)
    identity = graph_identity(graph)
    assert identity and identity == graph_identity(nnx.graphdef(tiny_model))
    tiny_model.train()
    training = graph_identity(nnx.graphdef(tiny_model))
    tiny_model.pooling_strategy.pooling_fusion[2].rate += 0.1
    assert len({identity, training, graph_identity(nnx.graphdef(tiny_model))}) == 3


def test_a_saved_model_computes_what_the_trained_one_did(tiny_model, tiny_encoder, tmp_path):
    tiny_model.needs_data_init = False  # as training leaves it
    save_model(tmp_path / "model", SavedModel(tiny_model, load_tokenizer(str(tiny_encoder)), ("a", "b"), 24))
    saved = load_model(tmp_path / "model")
    assert graph_identity(nnx.graphdef(saved)) == graph_identity(nnx.graphdef(tiny_model))


def test_a_model_with_layers_of_its_own_has_no_identity(tiny_model, tiny_config):
    class Mine(Linear):
        pass

    tiny_model.classifier[0] = Mine(*tiny_model.classifier[0].kernel.shape, dtype=jnp.float32, rngs=nnx.Rngs(0))
    graph = nnx.graphdef(tiny_model)
    assert graph_identity(graph) is None
    assert step_identity(graph, tiny_config, {}, np.ones(2), 5) is None


def test_a_steps_identity_tells_what_an_update_depends_on(tiny_model, tiny_config):
    graph, rates, weights = nnx.graphdef(tiny_model), {"kernel": 1e-3}, np.ones(2, np.float32)
    identities = {
        step_identity(graph, tiny_config, rates, weights, 5),
        step_identity(graph, tiny_config.replace(train__gradient_clip=0.5), rates, weights, 5),
        step_identity(graph, tiny_config.replace(loss__label_smoothing=0.3), rates, weights, 5),
        step_identity(graph, tiny_config.replace(parallel__mode="pmap"), rates, weights, 5),
        step_identity(graph, tiny_config.replace(parallel__mode="fsdp"), rates, weights, 5),
        step_identity(graph, tiny_config, {"kernel": 2e-3}, weights, 5),
        step_identity(graph, tiny_config, rates, np.array([1, 2], np.float32), 5),
        step_identity(graph, tiny_config, rates, weights, 6),
    }
    assert len(identities) == 8
