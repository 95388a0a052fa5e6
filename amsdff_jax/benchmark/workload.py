"""What all sides of the benchmark compute, and how they tell what it took."""

import dataclasses
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from amsdff_jax.base.files import read_json, write_json

LEARNING_RATE = 5e-5
KINDS = ("inference", "train step")
INFERENCES_A_STEP = 3  # timed calls of inference for each timed train step
OURS = "amsdff-jax"
# [M,K] x [K,N] of the product whose rate stands for the device's: on a processor that of the minilm preset, elsewhere
# one that is large enough to keep all of the device busy.
PRODUCTS = {"cpu": (2048, 384, 1536)}
LARGE_PRODUCT = (8192, 8192, 8192)
PRODUCTS_A_CALL = 10  # sent one after the other, so that the wait for the last of them counts little
CALLS = 10


@dataclasses.dataclass(frozen=True)
class Workload:
    """One process's task."""

    model: str  # a model folder; all sides load the same weights from it
    side: str = OURS  # which of its module's sides the process is
    platform: str = ""  # what it computes on, as `jax.Device.platform` names it; "": what JAX finds
    dtype: str = "float32"  # bfloat16, which in PyTorch is autocast, tf32 (NVIDIA GPUs) or int8 (ONNX Runtime)
    shapes: tuple[tuple[int, int], ...] = ()  # (texts, tokens) of each batch
    scratch: str = ""  # a folder for what a side keeps from one round to the next
    steps: int = 5  # timed train steps of each shape; of inference `INFERENCES_A_STEP` times as many
    # `Config` of the epoch as a dict, empty to leave it out
    epoch_config: dict[str, Any] = dataclasses.field(default_factory=dict)
    epoch_texts: int = 0  # how many of the training texts it has
    # PyTorch only: pad every text of the epoch to the maximal length, and not to the longest of its batch
    padded: bool = False
    preset: str = ""  # JAX only: write a model of these sizes to the folder, and tell the device
    started: float = 0.0  # when the process was started, in seconds as `time.time()` gives them


def run_worker(measure: Callable[[Workload], dict[str, Any]]) -> None:
    """The main function of a side's process: reads the workload that the first argument names, writes to the second."""
    task, results = map(Path, sys.argv[1:])
    write_json(results, measure(Workload(**read_json(task, "a workload"))))


def make_batch(shape: tuple[int, int], vocab_size: int, num_classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Token ids [B,S], mask [B,S] and labels [B], all int32; texts of half to all of the length."""
    random = np.random.default_rng(0)
    texts, tokens = shape
    mask = (np.arange(tokens) < random.integers(tokens // 2, tokens + 1, (texts, 1))).astype(np.int32)
    ids = random.integers(1, vocab_size, shape).astype(np.int32) * mask
    return ids, mask, random.integers(0, num_classes, texts).astype(np.int32)


def time_calls(make: Callable[[], Callable[[], Any]], number: int) -> dict[str, Any]:
    """Times a function, each call of which waits for its result.

    Args:
      make: makes it. What has to be compiled is compiled then or by the first call.
      number: calls that are timed beside the first.

    Returns:
      `first_call`: seconds of `make` and the first call together; `seconds`: of each of the others.
    """
    start = time.perf_counter()
    call = make()
    call()
    first_call = time.perf_counter() - start
    seconds = []
    for _ in range(number):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return {"first_call": first_call, "seconds": seconds}


def matrix_rate(platform: str, make: Callable[[tuple[int, int, int]], Callable[[], Any]]) -> float:
    """Floating-point operations a second of matrix products.

    Args:
      platform: as `jax.Device.platform` names it.
      make: from the sizes M, K, N to a function that multiplies `PRODUCTS_A_CALL` times and waits for the last result.
    """
    m, k, n = PRODUCTS.get(platform, LARGE_PRODUCT)
    timed = time_calls(lambda: make((m, k, n)), CALLS)
    return 2 * m * k * n * PRODUCTS_A_CALL / statistics.median(timed["seconds"])
