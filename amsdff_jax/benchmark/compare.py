"""Runs both sides of the benchmark in turn, each in fresh processes, and compares what they took."""

import collections
import dataclasses
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from amsdff_jax.base.cache import VARIABLE as CACHE_VARIABLE
from amsdff_jax.base.errors import UserError
from amsdff_jax.base.files import read_json, write_json
from amsdff_jax.benchmark.workload import Workload
from amsdff_jax.config import EncoderConfig, ModelConfig
from amsdff_jax.data.tokenization import load_tokenizer
from amsdff_jax.interop.hub import find_encoder
from amsdff_jax.models.amsdff import EnhancedAMSDFF
from amsdff_jax.models.model_folder import SavedModel, read_model_config, save_model
from amsdff_jax.reporting.console import make_console
from amsdff_jax.reporting.table import Column, Table, columns, to_rich

logger = logging.getLogger(__name__)

DTYPES = ("float32", "bfloat16")
SIDES = ("jax", "torch")
# The largest difference of logits that is rounding: in float32 between the sides, in bfloat16 to PyTorch's float32.
TOLERANCES = {"float32": 1e-4, "bfloat16": 0.1}
# Both sides take memory in large pages: without them the kernel makes XLA's temporary arrays in pages of 4 KiB.
ENVIRONMENT = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
CLASSES = 4


def require_torch() -> None:
    """Raises `UserError` unless PyTorch is installed."""
    if find_spec("torch") is None:
        raise UserError("PyTorch is what this measures against, and it is not installed: pip install torch")


def prepare_model(preset: str, folder: Path) -> None:
    """Writes a model of the preset's size with four classes and a random head: what both sides load.

    Args:
      preset: "minilm": on all-MiniLM-L6-v2; "distilbert": DistilBERT's sizes with random weights.
    """
    if preset == "minilm":
        model = EnhancedAMSDFF.from_pretrained("minilm-l6", CLASSES)
    else:
        model = EnhancedAMSDFF(ModelConfig(encoder="", num_classes=CLASSES), EncoderConfig(), rngs=nnx.Rngs(0))
    names = tuple(str(number) for number in range(CLASSES))
    save_model(folder, SavedModel(model, load_tokenizer(find_encoder("minilm-l6")), names, 256))


def compare(
    model: Path,
    shapes: Sequence[tuple[int, int]],
    rounds: int,
    steps: int,
    epoch_config: Mapping[str, Any] | None,
    epoch_texts: int,
) -> dict[str, Any]:
    """Measures both sides on the same weights and batches.

    Args:
      model: a model folder.
      shapes: (texts, tokens) of the batches.
      rounds: how often every process is run, but for the epoch padded to the maximal length, which is run once; what
        is compared are medians.
      steps: timed calls a round.
      epoch_config: a `Config` as a dict whose data make the end-to-end row; None: leave it out.
      epoch_texts: texts of that epoch.

    Returns:
      `results`: by "side dtype", the median of every number by shape; `epochs`, by name; `differences`: the largest
      difference of logits by "dtype shape"; `agree`: whether all are within `TOLERANCES`.

    Raises:
      UserError: PyTorch is not installed; the system tells no process its memory; or a process failed, whose last line
        says why.
    """
    require_torch()
    if find_spec("resource") is None:  # Windows
        raise UserError(
            "Python's module resource tells the memory that this takes, and Windows has none: use Linux or macOS"
        )
    read_model_config(model)
    measured = collections.defaultdict(list)
    epochs = collections.defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="amsdff-benchmark-") as folder:
        for number in range(rounds):
            for dtype in DTYPES:
                for side in SIDES:
                    workload = Workload(str(model), dtype, tuple(shapes), steps)
                    measured[f"{side} {dtype}"].append(_run(side, workload, Path(folder)))
            logger.info("round %d of %d is done", number + 1, rounds)
        if epoch_config:
            dtype = "bfloat16"
            task = Workload(str(model), dtype, epoch_config=dict(epoch_config), epoch_texts=epoch_texts)
            padded = dataclasses.replace(task, padded=True)
            _run("jax", task, Path(folder))  # fills the caches, as the run before would have
            for _ in range(rounds):
                epochs["jax"].append(_run("jax", task, Path(folder))["epoch"])
                epochs["torch, padded as needed"].append(_run("torch", task, Path(folder))["epoch"])
            epochs["torch, padded to max_length"].append(_run("torch", padded, Path(folder))["epoch"])
    differences = _differences({name: runs[0]["shapes"] for name, runs in measured.items()})
    return {
        "results": {name: _medians(runs) for name, runs in measured.items()},
        "epochs": {
            name: {key: statistics.median(run[key] for run in runs) for key in runs[0]} for name, runs in epochs.items()
        },
        "differences": differences,
        "agree": all(value <= TOLERANCES[name.split()[0]] for name, value in differences.items()),
    }


