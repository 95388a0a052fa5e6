"""Where model cards of version 0.1 import the PyTorch model from, which is `amsdff_jax.TorchClassifier` today."""

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    return getattr(importlib.import_module("amsdff_jax.conversion.torch_model"), name)
