"""AMSDFF text classification in JAX: fine-tune, evaluate and use a text classifier on a pretrained encoder."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from amsdff_jax.base.errors import UserError
    from amsdff_jax.config import Config, default_config
    from amsdff_jax.conversion.torch_model import TorchClassifier
    from amsdff_jax.data.dataset import TextDataset
    from amsdff_jax.data.files import read_file
    from amsdff_jax.data.sources import load_data
    from amsdff_jax.data.tokenization import load_tokenizer
    from amsdff_jax.models.amsdff import AMSDFFOutput, EnhancedAMSDFF
    from amsdff_jax.models.model_folder import load_model
    from amsdff_jax.prediction.classifier import Classifier
    from amsdff_jax.prediction.estimator import AmsdffClassifier
    from amsdff_jax.prediction.prediction import Prediction
    from amsdff_jax.training.trainer import Trainer

# Each name is loaded when it is first used: whoever reads a file need not wait for JAX, nor have PyTorch.
_MODULES = {
    "AMSDFFOutput": "models.amsdff",
    "AmsdffClassifier": "prediction.estimator",
    "Classifier": "prediction.classifier",
    "Config": "config",
    "EnhancedAMSDFF": "models.amsdff",
    "Prediction": "prediction.prediction",
    "TextDataset": "data.dataset",
    "TorchClassifier": "conversion.torch_model",
    "Trainer": "training.trainer",
    "UserError": "base.errors",
    "default_config": "config",
    "load_data": "data.sources",
    "load_model": "models.model_folder",
    "load_tokenizer": "data.tokenization",
    "read_file": "data.files",
}

__all__ = [
    "AMSDFFOutput",
    "AmsdffClassifier",
    "Classifier",
    "Config",
    "EnhancedAMSDFF",
    "Prediction",
    "TextDataset",
    "TorchClassifier",
    "Trainer",
    "UserError",
    "default_config",
    "load_data",
    "load_model",
    "load_tokenizer",
    "read_file",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return [*globals(), *_MODULES]
