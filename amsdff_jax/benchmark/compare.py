"""Runs all sides of the benchmark in turn, each in fresh processes, and gathers what they took."""

import collections
import dataclasses
import logging
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from amsdff_jax.base.cache import VARIABLE as CACHE_VARIABLE
from amsdff_jax.base.errors import UserError
from amsdff_jax.base.files import read_json, user_errors, write_json
from amsdff_jax.base.validation import require_choice
from amsdff_jax.benchmark.workload import KINDS, OURS, Workload
from amsdff_jax.evaluation.environment import installed_versions
from amsdff_jax.models.model_folder import read_model_config

logger = logging.getLogger(__name__)

PYTORCH = ("torch-eager", "torch-sdpa", "torch-compile")
ONNX = "onnxruntime"
RIVALS = (*PYTORCH, ONNX)
DTYPES = ("float32", "tf32", "bfloat16")
# The largest difference of a rival's logits to ours, computed in the same type, that is rounding.
TOLERANCES = {"float32": 1e-4, "tf32": 0.1, "bfloat16": 0.1}
# All sides take memory in large pages: without them the kernel makes XLA's temporary arrays in pages of 4 KiB.
ENVIRONMENT = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
PACKAGES = ("jax", "jaxlib", "flax", "torch", "transformers", "onnxruntime", "numpy")
Runs = Mapping[tuple[str, str], Sequence[Mapping[str, Any]]]  # what each process measured, by (side, type)
# The load at the start, in processes that want to run, as a share of the cores: above it the machine is busy.
BUSY = 0.25
EPOCH_DTYPE, EPOCH_RIVAL = "bfloat16", "torch-sdpa"


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is to be measured. What is empty or 0 is chosen by the device."""

    preset: str = "minilm"  # one of `presets.PRESETS`
    model: str = ""  # a model folder, instead of a preset
    shapes: tuple[tuple[int, int], ...] = ()  # (texts, tokens) of the batches
    dtypes: tuple[str, ...] = ()  # of `DTYPES`; int8 of ONNX Runtime comes beside them
    rivals: tuple[str, ...] = RIVALS  # of `RIVALS`
    rounds: int = 3  # how often every side is run, in turn with the others
    steps: int = 0  # timed train steps a round
    epoch_config: dict[str, Any] = dataclasses.field(default_factory=dict)  # a `Config` whose data make an epoch
    epoch_texts: int = 10_000  # at most so many texts of it

    def __post_init__(self) -> None:
        for name in self.dtypes:
            require_choice("--dtypes", name, DTYPES)
        for name in self.rivals:
            require_choice("--rivals", name, RIVALS)

    def complete(self, on: str) -> "Plan":
        """The plan for a platform, as `jax.Device.platform` names it.

        Raises:
          UserError: a type that the platform has not.
        """
        cpu = on == "cpu"
        dtypes = self.dtypes or (DTYPES if on == "gpu" else ("float32", "bfloat16"))
        if "tf32" in dtypes and on != "gpu":
            raise UserError(f"--dtypes: tf32 is a type of NVIDIA's GPUs, and this is a {on}; leave it out")
        shapes = self.shapes or (((32, 64), (16, 256)) if cpu else ((32, 128), (256, 128), (32, 512)))
        return dataclasses.replace(self, dtypes=dtypes, shapes=shapes, steps=self.steps or (5 if cpu else 20))


def compare(plan: Plan) -> dict[str, Any]:
    """Measures all sides on the same weights and batches.

    Returns:
      `environment`: device, cores, load, versions; `plan`, without paths; `results`: for each side, type, kind of call
      and shape, the `median` and the `quartiles` of all timed calls in seconds, the seconds of the `first_call`,
      compilation included, and of that of later rounds, with what is kept between processes (`first_call_cached`), or
      why it `failed`; `missing`: sides that could not be run, and why; `stopped`: whether a signal came before all had
      run; `matrix_rate` by side and type; `matrix_operations` of a forward pass by shape; `peak_memory` in bytes by
      side and type; `epochs` by name; `differences`: a rival's largest difference of logits to ours, by side and type;
      `agree`: whether all are within `TOLERANCES`.

    Raises:
      UserError: the system tells no process its memory, or our own side failed, whose last line says why.
      KeyboardInterrupt: a signal came before our own side was measured.
    """
    if find_spec("resource") is None:  # Windows
        raise UserError(
            "Python's module resource tells the memory that this takes, and Windows has none: use Linux or macOS"
        )
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="amsdff-benchmark-") as scratch:
        task = Workload(plan.model or f"{scratch}/model", scratch=scratch, epoch_config=plan.epoch_config)
        device = _run(dataclasses.replace(task, preset="" if plan.model else plan.preset))
        plan = plan.complete(device["platform"])
        positions = read_model_config(task.model).encoder.max_tokens
        if too_long := [f"{texts}x{tokens}" for texts, tokens in plan.shapes if tokens > positions]:
            raise UserError(
                f"--shapes: {too_long[0]}: the model has {positions} positions; expected at most so many tokens"
            )
        task = dataclasses.replace(
            task, platform=device["platform"], epoch_config={}, shapes=plan.shapes, steps=plan.steps
        )
        sides, missing = _sides(plan, task.platform)
        measured, epochs, stopped = collections.defaultdict(list), collections.defaultdict(list), False
        try:
            _run_all(sides, plan.rounds, task, measured, missing)
            if plan.epoch_config:
                _run_epochs(plan, task, epochs, missing)
        except KeyboardInterrupt:
            if not any(side == OURS for side, _ in measured):
                raise
            stopped = True
            missing |= {f"{side} {dtype}": "stopped" for side, dtype in sides if (side, dtype) not in measured}
            logger.warning("stopped: what has been measured is kept")
    runs: Runs = {key: measured[key] for key in sides if key in measured}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    versions = {"python": platform.python_version(), **installed_versions(PACKAGES)}
    ours = {dtype: repeated for (side, dtype), repeated in runs.items() if side == OURS}
    first = next(iter(ours.values()))[0]["shapes"]
    differences = _differences(runs)
    return {
        "environment": {**device, "cores": cores, "load": load, "busy": load > BUSY * cores, "versions": versions},
        "plan": _without_paths(plan),
        "results": [row for key, repeated in runs.items() for row in _rows(*key, repeated)],
        "missing": missing,
        "stopped": stopped,
        "matrix_rate": {
            " ".join(key): _median(repeated, "matrix_rate")
            for key, repeated in runs.items()
            if "matrix_rate" in repeated[0]  # ONNX Runtime multiplies within models only
        },
        "matrix_operations": {shape: values["matrix_operations"] for shape, values in first.items()},
        "peak_memory": {" ".join(key): _median(repeated, "peak_memory") for key, repeated in runs.items()},
        "epochs": {name: {key: _median(runs, key) for key in runs[0]} for name, runs in epochs.items()},
        "differences": differences,
        "agree": all(value <= TOLERANCES.get(name.split()[1], np.inf) for name, value in differences.items()),
    }


def read_shapes(names: Iterable[str]) -> tuple[tuple[int, int], ...]:
    """(texts, tokens) of batches such as "32x64".

    Raises:
      UserError: another name.
    """
    for name in names:
        if not re.fullmatch(r"[1-9]\d*x[1-9]\d*", name):
            raise UserError(f"--shapes: expected batches such as 32x64,16x256, got {name}")
    return tuple((int(texts), int(tokens)) for texts, tokens in (name.split("x") for name in names))


def check_writable(file: Path) -> None:
    """Raises `UserError` if nothing can be written to `file`; what is there stays."""
    with user_errors(file, "written", "choose another file with --output"):
        if file.is_dir():
            raise OSError("it is a folder")
        file.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=file.parent).close()


def _without_paths(plan: Plan) -> dict[str, Any]:
    """The plan as it can be shown to others."""
    values = dataclasses.asdict(plan)
    for name in ("preset", "epoch_config"):
        del values[name]
    return values | {"model": Path(plan.model).name or plan.preset}


def _run_all(
    sides: Sequence[tuple[str, str]], rounds: int, task: Workload, runs: dict[Any, list], missing: dict[str, str]
) -> None:
    """Adds to `runs` what the processes of each (side, type) measure, round by round; to `missing` why one could not.

    Raises:
      KeyboardInterrupt: a signal came; what has been measured is there.
    """
    for number in range(rounds):
        for side, dtype in sides:
            measured = _try(dataclasses.replace(task, side=side, dtype=dtype), f"{side} {dtype}", missing)
            if measured:
                runs[side, dtype].append(measured)
                logger.info("round %d of %d: %s, %s", number + 1, rounds, side, dtype)


def _sides(plan: Plan, on: str) -> tuple[list[tuple[str, str]], dict[str, str]]:
    """The (side, type) that can be run, and why the others cannot."""
    sides, missing = [(OURS, dtype) for dtype in plan.dtypes], {}
    for name in plan.rivals:
        needed = ("torch", "onnx", "onnxscript", "onnxruntime") if name == ONNX else ("torch",)
        absent = [package for package in needed if find_spec(package) is None]
        if on not in (("cpu",) if name == ONNX else ("cpu", "gpu")):
            missing[name] = f"not compared on a {on}"
        elif absent:
            missing[name] = f"not installed: {', '.join(absent)}; pip install {' '.join(absent)}"
        elif name == ONNX:
            sides += [(name, dtype) for dtype in ("float32", "int8") if dtype in (*plan.dtypes, "int8")]
        else:
            sides += [(name, dtype) for dtype in plan.dtypes]
    return sides, missing


def _run_epochs(plan: Plan, task: Workload, epochs: dict[str, list[dict[str, float]]], missing: dict[str, str]) -> None:
    """Adds epochs of our side and, unless it is missing, of PyTorch's, padded as needed and to the end, by name."""
    task = dataclasses.replace(task, epoch_config=plan.epoch_config, epoch_texts=plan.epoch_texts, dtype=EPOCH_DTYPE)
    rival = dataclasses.replace(task, side=EPOCH_RIVAL)
    sides = {OURS: task}
    if EPOCH_RIVAL in plan.rivals and EPOCH_RIVAL not in missing:
        sides[f"{EPOCH_RIVAL}, padded as needed"] = rival
        sides[f"{EPOCH_RIVAL}, padded to max_length"] = dataclasses.replace(rival, padded=True)
    elif EPOCH_RIVAL not in plan.rivals:
        missing[f"{EPOCH_RIVAL} epoch"] = "not among --rivals"
    _run(task)  # fills the caches, as the run before would have
    for number in range(plan.rounds):
        for name, side in sides.items():
            if side.padded and number:  # it takes the longest by far, and once is enough
                continue
            measured = _try(side, f"{EPOCH_RIVAL} epoch", missing)
            if measured:
                epochs[name].append(measured["epoch"])


