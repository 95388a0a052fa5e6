"""What a CUDA GPU computes: `make test-gpu`, or `python3 -m pytest -m gpu -n0 tests/gpu`. No network, no PyTorch.

`make test` runs those that are not slow on the CPU, so that they work when a GPU is at hand.
"""

import dataclasses
import json
import os
import subprocess
import sys

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from amsdff_jax import Classifier
from amsdff_jax.config import EncoderConfig, ModelConfig
from amsdff_jax.export.stablehlo import PROGRAM, WEIGHTS, write_stablehlo
from amsdff_jax.models.attention import attend
from amsdff_jax.models.dispatch import fits_cudnn
from amsdff_jax.models.dropout import Dropout
from amsdff_jax.models.model_folder import SavedModel
from amsdff_jax.models.registry import MODELS
from tests.compiled import call
from tests.conftest import TINY_HEAD
from tests.test_parity import (
    expected,  # noqa: F401  (a fixture)
    first_gradients,
    reference_gradients,
    reference_model,
    weights,  # noqa: F401  (a fixture)
)

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("gpu")]

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
DETERMINISTIC = "--xla_gpu_deterministic_ops=true --xla_gpu_autotune_level=0"
# Type of the products, their precision, and how far logits may be from PyTorch's in float32, as a share of the largest,
# and gradients, as a share of their norm: TensorFloat-32 has 10 bits behind the point, bfloat16 has 7.
PRECISIONS = [
    ("float32", "highest", 5e-5, 5e-5), ("float32", "default", 1e-2, 5e-2), ("bfloat16", "default", 5e-2, 0.3)
]  # fmt: skip


def share(actual, reference):
    """The largest difference, as a share of the largest number."""
    return np.abs(np.asarray(actual, np.float32) - reference).max() / np.abs(reference).max()


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "precision", "near", "near_gradients"), PRECISIONS)
def test_logits_and_gradients_equal_pytorch(dtype, precision, near, near_gradients, expected, weights):  # noqa: F811
    with jax.default_matmul_precision(precision):
        model = reference_model(weights, compute_dtype=dtype)
        logits = call(model, expected["input_ids"], expected["attention_mask"]).logits
        gradients = first_gradients(reference_model(weights, dropout=False, compute_dtype=dtype), expected)
    assert share(logits, expected["eval.logits"]) <= near
    reference = reference_gradients()
    # All together: a single matrix may be little but what large products leave when they cancel. On a CPU in bfloat16
    # it is 0.15, for a maximum over tokens may go to another one, which then gets the gradient.
    difference, norm = (
        np.sqrt(sum(np.square(part).sum() for part in parts))
        for parts in ([gradients[name] - value for name, value in reference.items()], reference.values())
    )
    assert difference <= near_gradients * norm


@pytest.mark.parametrize("length", [2, 10, 11, 64])
def test_fused_attention_equals_that_of_xla(length, gpu):
    random = np.random.default_rng(length)
    texts, heads, features = 3, 2, 16
    query, key, value, cotangent = (
        jnp.asarray(random.normal(size=(texts, length, heads, features)), jnp.bfloat16) for _ in range(4)
    )
    mask = jnp.asarray(np.arange(length) < np.array([[length], [1], [0]]))  # the last text is filler
    dropout = Dropout(0.0)

    def context(implementation):
        def weighed(query, key, value):
            attended = attend(query, key, value, mask[:, None, None], dropout, None, implementation)
            kept = attended.astype(jnp.float32) * mask.any(axis=1)[:, None, None]
            return (kept * cotangent.reshape(attended.shape).astype(jnp.float32)).sum(), attended

        compiled = jax.jit(jax.value_and_grad(weighed, argnums=(0, 1, 2), has_aux=True)).lower(query, key, value)
        compiled = compiled.compile()
        (_, attended), gradients = compiled(query, key, value)
        return attended, gradients, compiled.as_text()

    attended, gradients, _ = context("xla")
    fused, fused_gradients, program = context("cudnn" if gpu.platform == "gpu" else "xla")
    assert fits_cudnn(query.dtype, length, features, has_dropout=False) == (length % 2 == 0)
    if gpu.platform == "gpu":
        assert ("fmha" in program) == (length % 2 == 0)
    assert np.isfinite(np.asarray(fused, np.float32)).all()
    assert share(fused[:2], np.asarray(attended[:2], np.float32)) <= 0.03
    for actual, reference in zip(fused_gradients, gradients, strict=True):
        assert np.isfinite(np.asarray(actual, np.float32)).all()
        assert share(actual, np.asarray(reference, np.float32)) <= 0.03


