"""Exports a model as ONNX, through its PyTorch twin."""

import warnings
from pathlib import Path

import onnx
import torch
from torch import nn
from torch.export import Dim

from amsdff_jax.errors import UserError
from amsdff_jax.interop.model_folder import SavedModel
from amsdff_jax.interop.state_dict import to_state_dict
from amsdff_jax.interop.torch_architecture import MultiScaleAttention
from amsdff_jax.interop.torch_model import TORCH_MODELS, load_arrays

GRAPH = "model.onnx"
RECURRENT = ("lstm", "gru")


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
      UserError: a recurrent baseline, whose masked form ONNX has no operator for.
    """
    config = saved.model.config
    if config.name in RECURRENT:
        raise UserError(
            f"model.name: {config.name!r} cannot be exported to ONNX; use --format=stablehlo or safetensors"
        )
    model = TORCH_MODELS[config.name](config, saved.model.encoder_config).eval()
    load_arrays(model, to_state_dict(saved.model), "the model")
    for module in model.modules():
        if isinstance(module, MultiScaleAttention):
            module.fold_batch_norm()
    length = saved.max_length if not config.mask_padding else min(7, saved.model.encoder_config.max_position_embeddings)
    example = torch.ones((2, length), dtype=torch.int64)
    batch, tokens = Dim("batch"), Dim("tokens", max=saved.model.encoder_config.max_position_embeddings)
    dynamic = {0: batch, 1: tokens} if config.mask_padding else {0: batch}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Logits(model), (example, example), folder / GRAPH, input_names=["input_ids", "attention_mask"],
            output_names=["logits"], dynamic_shapes=(dynamic, dynamic), external_data=False, dynamo=True, verbose=False,
        )  # fmt: skip
    onnx.checker.check_model(folder / GRAPH)
