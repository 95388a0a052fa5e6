"""What a test measures in a process of its own, because of XLA's flags or the peak of memory.

python -m tests.gpu.worker steps CONFIG.json FOLDER STOP...
python -m tests.gpu.worker memory
"""

import hashlib
import json
import sys
import time
from pathlib import Path

import jax
import numpy as np
from flax import nnx

from amsdff_jax.benchmark.reproducibility import train_steps
from amsdff_jax.cli.config_file import read_settings
from amsdff_jax.config import Config, EncoderConfig
from amsdff_jax.data.batches import Batch
from amsdff_jax.data.sources import load_data
from amsdff_jax.models.registry import MODELS
from amsdff_jax.models.state_dict import parameter_names
from amsdff_jax.parallel.compilation import temporary_bytes
from amsdff_jax.training.optimizer import peak_learning_rates
from amsdff_jax.training.step import initial_state, make_train_step, split_model


def steps(config_file: str, folder: str, *stops: str) -> dict:
    """A digest of all that a run has after its last stop, its losses, and the time of it all."""
    config = read_settings(Path(config_file))
    start = time.perf_counter()
    run = train_steps(config, load_data(config.data), Path(folder), list(map(int, stops)), jax.devices()[:1])
    digest = hashlib.blake2b()
    for array in jax.tree.leaves(run.state):
        digest.update(np.asarray(array).tobytes())
    return {"digest": digest.hexdigest(), "loss": run.loss.tolist(), "seconds": time.perf_counter() - start}


def memory() -> dict:
    """The bytes of temporary arrays that a train step announces, and those that its device has allocated for it."""
    sizes = EncoderConfig(vocab_size=1000, max_position_embeddings=128, dim=192, n_layers=3, n_heads=3, hidden_dim=768)
    config = Config().replace(model={"num_classes": 4, "name": "linear"})
    model = MODELS["linear"](config.model, sizes, rngs=nnx.Rngs(0))
    rates = peak_learning_rates(parameter_names(model), config.train)
    graphs, variables = split_model(model, rates)
    state, optimizer = initial_state(variables, rates, config, total_steps=10)
    tokens = np.ones((64, 128), np.int32)
    batch = jax.device_put(Batch(tokens, tokens, np.zeros(64, np.int32)))
    step = jax.jit(make_train_step(graphs.train, config, optimizer, np.ones(4, np.float32)), donate_argnums=0)
    arguments = jax.block_until_ready((state, batch, jax.random.key(0)))
    compiled = step.lower(*arguments).compile()
    device = jax.devices()[0]
    before = device.memory_stats()
    jax.block_until_ready(compiled(*arguments))
    after = device.memory_stats()
    allocated = after["peak_bytes_in_use"] - before["bytes_in_use"] if before and after else None
    return {"announced": temporary_bytes(compiled), "allocated": allocated}


if __name__ == "__main__":
    print(json.dumps({"steps": steps, "memory": memory}[sys.argv[1]](*sys.argv[2:])))
