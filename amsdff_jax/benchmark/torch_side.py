"""The benchmark's PyTorch sides, `python -m amsdff_jax.benchmark.torch_side TASK.json RESULTS.json`.

`torch-eager` has the attention that PyTorch programs write out, `torch-sdpa` its fused one, and `torch-compile` goes
through `torch.compile` beside that. All train with the fused AdamW; for inference in bfloat16 the dense layers and
convolutions are rounded once, and not at every call, as on the JAX side.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from amsdff_jax.base.memory import peak_memory
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
from amsdff_jax.conversion.torch_model import TorchClassifier
from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.data.sources import load_data
from amsdff_jax.data.tokenization import load_tokenizer

LONGEST_REASON = 200  # characters of what a failure says
ROUNDED = (nn.Linear, nn.Conv1d, nn.MultiheadAttention)


def measure(workload: Workload) -> dict[str, Any]:
    """Times of the train step and inference by shape, or of the epoch.

    Raises:
      RuntimeError: the platform is a GPU, and this PyTorch sees none.
    """
    if workload.platform == "gpu" and not torch.cuda.is_available():
        raise RuntimeError("this PyTorch sees no GPU; install one that is built for CUDA")
    torch.set_float32_matmul_precision("high" if workload.dtype == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = workload.dtype == "tf32"
    if workload.epoch_config:
        return {"epoch": _measure_epoch(workload)}
    shapes = {f"{shape[0]}x{shape[1]}": _measure_shape(workload, shape) for shape in workload.shapes}
    peak = torch.cuda.max_memory_allocated() if workload.platform == "gpu" else peak_memory()
    return {"shapes": shapes, "peak_memory": peak, "matrix_rate": matrix_rate(workload.platform, _products(workload))}


def _products(workload: Workload) -> Callable[[tuple[int, int, int]], Callable[[], None]]:
    def make(sizes: tuple[int, int, int]) -> Callable[[], None]:
        m, k, n = sizes
        dtype = torch.bfloat16 if workload.dtype == "bfloat16" else torch.float32
        left, right = (torch.randn(shape, device=_device(workload), dtype=dtype) for shape in ((m, k), (k, n)))

        def multiply() -> None:
            for _ in range(PRODUCTS_A_CALL):
                torch.mm(left, right)
            _wait(workload)

        return multiply

    return make


def _load(workload: Workload) -> TorchClassifier:
    model = TorchClassifier.from_pretrained(workload.model)
    model.base_model.set_attn_implementation("eager" if workload.side == "torch-eager" else "sdpa")
    return model.to(_device(workload))


def _measure_shape(workload: Workload, shape: tuple[int, int]) -> dict[str, Any]:
    model: Any = _load(workload)
    arrays = make_batch(shape, model.base_model.config.vocab_size, model.config.num_labels)
    ids, mask, labels = (torch.from_numpy(array).long().to(_device(workload)) for array in arrays)
    logits: Any = None

    def make_inference() -> Callable[[], None]:
        if workload.dtype == "bfloat16":
            for module in model.modules():
                if isinstance(module, ROUNDED):
                    module.bfloat16()
        forward = _maybe_compiled(workload, model)

        def infer() -> None:
            nonlocal logits
            with torch.inference_mode(), _precision(workload):
                logits = forward(ids, mask).logits
            _wait(workload)

        return infer

    def make_update() -> Callable[[], None]:
        # Into a model of its own, so that every shape begins with the same weights.
        trained = _load(workload).train()
        forward, optimizer = _maybe_compiled(workload, trained), _make_optimizer(trained)

        def update() -> None:
            _update(workload, forward, optimizer, ids, mask, labels)
            _wait(workload)

        return update

    measured: dict[str, Any] = {}
    calls = (INFERENCES_A_STEP * workload.steps, workload.steps)
    for kind, make, number in zip(KINDS, (make_inference, make_update), calls, strict=True):
        try:
            measured[kind] = time_calls(make, number)
        except Exception as error:  # of whatever compiler, or memory: the other kinds and shapes may still run
            lines = str(error).strip().splitlines() or [""]
            measured[kind] = {"failed": f"{type(error).__name__}: {lines[0]}"[:LONGEST_REASON]}
    if logits is not None:
        measured["logits"] = logits.float().tolist()
    return measured


def _maybe_compiled(workload: Workload, model: TorchClassifier) -> Callable[..., Any]:
    if workload.side != "torch-compile":
        return model
    torch.compiler.reset()  # so that each shape is compiled for itself
    return torch.compile(model, dynamic=False)


def _measure_epoch(workload: Workload) -> dict[str, float]:
    start = time.perf_counter()
    model = _load(workload).train()
    config = Config.from_dict(workload.epoch_config)
    data = load_data(config.data, config.seed, config.task.kind).train
    data.require_single("amsdff benchmark")
    data = data.take(np.arange(min(workload.epoch_texts, len(data))), "epoch")
    optimizer = _make_optimizer(model)
    for ids, mask, labels in _batches(data, workload, config):
        _update(workload, model, optimizer, *(array.to(_device(workload)) for array in (ids, mask, labels)))
    _wait(workload)
    return {"seconds": time.perf_counter() - start, "texts": len(data)}


def _batches(
    data: TextDataset, workload: Workload, config: Config
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Shuffled batches, padded to the maximal length or to the longest text of each."""
    tokenizer = load_tokenizer(workload.model)
    order = np.random.default_rng(0).permutation(len(data))
    size = config.train.batch_size
    for number in range(math.ceil(len(data) / size)):
        rows: list[int] = order[number * size : (number + 1) * size].tolist()
        tokens = tokenizer(
            [data.texts[row] for row in rows],
            truncation=True,
            max_length=config.data.max_length,
            padding="max_length" if workload.padded else "longest",
            return_tensors="pt",
        )
        yield tokens["input_ids"], tokens["attention_mask"], torch.from_numpy(data.labels[rows]).long()


def _make_optimizer(model: TorchClassifier) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, fused=True)


def _update(
    workload: Workload,
    forward: Callable[..., Any],
    optimizer: torch.optim.Optimizer,
    ids: torch.Tensor,
    mask: torch.Tensor,
    labels: torch.Tensor,
) -> None:
    optimizer.zero_grad()
    with _precision(workload):
        logits = forward(ids, mask).logits
    nn.functional.cross_entropy(logits.float(), labels).backward()
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()


def _device(workload: Workload) -> str:
    return "cuda" if workload.platform == "gpu" else "cpu"


def _precision(workload: Workload) -> contextlib.AbstractContextManager:
    return torch.autocast(_device(workload), torch.bfloat16, enabled=workload.dtype == "bfloat16")


def _wait(workload: Workload) -> None:
    if workload.platform == "gpu":
        torch.cuda.synchronize()


if __name__ == "__main__":
    run_worker(measure)