def _try(workload: Workload, name: str, missing: dict[str, str]) -> dict[str, Any] | None:
    """What a process measures; None if the rival `name` is missing, or has failed just now and is from here on.

    Raises:
      UserError: our own side failed.
    """
    if name in missing and workload.side != OURS:
        return None
    try:
        return _run(workload)
    except UserError as error:
        if workload.side == OURS:
            raise
        missing[name] = str(error)
        logger.warning("left out: %s", error)
        return None


def _run(workload: Workload) -> dict[str, Any]:
    module = {OURS: "jax_side", ONNX: "onnx_side"}.get(workload.side, "torch_side")
    scratch = Path(workload.scratch)
    task, results = scratch / "task.json", scratch / "results.json"
    results.unlink(missing_ok=True)
    caches = {CACHE_VARIABLE: str(scratch / "cache"), "TORCHINDUCTOR_CACHE_DIR": str(scratch / "inductor")}
    write_json(task, dataclasses.asdict(dataclasses.replace(workload, started=time.time())))
    command = [sys.executable, "-m", f"amsdff_jax.benchmark.{module}", str(task), str(results)]
    finished = subprocess.run(
        command, env=os.environ | ENVIRONMENT | caches, capture_output=True, text=True, errors="replace"
    )
    if finished.returncode or not results.exists():
        last = (finished.stderr.strip().splitlines() or [f"exit code {finished.returncode}"])[-1]
        raise UserError(f"the benchmark's {workload.side} process failed: {last}")
    return read_json(results, "what the benchmark has measured")


