"""The benchmark's PyTorch side, `python -m amsdff_jax.benchmark.torch_side TASK.json RESULTS.json`."""

import contextlib
import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from amsdff_jax.benchmark.workload import LEARNING_RATE, Workload, make_batch, median_seconds, run_worker
from amsdff_jax.config import Config
from amsdff_jax.conversion.torch_model import TorchClassifier
from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.data.sources import load_data
from amsdff_jax.data.tokenization import load_tokenizer


def measure(workload: Workload) -> dict[str, Any]:
    """Times of the train step and inference by shape, or of the epoch."""
    model = TorchClassifier.from_pretrained(workload.model)
    if workload.epoch_config:
        return {"epoch": _measure_epoch(workload, model)}
    return {"shapes": {f"{shape[0]}x{shape[1]}": _measure_shape(workload, model, shape) for shape in workload.shapes}}


def _measure_shape(workload: Workload, model: TorchClassifier, shape: tuple[int, int]) -> dict[str, Any]:
    vocab_size = model.transformer.config.vocab_size
    arrays = make_batch(shape, vocab_size, model.config.num_classes)
    ids, mask, labels = (torch.from_numpy(array).long() for array in arrays)
    model.eval()

    def infer() -> torch.Tensor:
        with torch.inference_mode(), _precision(workload.dtype):
            return model(ids, mask).logits

    logits = infer().float().tolist()
    inference = median_seconds(infer, 3 * workload.steps)
    # Into a model of its own, so that every shape begins with the same weights.
    trained = TorchClassifier.from_pretrained(workload.model).train()
    optimizer = torch.optim.AdamW(trained.parameters(), lr=LEARNING_RATE)
    train = median_seconds(lambda: _update(trained, optimizer, ids, mask, labels, workload.dtype), workload.steps)
    return {"train": train, "inference": inference, "logits": logits}


def _measure_epoch(workload: Workload, model: TorchClassifier) -> dict[str, float]:
    start = time.perf_counter()
    config = Config.from_dict(workload.epoch_config)
    data = load_data(config.data, config.seed).train
    data = data.take(np.arange(min(workload.epoch_texts, len(data))), "epoch")
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=LEARNING_RATE)
    for ids, mask, labels in _batches(data, workload, config):
        _update(model, optimizer, ids, mask, labels, workload.dtype)
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


def _update(
    model: TorchClassifier,
    optimizer: torch.optim.Optimizer,
    ids: torch.Tensor,
    mask: torch.Tensor,
    labels: torch.Tensor,
    dtype: str,
) -> None:
    optimizer.zero_grad()
    with _precision(dtype):
        logits = model(ids, mask).logits
    torch.nn.functional.cross_entropy(logits.float(), labels).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


def _precision(dtype: str) -> contextlib.AbstractContextManager:
    return torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16")


if __name__ == "__main__":
    run_worker(measure)
