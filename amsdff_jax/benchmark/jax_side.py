"""The benchmark's JAX side, `python -m amsdff_jax.benchmark.jax_side TASK.json RESULTS.json`."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from amsdff_jax.base.memory import peak_memory
from amsdff_jax.benchmark.presets import write_preset
from amsdff_jax.benchmark.workload import (
    INFERENCES_A_STEP,
    KINDS,
    LEARNING_RATE,
    PRODUCTS_A_CALL,
    Workload,
    make_batch,
    matrix_rate,
    run_worker,
    time_calls,
)
from amsdff_jax.config import Config
from amsdff_jax.data.batches import Batch
from amsdff_jax.data.sources import load_data
from amsdff_jax.evaluation.environment import device_name
from amsdff_jax.evaluation.inference import make_forward
from amsdff_jax.models.model_folder import load_model
from amsdff_jax.models.pretrained import PretrainedClassifier
from amsdff_jax.models.state_dict import MATRIX_LEAVES, parameter_names
from amsdff_jax.models.variables import make_inference_variables
from amsdff_jax.parallel.compilation import keep_compiled_steps
from amsdff_jax.training.optimizer import peak_learning_rates
from amsdff_jax.training.step import initial_state, make_train_step, split_model
from amsdff_jax.training.trainer import Trainer


def measure(workload: Workload) -> dict[str, Any]:
    """The device, or times of train step and inference by shape, or of the epoch, as `workload` asks."""
    device = jax.devices()[0]
    if not workload.platform:
        if workload.preset:
            write_preset(workload.preset, Path(workload.model), workload.epoch_config)
        return {"device": device_name(device), "platform": device.platform}
    keep_compiled_steps()
    if device.platform != "cpu":  # JAX's default for float32 is TF32 on NVIDIA's GPUs, bfloat16 on TPUs
        precision = {"float32": "highest", "tf32": "default"}.get(workload.dtype)
        jax.config.update("jax_default_matmul_precision", precision)
    if workload.epoch_config:
        return {"epoch": _measure_epoch(workload)}
    shapes = {f"{shape[0]}x{shape[1]}": _measure_shape(workload, shape) for shape in workload.shapes}
    device_memory = device.memory_stats() or {}  # a processor has none
    return {
        "shapes": shapes,
        "peak_memory": device_memory.get("peak_bytes_in_use") or peak_memory(),
        "matrix_rate": _matrix_rate(_compute_dtype(workload), device.platform),
    }


def matrix_operations(model: PretrainedClassifier, shape: tuple[int, int]) -> float:
    """Floating-point operations of the matrix products of a forward pass; those on whole texts count once a text."""
    texts, tokens = shape
    operations = 0.0
    for path, value in nnx.to_flat_state(nnx.state(model, nnx.Param)):
        if path[-1] in MATRIX_LEAVES and value.ndim == 2 and not {"embeddings", "depthwise_kernel"} & set(path):
            per_text = {"pooling_fusion", "classifier", "gate"} & set(path)
            operations += 2 * value.size * texts * (1 if per_text else tokens)
    self_attentions = model.encoder_config.n_layers + (model.name == "amsdff")
    return operations + self_attentions * 4 * texts * tokens**2 * model.encoder_config.dim


def _compute_dtype(workload: Workload) -> str:
    return "float32" if workload.dtype == "tf32" else workload.dtype


def _measure_shape(workload: Workload, shape: tuple[int, int]) -> dict[str, Any]:
    model = load_model(workload.model, compute_dtype=_compute_dtype(workload))
    config = Config().replace(train__encoder_learning_rate=LEARNING_RATE, train__head_learning_rate=LEARNING_RATE)
    classes = model.config.num_classes
    batch = jax.device_put(Batch(*make_batch(shape, model.encoder_config.vocab_size, classes)))
    rates = peak_learning_rates(parameter_names(model), config.train)
    graphs, variables = split_model(model, rates)
    rounded = jax.jit(make_inference_variables(graphs.eval))(variables)
    state, optimizer = initial_state(variables, rates, config, total_steps=1000)
    key = jax.random.key(0)

    logits: Any = None

    def make_inference() -> Callable[[], None]:
        forward = jax.jit(make_forward(graphs.eval))

        def infer() -> None:
            nonlocal logits
            logits = jax.block_until_ready(forward(rounded, batch))

        return infer

    def make_update() -> Callable[[], None]:
        step = make_train_step(graphs.train, config, optimizer, np.ones(classes, np.float32))
        train_step = jax.jit(step, donate_argnums=0)

        def update() -> None:
            nonlocal state
            state, _ = train_step(state, batch, key)
            jax.block_until_ready(state)

        return update

    inference = time_calls(make_inference, INFERENCES_A_STEP * workload.steps)
    train = time_calls(make_update, workload.steps)
    return {
        **dict(zip(KINDS, (inference, train), strict=True)),
        "matrix_operations": matrix_operations(model, shape),
        "logits": np.asarray(logits).tolist(),
    }


def _matrix_rate(dtype: str, platform: str) -> float:
    """That of the faster of a result in float32 and in `dtype`."""

    def rate(result: str) -> float:
        def make(sizes: tuple[int, int, int]) -> Callable[[], Any]:
            m, k, n = sizes
            # Random, because a GPU that multiplies zeros or ones takes less power, and runs faster.
            left, right = (jax.random.normal(jax.random.key(0), shape, dtype) for shape in ((m, k), (k, n)))
            product = jax.jit(lambda left, right: jnp.dot(left, right, preferred_element_type=result))
            return lambda: jax.block_until_ready([product(left, right) for _ in range(PRODUCTS_A_CALL)])

        return matrix_rate(platform, make)

    return max(map(rate, {"float32", dtype}))


def _measure_epoch(workload: Workload) -> dict[str, float]:
    start = time.perf_counter()
    # Of two epochs the first, so that neither an evaluation nor the end of a run follows on it.
    never = 10**9
    config = Config.from_dict(workload.epoch_config).replace(
        model__compute_dtype=workload.dtype,
        train__epochs=2,
        train__max_steps=0,
        train__evaluate_every=never,
        train__checkpoint_every=never,
        train__trackers="",
    )
    data = load_data(config.data, config.seed, config.task.kind)
    data.train.require_single("amsdff benchmark")
    train = data.train.take(np.arange(min(workload.epoch_texts, len(data.train))), "epoch")
    steps_done: list[float] = []

    def note_time() -> bool:
        steps_done.append(time.time())
        return False

    model = load_model(workload.model, compute_dtype=workload.dtype)
    with tempfile.TemporaryDirectory(prefix="amsdff-benchmark-") as workdir:
        trainer = Trainer(model, config, train, data.validation, workdir)
        trainer.train(max_steps=trainer.steps_per_epoch, should_stop=note_time)
    # The loop asks after it has sent the second step on its way and read the numbers of the first.
    first_step = steps_done[min(1, len(steps_done) - 1)] - workload.started
    return {"seconds": time.perf_counter() - start, "texts": len(train), "start_to_first_step": first_step}


if __name__ == "__main__":
    run_worker(measure)
