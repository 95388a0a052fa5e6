"""Exports a model as ONNX, through its PyTorch twin."""

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import onnx
import torch
from torch import nn
from torch.export import Dim

from amsdff_jax.base.errors import UserError
from amsdff_jax.conversion.torch_model import load_arrays, make_twin
from amsdff_jax.interop.torch_architecture import MultiScaleAttention
from amsdff_jax.models.model_folder import SavedModel
from amsdff_jax.models.state_dict import to_state_dict

GRAPH = "model.onnx"
RECURRENT = ("lstm", "gru")


NOISY = ("torch.onnx", "onnx_ir", "onnxscript")


class _Logits(nn.Module):
    """A classifier of which only the logits come out."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids, attention_mask).logits


def write_onnx(saved: SavedModel, folder: Path) -> None:
    """Writes `model.onnx`, weights inside: `input_ids`, `attention_mask` [B,S] int64 -> `logits` [B,C] float32.

    In masked semantics batch and length are dynamic, in reference semantics the batch. BatchNorm is folded.

    Raises:
      UserError: a recurrent baseline in masked semantics, whose packed sequences torch.export does not take.
    """
    config = saved.model.config
    if config.name in RECURRENT and config.mask_padding:
        raise UserError(
            f"--format=onnx: a model {config.name!r} that does not see padding cannot be exported to ONNX; "
            "use --format=stablehlo or safetensors"
        )
    model = make_twin(config, saved.model.encoder_config).eval()
    load_arrays(model, to_state_dict(saved.model), "the model")
    for module in model.modules():
        if isinstance(module, MultiScaleAttention):
            module.fold_batch_norm()
    positions = saved.model.encoder_config.max_tokens
    length = min(7, positions) if config.mask_padding else saved.max_length
    # Two tensors, because torch.export takes the same one twice for a single input.
    input_ids, attention_mask = (torch.ones((2, length), dtype=torch.int64) for _ in range(2))
    batch, tokens = Dim("batch"), Dim("tokens", max=positions)
    dynamic = {0: batch, 1: tokens} if config.mask_padding else {0: batch}
    with _quiet():
        torch.onnx.export(
            _Logits(model),
            (input_ids, attention_mask),
            folder / GRAPH,
            input_names=["input_ids", "attention_mask"],
            output_names=["logits"],
            dynamic_shapes=(dynamic, dynamic),
            external_data=False,
            dynamo=True,
            verbose=False,
        )
    onnx.checker.check_model(folder / GRAPH)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps back what the exporter says of its own inner steps."""
    loggers = [logging.getLogger(name) for name in NOISY]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