def _median(runs: Sequence[Mapping[str, Any]], name: str) -> float:
    return statistics.median(run[name] for run in runs)


def _rows(side: str, dtype: str, runs: Sequence[Mapping[str, Any]]) -> Iterable[dict[str, Any]]:
    for shape in runs[0]["shapes"]:
        for kind in KINDS:
            timed = [run["shapes"][shape][kind] for run in runs if kind in run["shapes"][shape]]
            if not timed:  # ONNX Runtime does not train
                continue
            row: dict[str, Any] = {"side": side, "dtype": dtype, "kind": kind, "shape": shape}
            failed = [measured["failed"] for measured in timed if "failed" in measured]
            if failed:
                yield row | {"failed": failed[0]}
                continue
            seconds = [second for measured in timed for second in measured["seconds"]]
            first, *cached = [measured["first_call"] for measured in timed]
            yield row | {
                "median": statistics.median(seconds),
                "quartiles": np.percentile(seconds, (25, 75)).tolist(),
                "first_call": first,
                "first_call_cached": statistics.median(cached) if cached else None,
            }


def _differences(runs: Runs) -> dict[str, float]:
    """The largest difference of logits of each rival to ours in the same type, or for int8 in float32."""
    differences = {}
    for (side, dtype), (first, *_) in runs.items():
        ours = runs.get((OURS, "float32" if dtype == "int8" else dtype))
        if side == OURS or ours is None:
            continue
        pairs = [
            (values["logits"], ours[0]["shapes"][shape]["logits"])
            for shape, values in first["shapes"].items()
            if "logits" in values
        ]
        if pairs:
            # A NaN is null in JSON and None here, which only an array of floats takes; np.max does not pass over it.
            gaps = [np.abs(np.asarray(theirs, float) - np.asarray(own, float)).max() for theirs, own in pairs]
            differences[f"{side} {dtype}"] = float(np.max(gaps))
    return differences