def _run(side: str, workload: Workload, folder: Path) -> dict[str, Any]:
    task, results = folder / "task.json", folder / "results.json"
    results.unlink(missing_ok=True)
    environment = os.environ | ENVIRONMENT | {CACHE_VARIABLE: str(folder / "cache")}
    workload = dataclasses.replace(workload, started=time.time())
    write_json(task, dataclasses.asdict(workload))
    command = [sys.executable, "-m", f"amsdff_jax.benchmark.{side}_side", str(task), str(results)]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace")
    if finished.returncode or not results.exists():
        last = (finished.stderr.strip().splitlines() or [f"exit code {finished.returncode}"])[-1]
        raise UserError(f"the benchmark's {side} process failed: {last}")
    return read_json(results, "what the benchmark has measured")


def _medians(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of every number but the times of compilation, which takes longer in the first run, without a cache."""
    summary: dict[str, Any] = {"peak_memory_bytes": statistics.median(run["peak_memory_bytes"] for run in runs)}
    if "matrix_rate" in runs[0]:  # measured on the JAX side
        summary["matrix_rate"] = statistics.median(run["matrix_rate"] for run in runs)
    for shape, first in runs[0]["shapes"].items():
        numbers = [name for name in first if name not in ("logits", "compile")]
        summary[shape] = {name: statistics.median(run["shapes"][shape][name] for run in runs) for name in numbers}
        if "compile" in first:
            summary[shape]["compile"] = first["compile"]
            cached = [run["shapes"][shape]["compile"] for run in runs[1:]]
            summary[shape]["compile_cached"] = statistics.median(cached) if cached else None
    return summary


def _differences(shapes: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    exact = {shape: np.array(values["logits"]) for shape, values in shapes["torch float32"].items()}
    return {
        f"{dtype} {shape}": float(np.abs(np.array(values["logits"]) - exact[shape]).max())
        for dtype in DTYPES
        for shape, values in shapes[f"jax {dtype}"].items()
    }


def print_comparison(comparison: Mapping[str, Any]) -> None:
    """Prints the tables: steps, compilation, epochs."""
    console = make_console(width=130)
    results = comparison["results"]
    rates = {dtype: results[f"jax {dtype}"]["matrix_rate"] for dtype in DTYPES}
    console.print(", ".join(f"matrix products in {dtype}: {rate / 1e9:.0f} GF/s" for dtype, rate in rates.items()))
    shapes = [name for name in results["jax float32"] if "x" in name and name[0].isdigit()]
    for what, work in (("inference", 1), ("train", 3)):
        ratios_to = ("times torch float32", "times torch bfloat16")
        numbers = columns("side", "ms", "texts/s", "tokens/s", *ratios_to, "share of matrix rate", "peak MB")
        rows = []
        for shape in shapes:
            texts, tokens = map(int, shape.split("x"))
            operations = work * results["jax float32"][shape]["matrix_operations"]
            for name, values in results.items():
                seconds = values[shape][what]
                ratios = (f"{results[f'torch {dtype}'][shape][what] / seconds:.2f}" for dtype in DTYPES)
                # A train step is compared with float32's rate, whatever it computes with.
                rate = rates["float32" if what == "train" else name.split()[1]]
                speeds = (f"{seconds * 1e3:.0f}", f"{texts / seconds:.1f}", f"{texts * tokens / seconds:.0f}")
                share, memory = operations / seconds / rate, values["peak_memory_bytes"] / 1e6
                rows.append((shape, name, *speeds, *ratios, f"{share:.0%}", f"{memory:.0f}"))
        console.print(to_rich(Table([Column("shape", "text"), *numbers], rows, what)))
    numbers = columns("dtype", "compiled in s", "from the cache in s", "temporary MB")
    rows = []
    for shape in shapes:
        for dtype in DTYPES:
            values = results[f"jax {dtype}"][shape]
            cached = "" if values["compile_cached"] is None else f"{values['compile_cached']:.1f}"
            memory = f"{values['train_memory_bytes'] / 1e6:.0f}"
            rows.append((shape, dtype, f"{values['compile']:.1f}", cached, memory))
    console.print(to_rich(Table([Column("shape", "text"), *numbers], rows, "the train step")))
    if comparison["epochs"]:
        titles = columns("side", "texts", "seconds", "times as long as jax", "start to first step in s")
        rows = []
        for name, values in comparison["epochs"].items():
            ratio = values["seconds"] / comparison["epochs"]["jax"]["seconds"]
            first = f"{values['start_to_first_step']:.1f}" if "start_to_first_step" in values else ""
            rows.append((name, f"{values['texts']:.0f}", f"{values['seconds']:.1f}", f"{ratio:.2f}", first))
        console.print(to_rich(Table(titles, rows, "one epoch in bfloat16, from files to updated weights")))
    worst = {name: f"{value:.1e}" for name, value in comparison["differences"].items()}
    console.print(f"largest difference of logits to torch float32: {worst}")
