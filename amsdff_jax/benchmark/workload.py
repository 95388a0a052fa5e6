"""What both sides of the benchmark compute, and how they tell what it took."""

import dataclasses
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from amsdff_jax.base.files import read_json, write_json

WARM_UP = 1  # calls before the clock starts
LEARNING_RATE = 5e-5


@dataclasses.dataclass(frozen=True)
class Workload:
    """One process's task."""

    model: str  # a model folder; both sides load the same weights from it
    dtype: str  # float32 or bfloat16, which in PyTorch is autocast
    shapes: tuple[tuple[int, int], ...] = ()  # (texts, tokens) of each batch
    steps: int = 3  # timed calls of each kind and shape
    # `Config` of the epoch as a dict, empty to leave it out
    epoch_config: dict[str, Any] = dataclasses.field(default_factory=dict)
    epoch_texts: int = 0  # how many of the training texts it has
    # PyTorch only: pad every text of the epoch to the maximal length, and not to the longest of its batch
    padded: bool = False
    started: float = 0.0  # when the process was started, in seconds as `time.time()` gives them


def run_worker(measure: Callable[[Workload], dict[str, Any]]) -> None:
    """The main function of a side's process: reads the workload that the first argument names, writes to the second."""
    import resource  # which Windows has not

    task, results = map(Path, sys.argv[1:])
    measured = measure(Workload(**read_json(task, "a workload")))
    unit = 1 if sys.platform == "darwin" else 1024  # bytes, elsewhere KiB
    measured["peak_memory_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    write_json(results, measured)


def make_batch(shape: tuple[int, int], vocab_size: int, num_classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Token ids [B,S], mask [B,S] and labels [B], all int32; texts of half to all of the length."""
    random = np.random.default_rng(0)
    texts, tokens = shape
    mask = (np.arange(tokens) < random.integers(tokens // 2, tokens + 1, (texts, 1))).astype(np.int32)
    ids = random.integers(1, vocab_size, shape).astype(np.int32) * mask
    return ids, mask, random.integers(0, num_classes, texts).astype(np.int32)


def median_seconds(call: Callable[[], Any], number: int) -> float:
    """Of `number` calls, each of which waits for its result."""
    for _ in range(WARM_UP):
        call()
    seconds = []
    for _ in range(number):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)
