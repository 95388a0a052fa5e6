"""Every kind of classifier by the name that configs and model folders call it."""

from amsdff_jax.config import ModelConfig
from amsdff_jax.models.amsdff import EnhancedAMSDFF
from amsdff_jax.models.baselines import (
    AttentionClassifier,
    BertClassifier,
    CNNClassifier,
    GRUClassifier,
    LinearClassifier,
    LSTMClassifier,
    TransformerClassifier,
)
from amsdff_jax.models.pretrained import PretrainedClassifier

KINDS = (
    EnhancedAMSDFF,
    LSTMClassifier,
    GRUClassifier,
    TransformerClassifier,
    CNNClassifier,
    AttentionClassifier,
    LinearClassifier,
    BertClassifier,
)
MODELS: dict[str, type[PretrainedClassifier]] = {kind.name: kind for kind in KINDS}


def make_model(config: ModelConfig, *, seed: int = 0) -> PretrainedClassifier:
    """The classifier that `config` describes, on `config.encoder`'s weights.

    Raises:
      UserError: no such encoder, or one that does not fit.
    """
    return MODELS[config.name].from_config(config, seed=seed)
