"""AMSDFF text classification in JAX: fine-tune, evaluate and use a classifier on a DistilBERT encoder."""

import os

# transformers, of which only the tokenizers are used, would complain at every start that PyTorch is missing.
os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")

from amsdff_jax.classifier import Classifier, Prediction
from amsdff_jax.config import Config, default_config
from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.data.files import read_file
from amsdff_jax.data.sources import load_data
from amsdff_jax.errors import UserError
from amsdff_jax.interop.model_folder import load_model
from amsdff_jax.models.amsdff import AMSDFFOutput, EnhancedAMSDFF
from amsdff_jax.training.trainer import Trainer

__all__ = [
    "AMSDFFOutput",
    "Classifier",
    "Config",
    "EnhancedAMSDFF",
    "Prediction",
    "TextDataset",
    "Trainer",
    "UserError",
    "default_config",
    "load_data",
    "load_model",
    "read_file",
]
