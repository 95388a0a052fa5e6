"""The benchmark's JAX side, `python -m amsdff_jax.benchmark.jax_side TASK.json RESULTS.json`."""

import tempfile
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from amsdff_jax.benchmark.workload import LEARNING_RATE, Workload, make_batch, median_seconds, run_worker
from amsdff_jax.config import Config
from amsdff_jax.data.batches import Batch
from amsdff_jax.data.sources import load_data
from amsdff_jax.evaluation.inference import make_forward
from amsdff_jax.models.model_folder import load_model
from amsdff_jax.models.pretrained import PretrainedClassifier
from amsdff_jax.models.state_dict import MATRIX_LEAVES, parameter_names
from amsdff_jax.models.variables import make_inference_variables
from amsdff_jax.parallel.compilation import keep_compiled_steps, temporary_bytes
from amsdff_jax.training.optimizer import peak_learning_rates
from amsdff_jax.training.step import initial_state, make_train_step, split_model
from amsdff_jax.training.trainer import Trainer

PRODUCT = (2048, 384, 1536)  # [2048,384] x [384,1536], whose rate stands for the machine's


def measure(workload: Workload) -> dict[str, Any]:
    """Times of the train step, inference and compilation by shape, the machine's rate, and the epoch."""
    keep_compiled_steps()
    if workload.epoch_config:
        return {"epoch": _measure_epoch(workload)}
    shapes = {f"{texts}x{tokens}": _measure_shape(workload, (texts, tokens)) for texts, tokens in workload.shapes}
    return {"shapes": shapes, "matrix_rate": _matrix_rate(workload.dtype)}


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


def _measure_shape(workload: Workload, shape: tuple[int, int]) -> dict[str, Any]:
    model = load_model(workload.model, compute_dtype=workload.dtype)
    config = Config().replace(train__encoder_learning_rate=LEARNING_RATE, train__head_learning_rate=LEARNING_RATE)
    classes = model.config.num_classes
    batch = jax.device_put(Batch(*make_batch(shape, model.encoder_config.vocab_size, classes)))
    rates = peak_learning_rates(parameter_names(model), config.train)
    graphs, variables = split_model(model, rates)
    state, optimizer = initial_state(variables, rates, config, total_steps=1000)
    key = jax.random.key(0)

    start = time.perf_counter()
    step = jax.jit(make_train_step(graphs.train, config, optimizer, np.ones(classes, np.float32)), donate_argnums=0)
    train_step = step.lower(state, batch, key).compile()
    compile_seconds = time.perf_counter() - start
    variables = jax.jit(make_inference_variables(graphs.eval))(variables)
    forward = jax.jit(make_forward(graphs.eval)).lower(variables, batch).compile()
    logits = forward(variables, batch)
    inference = median_seconds(lambda: forward(variables, batch).block_until_ready(), 3 * workload.steps)

    def update() -> None:
        nonlocal state
        state, _ = train_step(state, batch, key)
        jax.block_until_ready(state)

    return {
        "train": median_seconds(update, workload.steps),
        "inference": inference,
        "compile": compile_seconds,
        "train_memory_bytes": temporary_bytes(train_step),
        "matrix_operations": matrix_operations(model, shape),
        "logits": np.asarray(logits).tolist(),
    }


def _matrix_rate(dtype: str) -> float:
    """Floating-point operations a second of one matrix product, with the result in float32."""
    tokens, inner, outer = PRODUCT
    left, right = jnp.ones((tokens, inner), dtype), jnp.ones((inner, outer), dtype)
    product = jax.jit(lambda left, right: jnp.dot(left, right, preferred_element_type=jnp.float32))
    return 2 * tokens * inner * outer / median_seconds(lambda: product(left, right).block_until_ready(), 30)


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
    )
    data = load_data(config.data, config.seed)
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