def measure(*arguments, xla_flags=""):
    environment = os.environ | {"XLA_FLAGS": f"{os.environ['XLA_FLAGS']} {xla_flags}".strip(), "PYTHONPATH": ROOT}
    environment |= {"JAX_ENABLE_COMPILATION_CACHE": "false"}
    result = subprocess.run(
        [sys.executable, "-m", "tests.gpu.worker", *map(str, arguments)],
        cwd=ROOT, env=environment, text=True, capture_output=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.slow
def test_twenty_steps_stopped_and_resumed_are_bitwise_those_of_a_run(tiny_config, tmp_path, capsys):
    settings = tiny_config.replace(model__name="amsdff", model__num_classes=2, train__trackers="", **{
        f"model__{name}": value for name, value in TINY_HEAD.items()
    })  # fmt: skip
    file = tmp_path / "config.json"
    file.write_text(json.dumps(dataclasses.asdict(settings)))
    whole = measure("steps", file, tmp_path / "whole", 20, xla_flags=DETERMINISTIC)
    resumed = measure("steps", file, tmp_path / "resumed", 7, 20, xla_flags=DETERMINISTIC)
    assert resumed["digest"] == whole["digest"]
    assert resumed["loss"] == whole["loss"]
    free = measure("steps", file, tmp_path / "free", 20)
    np.testing.assert_allclose(free["loss"], whole["loss"], rtol=0.05)
    with capsys.disabled():
        print(f"\n20 steps, compiled too: {whole['seconds']:.1f} s deterministic, {free['seconds']:.1f} s otherwise")


def test_both_modes_make_the_same_steps(gpu, tiny_trainer, tmp_path):
    losses = []
    for mode in ("sharded", "pmap"):
        trainer = tiny_trainer(
            tmp_path / mode, [gpu], parallel__mode=mode, train__trackers="", model__compute_dtype="float32"
        )
        trainer.train(max_steps=9)
        losses.append(trainer.history[-1]["train"]["loss"])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-3)


def test_a_prediction_is_what_the_evaluation_counted(gpu, tiny_trainer, tiny_data):
    trainer = tiny_trainer(devices=[gpu], train__trackers="")
    trainer.train()
    evaluation = trainer.run_evaluation(tiny_data.test)
    classifier = Classifier.from_pretrained(trainer.workdir / "model", devices=[gpu])
    predicted = [prediction.label for prediction in classifier.predict(list(tiny_data.test.texts))]
    assert predicted == [trainer.class_names[number] for number in evaluation.predictions]


@pytest.mark.slow
def test_a_step_takes_the_memory_that_it_announces(capsys):
    measured = measure("memory")
    announced, allocated = measured["announced"], measured["allocated"]
    if allocated is None:
        pytest.skip("the device does not say what it has allocated")
    with capsys.disabled():
        print(f"\ntemporary arrays: {announced / 1e6:.1f} MB announced, {allocated / 1e6:.1f} MB allocated")
    # cuDNN and cuBLAS take workspaces of their own.
    assert announced / 2 <= allocated <= 1.25 * announced + 64e6


def test_an_exported_model_runs(gpu, tmp_path):
    sizes = EncoderConfig(vocab_size=31, max_position_embeddings=16, dim=24, n_layers=1, n_heads=3, hidden_dim=20)
    settings = ModelConfig(num_classes=3, num_attention_heads=3, compute_dtype="float32")
    model = MODELS["amsdff"](settings, sizes, rngs=nnx.Rngs(0), platform="cpu")
    write_stablehlo(SavedModel(model, None, ("a", "b", "c"), 16), tmp_path)
    exported = jax.export.deserialize((tmp_path / PROGRAM).read_bytes())
    assert "cuda" in exported.platforms
    with np.load(tmp_path / WEIGHTS) as stored:
        parameters = jax.device_put(dict(stored), gpu)
    ids = np.random.default_rng(0).integers(1, 31, (5, 13)).astype(np.int32)
    mask = (np.arange(13) < np.array([[13], [1], [7], [12], [2]])).astype(np.int32)
    logits = jax.jit(exported.call)(parameters, *jax.device_put((ids, mask), gpu))
    assert logits.devices() == {gpu}
    with jax.default_matmul_precision("highest"):
        assert share(logits, np.asarray(call(model, ids, mask).logits)) <= 1e-2
