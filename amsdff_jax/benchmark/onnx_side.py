"""The benchmark's ONNX Runtime side, `python -m amsdff_jax.benchmark.onnx_side TASK.json RESULTS.json`.

Inference on the processor: the model as `amsdff export --format=onnx` writes it, in float32, or in int8 as
`--int8` quantizes all its dense layers.
"""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from amsdff_jax.base.memory import peak_memory
from amsdff_jax.benchmark.workload import (
    INFERENCES_A_STEP,
    KINDS,
    Workload,
    make_batch,
    run_worker,
    time_calls,
)
from amsdff_jax.export.int8 import write_int8
from amsdff_jax.models.model_folder import SavedModel, load_model, read_model_config


def measure(workload: Workload) -> dict[str, Any]:
    """Times of inference by shape; the first call loads the graph and optimizes it."""
    graph = Path(workload.scratch) / f"{workload.dtype}.onnx"
    if not graph.exists():
        # In a process of its own, whose memory does not count.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            process.submit(write_graph, Path(workload.model), graph, workload.dtype).result()
    shapes = {f"{shape[0]}x{shape[1]}": _measure_shape(workload, graph, shape) for shape in workload.shapes}
    return {"shapes": shapes, "peak_memory": peak_memory()}


def _measure_shape(workload: Workload, graph: Path, shape: tuple[int, int]) -> dict[str, Any]:
    config = read_model_config(workload.model)
    ids, mask, _ = make_batch(shape, config.encoder.vocab_size, config.model.num_classes)
    feeds = {"input_ids": ids.astype(np.int64), "attention_mask": mask.astype(np.int64)}
    logits: Any = None

    def make_inference() -> Callable[[], None]:
        session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])

        def infer() -> None:
            nonlocal logits
            (logits,) = session.run(["logits"], feeds)

        return infer

    inference = time_calls(make_inference, INFERENCES_A_STEP * workload.steps)
    return {KINDS[0]: inference, "logits": logits.tolist()}


def write_graph(model: Path, graph: Path, dtype: str) -> None:
    """Exports a model folder to the file `graph`, in float32 or int8.

    Raises:
      UserError: a model that cannot be exported to ONNX.
    """
    from amsdff_jax.export.onnx_graph import GRAPH, write_onnx  # loads PyTorch, which measuring does not need

    config = read_model_config(model)
    loaded = load_model(model, compute_dtype="float32", attention="xla")
    folder = graph.with_suffix(".folder")
    folder.mkdir()
    write_onnx(SavedModel(loaded, None, config.class_names, config.max_length), folder)
    if dtype == "int8":
        write_int8(folder / GRAPH, graph)
    else:
        (folder / GRAPH).rename(graph)


if __name__ == "__main__":
    run_worker(measure)
