"""The PyTorch side of conversions: weights, outputs and optimizers of the models in `torch_architecture`.

Needs torch (`pip install torch`).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from amsdff_jax.base.errors import UserError
from amsdff_jax.config import EncoderConfig, ModelConfig
from amsdff_jax.config.encoder_families import encoder_values
from amsdff_jax.interop.torch_architecture import TORCH_MODELS, AmsdffConfig, TorchClassifier, TorchOutput
from amsdff_jax.models.model_folder import FolderConfig

__all__ = ["TORCH_MODELS", "TorchClassifier", "TorchOutput", "load_arrays", "make_adamw", "make_twin", "run_weights"]


def load_arrays(model: nn.Module, tensors: Mapping[str, np.ndarray], source: str) -> None:
    """Puts NumPy arrays under PyTorch's names into `model`.

    Raises:
      UserError: missing, extra or misshapen tensors.
    """
    # Through float32, because PyTorch takes no bfloat16 from NumPy.
    arrays = {name: array if array.dtype.kind in "iu" else array.astype(np.float32) for name, array in tensors.items()}
    try:
        model.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in arrays.items()})
    except RuntimeError as error:
        raise UserError(f"{source}: the weights do not fit the model: {' '.join(str(error).split())}") from None


def make_twin(config: ModelConfig, encoder: EncoderConfig) -> TorchClassifier:
    """The PyTorch model of these sizes, with random weights, in train mode."""
    own = {"model": dataclasses.asdict(config), "encoder": encoder_values(encoder)}
    return TORCH_MODELS[config.name](AmsdffConfig(amsdff=own))


def run_weights(
    config: FolderConfig, tensors: Mapping[str, np.ndarray], source: str, input_ids: np.ndarray, mask: np.ndarray
) -> dict[str, np.ndarray]:
    """The fields of `TorchOutput`, in eval mode, of the model of `config` with these weights.

    Raises:
      UserError: missing, extra or misshapen tensors.
    """
    model = make_twin(config.model, config.encoder).eval()
    load_arrays(model, tensors, source)
    with torch.no_grad():
        output = model(torch.from_numpy(input_ids), torch.from_numpy(mask))
    return {field: value.numpy() for field, value in output.items()}


def make_adamw(model: nn.Module, saved: dict[str, Any]) -> torch.optim.AdamW:
    """AdamW over `model` in the groups and the state of a run of this project.

    Args:
      saved: `optimizer_state_dict` of what `amsdff convert to-torch RUN OUT.pt --layout=trainer` writes.
    """
    parameters = dict(model.named_parameters())
    groups = [
        {"params": [(name, parameters[name]) for name in group["param_names"]]} for group in saved["param_groups"]
    ]
    optimizer = torch.optim.AdamW(groups)
    optimizer.load_state_dict(saved)
    return optimizer
