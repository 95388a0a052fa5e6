"""Models of the sizes that are compared, with random weights, for which nothing is downloaded."""

import dataclasses
from pathlib import Path
from typing import Any

from flax import nnx

from amsdff_jax.config import Config, EncoderConfig, ModelConfig
from amsdff_jax.config.encoders import DebertaConfig, ElectraConfig, ModernBertConfig, MPNetConfig, RobertaConfig
from amsdff_jax.data.tokenization import check_vocabulary, load_tokenizer
from amsdff_jax.interop.hub import find_tokenizer
from amsdff_jax.models.amsdff import EnhancedAMSDFF
from amsdff_jax.models.model_folder import SavedModel, save_model

CLASSES = 4

# Sizes of the published encoders of these names; minilm is all-MiniLM-L6-v2, electra-small the discriminator.
PRESETS = {
    "minilm": EncoderConfig(dim=384, n_layers=6, n_heads=12, hidden_dim=1536),
    "distilbert": EncoderConfig(dim=768, n_layers=6, n_heads=12, hidden_dim=3072),
    "bert-base": EncoderConfig(dim=768, n_layers=12, n_heads=12, hidden_dim=3072),
    "roberta-base": RobertaConfig(max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5),
    "electra-small": ElectraConfig(),
    "mpnet-base": MPNetConfig(max_position_embeddings=514, layer_norm_eps=1e-5),
    "modernbert-base": ModernBertConfig(),
    "deberta-v3-small": DebertaConfig(dim=768, n_layers=6, n_heads=12, hidden_dim=3072, position_buckets=256),
}


def preset_config(sizes: EncoderConfig) -> ModelConfig:
    """AMSDFF on an encoder of these sizes, with a fourth scale where three cannot share its features."""
    config = ModelConfig(encoder="", num_classes=CLASSES)
    if sizes.dim % len(config.kernel_sizes):
        config = dataclasses.replace(config, kernel_sizes=(*config.kernel_sizes, config.kernel_sizes[-1] + 2))
    return config


def write_preset(name: str, folder: Path, epoch_config: dict[str, Any]) -> None:
    """Writes a model folder of these sizes, with four classes.

    Args:
      name: one of `PRESETS`.
      epoch_config: a `Config` as a dict, whose tokenizer the folder gets; empty: it gets none.

    Raises:
      UserError: no such tokenizer, or one that knows more tokens than the model.
    """
    sizes = PRESETS[name]
    tokenizer = None
    if epoch_config:
        config = Config.from_dict(epoch_config)
        place = find_tokenizer(config.data.tokenizer, config.model.encoder)
        tokenizer = load_tokenizer(place)
        check_vocabulary(tokenizer, sizes.vocab_size, str(place))
    model = EnhancedAMSDFF(preset_config(sizes), sizes, rngs=nnx.Rngs(0))
    names = tuple(str(number) for number in range(CLASSES))
    save_model(folder, SavedModel(model, tokenizer, names, sizes.max_tokens))
