"""The adapters of a classifier: merged into its weights, or written as those of `peft`."""

import dataclasses
import logging
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx, traverse_util

from amsdff_jax.interop.hub import shared_name
from amsdff_jax.interop.peft_adapter import head_modules, write_adapter
from amsdff_jax.interop.sequence_classification import is_native
from amsdff_jax.models.lora import is_new, lora_targets
from amsdff_jax.models.pretrained import PretrainedClassifier
from amsdff_jax.models.state_dict import to_state_dict
from amsdff_jax.models.variables import Variables, abstract_model

logger = logging.getLogger(__name__)


def merge_adapters(model: PretrainedClassifier) -> PretrainedClassifier:
    """The ordinary model that computes the same: each adapter's product is added to the weights that it stands beside.

    A model without adapters is returned as it is.
    """
    if not model.config.lora_rank:
        return model
    config, encoder = dataclasses.replace(model.config, lora_rank=0), model.encoder_config
    merged = abstract_model(lambda rngs: type(model)(config, encoder, rngs=rngs, platform=model.platform))
    parameters, _, statistics = Variables.of(model)
    flat = {path: np.asarray(value) for path, value in traverse_util.flatten_dict(parameters).items()}
    scale = np.float32(model.config.lora_alpha / model.config.lora_rank)
    for path in [path for path in flat if "lora_A" in path]:
        layer = path[: path.index("lora_A")]
        # On the host: a GPU may multiply float32 with fewer digits.
        product = flat.pop(path) @ flat.pop((*layer, "lora_B", "kernel"))
        flat[*layer, "kernel"] = flat[*layer, "kernel"] + scale * product
    nnx.update(merged, jax.tree.map(jnp.asarray, traverse_util.unflatten_dict(flat)), statistics)
    merged.read_in_windows(model.windows)
    return merged


def save_adapters(folder: Path, model: PretrainedClassifier) -> None:
    """Writes the adapters of a classifier, and its head, as a folder of `peft`; of one that has none, nothing.

    Nor where `peft` could not put them on the base, which a line in the log tells.

    Raises:
      UserError: the folder cannot be written.
    """
    config = model.config
    if not config.lora_rank:
        return
    if is_native(config):
        logger.warning(
            "%s: not written, for the base of model.name=%s is transformers' own class, whose layers have other names; "
            "the model folder has the adapters merged",
            *(folder, config.name),
        )
        return
    tensors = to_state_dict(model)
    new = {name: tensor for name, tensor in tensors.items() if is_new(name)}
    encoder = {name.rsplit(".", depth)[0] for name in tensors.keys() - new for depth in range(1, name.count("."))}
    for module in head_modules(new):
        if any(part.endswith(module) for part in encoder):
            message = (
                "%s: not written, for peft would take the encoder's layers for the head's, both of which are called %s"
            )
            logger.warning(message, folder, module)
            return
    targets = lora_targets(config, model.encoder_config.model_type)
    write_adapter(
        folder,
        new,
        rank=config.lora_rank,
        alpha=config.lora_alpha,
        dropout=config.lora_dropout,
        targets=targets,
        base=shared_name(config.encoder),
    )
    logger.info("adapters and head saved to %s, in the format of peft", folder)
