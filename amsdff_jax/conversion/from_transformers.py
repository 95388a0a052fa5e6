"""From a fine-tuned classifier of transformers to a model folder, without PyTorch."""

import logging
from pathlib import Path

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.files import read_json, user_path
from amsdff_jax.base.validation import require, shown
from amsdff_jax.config import ModelConfig
from amsdff_jax.config.encoder_families import read_encoder_values
from amsdff_jax.data.tokenization import check_vocabulary, load_tokenizer
from amsdff_jax.evaluation.model_card import record_conversion
from amsdff_jax.interop.encoder_files import MODEL_TYPE
from amsdff_jax.interop.hub import find_encoder
from amsdff_jax.interop.sequence_classification import (
    NATIVE,
    NATIVE_MODEL,
    check_native,
    from_native,
    labels_of,
    read_task,
    reads_segments,
)
from amsdff_jax.interop.tensor_files import find_tensor_file, read_tensor_file
from amsdff_jax.models.dimensions import check_sizes, read_head_sizes
from amsdff_jax.models.model_folder import SavedModel, save_model
from amsdff_jax.models.registry import MODELS
from amsdff_jax.models.state_dict import load_state_dict
from amsdff_jax.models.variables import abstract_model

logger = logging.getLogger(__name__)


def from_transformers(source: str | Path, folder: str | Path) -> SavedModel:
    """Makes a model folder of a fine-tuned `...ForSequenceClassification` of any family that there is.

    Labels are those of `id2label`; the tokenizer, and how many tokens it leaves of a text, come along. No model here
    has segments: of one whose second segment differs from its first only single texts are taken from then on.

    Args:
      source: a folder in transformers' format, or a hub id.
      folder: written, or replaced if it is a model folder.

    Raises:
      UserError: anything about the model that is not known here; nothing is written then.
    """
    place = find_encoder(str(source), "from-transformers")
    file = place / "config.json"
    values = read_json(file, "the config.json of a model of transformers")
    try:
        if values.get("model_type") == MODEL_TYPE:
            raise UserError("a model folder already, which is used as it is")
        encoder = read_encoder_values(values)
        check_native(values, encoder)
        given = labels_of(values) if "id2label" in values else ()
    except UserError as error:
        raise UserError(f"{file}: {error}") from None
    weights = find_tensor_file(place)
    stored = read_tensor_file(weights)
    tensors = from_native(stored, encoder, str(weights))
    classes = read_head_sizes(NATIVE_MODEL, tensors, str(weights))["num_classes"]
    names = given or tuple(f"LABEL_{number}" for number in range(classes))  # as transformers reads such a file
    require(len(set(names)) == len(names) == classes, f"{file}: id2label", names, f"{classes} different names")
    try:
        task = read_task(values, classes)
    except UserError as error:
        raise UserError(f"{file}: {error}") from None
    kind = NATIVE[encoder.native_type]
    rate = values.get(kind.dropout, kind.default_dropout)
    rate = rate if isinstance(rate, (int, float)) else encoder.dropout
    require(0 <= rate < 1, f"{file}: {kind.dropout or 'dropout'}", rate, "a number from 0 to below 1")
    config = ModelConfig(name=NATIVE_MODEL, encoder=str(source), num_classes=classes, dropout_rate=float(rate))
    check_sizes(config, encoder, tensors, str(weights), str(file))
    model = abstract_model(lambda rngs: MODELS[NATIVE_MODEL](config, encoder, rngs=rngs))
    load_state_dict(model, tensors, str(weights))
    tokenizer = load_tokenizer(place)
    check_vocabulary(tokenizer, encoder.vocab_size, str(place))
    longest = tokenizer.model_max_length
    if type(longest) not in (int, float) or not longest >= 3:
        raise UserError(f"{place}: the tokenizer's model_max_length is {shown(longest)}; expected a number, at least 3")
    length = int(min(longest, encoder.max_tokens))
    single = reads_segments(stored)
    saved = SavedModel(model, tokenizer, names, length, reads_pairs=False if single else None, task=task)
    save_model(folder, saved)
    record_conversion(folder, user_path(source), f"transformers' {kind.architecture}")
    logger.info("%s -> %s (%s, %d classes, at most %d tokens)", source, folder, kind.architecture, classes, length)
    if single:
        logger.warning(
            "%s: tells the second text of a pair by its segment, so it is taken for single texts only", source
        )
    return saved
