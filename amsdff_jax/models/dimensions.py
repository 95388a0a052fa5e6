"""Reads a classifier's shape off its tensors."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from amsdff_jax.base.errors import UserError
from amsdff_jax.config import EncoderConfig, ModelConfig
from amsdff_jax.interop.encoder_files import check_encoder_sizes, count_modules, read_encoder_config, require_matrix
from amsdff_jax.interop.weights_file import ENCODER, WeightsFile

SCALES, EXPERTS = "multi_scale_attention.scale_convs.", "dynamic_fusion.experts."


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
    if not encoder_config:
        raise UserError(
            f"{source}: tensors do not tell the number of the encoder's attention heads; name the encoder's folder or "
            "config.json with --encoder_config=PATH"
        )
    sizes = read_encoder_config(Path(encoder_config))
    check_encoder_sizes(sizes, tensors, source, encoder_config, ENCODER)
    fields = read_head_sizes(weights.model_name, tensors, source)
    try:
        model = ModelConfig(
            name=weights.model_name,
            num_attention_heads=num_attention_heads,
            mask_padding=mask_padding,
            **fields,
        )
        model.check_hidden_size(sizes.dim)
    except UserError as error:
        raise UserError(f"{source}: {error}") from None
    return model, sizes


def check_sizes(
    model: ModelConfig, encoder: EncoderConfig, tensors: Mapping[str, np.ndarray], source: str, config_source: str
) -> None:
    """Raises `UserError` unless the tensors have the sizes that the configuration of their classifier says.

    A module of wrong sizes may be too large to be built.

    Args:
      source: what error messages call the file of the tensors.
      config_source: the same of the configuration.
    """
    check_encoder_sizes(encoder, tensors, source, config_source, ENCODER)
    sizes = read_head_sizes(model.name, tensors, source)
    if model.name == "amsdff":  # a stage that the tensors lack altogether must not be built either
        sizes = (
            ({"kernel_sizes": ()} if model.multi_scale else {}) | ({"num_experts": 0} if model.fusion else {}) | sizes
        )
    for name, size in sizes.items():
        if getattr(model, name) != size:
            raise UserError(
                f"{config_source}: model.{name} is {getattr(model, name)!r:.100}, but {source} has {size!r:.100}"
            )


def read_head_sizes(model_name: str, tensors: Mapping[str, np.ndarray], source: str) -> dict[str, Any]:
    """The sizes of what follows the encoder that tensors tell, by their names in `ModelConfig`.

    What a model has been built without tells none.

    Raises:
      UserError: a tensor that tells a size is missing or has another rank.
    """
    last_layer = "classifier.8" if model_name == "amsdff" else "classifier"
    logits = require_matrix(tensors, f"{last_layer}.weight", source).shape[0]
    thresholds = tensors.get(f"{last_layer}.thresholds")  # between the classes, of ordered ones
    sizes: dict[str, Any] = {
        "num_classes": logits if thresholds is None else thresholds.size + 1,
        "ordinal": thresholds is not None,
    }
    if model_name != "amsdff":
        return sizes
    scales = count_modules(tensors, SCALES, source)
    kernels = [tensors.get(f"{SCALES}{scale}.0.weight") for scale in range(scales)]
    if kernels:
        shapes = [kernel.shape for kernel in kernels if kernel is not None and kernel.ndim == 3]
        if len(shapes) < scales:
            raise UserError(
                f"{source}: expected tensors {SCALES}N.0.weight of three axes, for N from 0 to {scales - 1}"
            )
        sizes["kernel_sizes"] = tuple(width for _, _, width in shapes)
    experts = count_modules(tensors, EXPERTS, source)
    return sizes | ({"num_experts": experts} if experts else {})
