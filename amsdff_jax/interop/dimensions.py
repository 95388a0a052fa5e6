"""Reads a classifier's shape off its tensors."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from amsdff_jax.config import EncoderConfig, ModelConfig
from amsdff_jax.errors import UserError
from amsdff_jax.interop.encoder_files import read_encoder_config
from amsdff_jax.interop.weights_file import WeightsFile

WORDS = "transformer.embeddings.word_embeddings.weight"
POSITIONS = "transformer.embeddings.position_embeddings.weight"
FEED_FORWARD = "transformer.transformer.layer.0.ffn.lin1.weight"


def read_dimensions(
    weights: WeightsFile, source: str, encoder_config: str, num_attention_heads: int, mask_padding: bool
) -> tuple[ModelConfig, EncoderConfig]:
    """The configuration of the model whose tensors these are.

    Args:
      source: what error messages call the file.
      encoder_config: folder or config.json of the encoder, which tells the number of its attention heads.
      num_attention_heads: of the classifier's own attention layers; the tensors do not tell.
      mask_padding: semantics the model shall have.

    Raises:
      UserError: no classifier, a tensor missing that tells a size, or sizes other than `encoder_config` says.
    """
    tensors = weights.tensors
    if not weights.model_name:
        encoder = any(name.endswith("word_embeddings.weight") for name in tensors)
        encoder_alone = " (it seems to be an encoder alone: use it as model.encoder)" if encoder else ""
        raise UserError(f"{source}: none of the classifiers{encoder_alone}; its first tensor is {next(iter(tensors))}")
    last_layer = "classifier.8.weight" if weights.model_name == "amsdff" else "classifier.weight"
    for name in (WORDS, POSITIONS, FEED_FORWARD, last_layer):
        if name not in tensors or tensors[name].ndim != 2 or not tensors[name].size:
            raise UserError(f"{source}: the sizes of the model cannot be read, because {name} is missing or no matrix")
    vocab_size, dim = tensors[WORDS].shape
    read = {
        "vocab_size": vocab_size,
        "max_position_embeddings": tensors[POSITIONS].shape[0],
        "dim": dim,
        "n_layers": _count(tensors, "transformer.transformer.layer.", source),
        "hidden_dim": tensors[FEED_FORWARD].shape[0],
    }
    if not encoder_config:
        raise UserError(
            f"{source}: tensors do not tell the number of the encoder's attention heads; name the encoder's folder or "
            "config.json with --encoder_config=PATH"
        )
    sizes = read_encoder_config(Path(encoder_config))
    for name, value in read.items():
        if getattr(sizes, name) != value:
            raise UserError(f"{encoder_config}: {name} is {getattr(sizes, name)}, but {source} has {value}")
    fields = {}
    if weights.model_name == "amsdff":
        scales = _count(tensors, "multi_scale_attention.scale_convs.", source)
        kernels = (f"multi_scale_attention.scale_convs.{scale}.0.weight" for scale in range(scales))
        fields["kernel_sizes"] = tuple(
            tensors[name].shape[2] for name in kernels if name in tensors and tensors[name].ndim == 3
        )
        fields["num_experts"] = _count(tensors, "dynamic_fusion.experts.", source)
    try:
        model = ModelConfig(
            name=weights.model_name,
            num_classes=tensors[last_layer].shape[0],
            num_attention_heads=num_attention_heads,
            mask_padding=mask_padding,
            **fields,
        )
        model.check_hidden_size(sizes.dim)
    except UserError as error:
        raise UserError(f"{source}: {error}") from None
    return model, sizes


def _count(tensors: Mapping[str, np.ndarray], prefix: str, source: str) -> int:
    numbers = {name.removeprefix(prefix).split(".")[0] for name in tensors if name.startswith(prefix)}
    strangers = numbers - {str(number) for number in range(len(numbers))}
    if strangers:
        raise UserError(f"{source}: has {prefix}{min(strangers)}, but not all before it")
    return len(numbers)
