"""Reads an encoder's folder in transformers' format: sizes and weights, BERT folded into DistilBERT."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.files import read_json, user_path
from amsdff_jax.base.validation import build, first_of
from amsdff_jax.config import EncoderConfig
from amsdff_jax.interop.tensor_files import find_tensor_file, read_tensor_file

# transformers' BertConfig -> DistilBertConfig, field by field.
BERT_FIELDS = {
    "vocab_size": "vocab_size",
    "max_position_embeddings": "max_position_embeddings",
    "hidden_size": "dim",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "n_heads",
    "intermediate_size": "hidden_dim",
    "hidden_dropout_prob": "dropout",
    "attention_probs_dropout_prob": "attention_dropout",
    "initializer_range": "initializer_range",
    "pad_token_id": "pad_token_id",
}

# BertModel's parameter names -> DistilBertModel's.
BERT_NAMES = (
    (r"^encoder\.layer\.", "transformer.layer."),
    (r"\.attention\.self\.query\.", ".attention.q_lin."),
    (r"\.attention\.self\.key\.", ".attention.k_lin."),
    (r"\.attention\.self\.value\.", ".attention.v_lin."),
    (r"\.attention\.output\.dense\.", ".attention.out_lin."),
    (r"\.attention\.output\.LayerNorm\.", ".sa_layer_norm."),
    (r"\.intermediate\.dense\.", ".ffn.lin1."),
    (r"\.output\.dense\.", ".ffn.lin2."),
    (r"\.output\.LayerNorm\.", ".output_layer_norm."),
    (r"\.gamma$", ".weight"),  # as in the files that were made of TensorFlow's
    (r"\.beta$", ".bias"),
)

# What may stand beside an encoder's own tensors, and why it is left out.
IGNORED = (
    (re.compile(r"^embeddings\.(position_ids|token_type_ids)$"), "a buffer of constants"),
    (re.compile(r"^pooler\."), "BERT's pooler, in whose place the classifier has pools of its own"),
    (re.compile(r"^(cls\.|vocab_|qa_outputs\.|(pre_)?classifier\.)"), "a head of pretraining or of another task"),
)

# By its ending the prefix is found that the encoder's names have in a larger model.
WORDS = "embeddings.word_embeddings.weight"
POSITIONS = "embeddings.position_embeddings.weight"
SEGMENTS = "embeddings.token_type_embeddings.weight"
FEED_FORWARD = "transformer.layer.0.ffn.lin1.weight"
OWN = re.compile(r"^(embeddings|transformer)\.")  # what the encoder's own names begin with

MODEL_TYPE = "amsdff"  # of this project's model folders


class EncoderWeights(NamedTuple):
    """An encoder's tensors under DistilBertModel's names, the names that were left out, and the file."""

    tensors: dict[str, np.ndarray]
    ignored: tuple[str, ...]
    file: Path


def read_encoder_config(path: str | Path) -> EncoderConfig:
    """The sizes in a `config.json` of transformers, DistilBERT's or BERT's, or of the encoder in a model folder.

    Args:
      path: the file, or the folder that holds it.

    Raises:
      UserError: no such file, not JSON, or a model of another kind.
    """
    path = user_path(path)
    file = path / "config.json" if path.is_dir() else path
    values = read_json(file, "an encoder's config.json")
    kind = values.get("model_type")
    try:
        if kind == MODEL_TYPE:
            return build(EncoderConfig, values.get("encoder"), "encoder.")
        if kind not in ("distilbert", "bert"):
            raise UserError(
                f"model_type is {kind!r:.100}, expected 'distilbert', 'bert' or a classifier's '{MODEL_TYPE}'"
            )
        _check_variant(values)
        fields = {name: name for name in EncoderConfig.__dataclass_fields__} if kind == "distilbert" else BERT_FIELDS
        return build(EncoderConfig, {ours: values[theirs] for theirs, ours in fields.items() if theirs in values}, "")
    except UserError as error:
        raise UserError(f"{file}: {error}") from None


def _check_variant(values: dict[str, Any]) -> None:
    expected = {
        "activation": "gelu",
        "hidden_act": "gelu",
        "position_embedding_type": "absolute",
        "layer_norm_eps": 1e-12,
    }
    for name, value in expected.items():
        if name in values and values[name] != value:
            raise UserError(f"{name} is {values[name]!r:.100}; only {value!r} is supported")


def read_encoder_weights(folder: Path) -> EncoderWeights:
    """The tensors of an encoder, or of a larger model with one in it, as DistilBertModel names and holds them.

    Raises:
      UserError: the weights are missing or damaged, or there is not exactly one encoder among them.
    """
    file = find_tensor_file(folder)
    stored = read_tensor_file(file)
    prefixes = sorted(name.removesuffix(WORDS) for name in stored if name.endswith(WORDS))
    if len(prefixes) != 1:
        found = f"{len(prefixes)} tensors {WORDS} ({first_of(prefixes)})" if prefixes else f"no tensor {WORDS}"
        raise UserError(f"{file}: holds {found}; expected the weights of one encoder, BERT's or DistilBERT's")
    tensors, ignored = {}, []
    for stored_name, tensor in stored.items():
        inside = stored_name.startswith(prefixes[0])
        name = distilbert_name(stored_name.removeprefix(prefixes[0])) if inside else ""
        if not OWN.match(name) or reason_to_ignore(name):
            ignored.append(stored_name)
        elif name in tensors:
            raise UserError(f"{file}: two tensors would be called {name}, one of them {stored_name}")
        else:
            tensors[name] = tensor
    fold_segments(tensors, str(file))
    return EncoderWeights(tensors, tuple(sorted(ignored)), file)


def check_encoder_sizes(
    config: EncoderConfig, tensors: Mapping[str, np.ndarray], source: str, config_source: str, prefix: str = ""
) -> None:
    """Raises `UserError` unless the encoder's tensors have the sizes that its `config.json` says.

    A module of wrong sizes may be too large to be built.

    Args:
      source: what error messages call the file of the tensors.
      config_source: the same of the sizes.
      prefix: what the encoder's names begin with.
    """
    for name, size in read_encoder_sizes(tensors, source, prefix).items():
        if getattr(config, name) != size:
            raise UserError(f"{config_source}: {name} is {getattr(config, name)}, but {source} has {size}")


def read_encoder_sizes(tensors: Mapping[str, np.ndarray], source: str, prefix: str = "") -> dict[str, int]:
    """The sizes that tensors tell, by their names in `EncoderConfig`; they do not tell the number of heads.

    Raises:
      UserError: a tensor that tells a size is missing or has another rank.
    """
    words, positions, feed_forward = (
        require_matrix(tensors, f"{prefix}{name}", source) for name in (WORDS, POSITIONS, FEED_FORWARD)
    )
    return {
        "vocab_size": words.shape[0],
        "max_position_embeddings": positions.shape[0],
        "dim": words.shape[1],
        "n_layers": count_modules(tensors, f"{prefix}transformer.layer.", source),
        "hidden_dim": feed_forward.shape[0],
    }


def require_matrix(tensors: Mapping[str, np.ndarray], name: str, source: str) -> np.ndarray:
    """The tensor called `name`.

    Raises:
      UserError: it is missing, or no matrix, or empty.
    """
    tensor = tensors.get(name)
    if tensor is None or tensor.ndim != 2 or not tensor.size:
        found = "is missing" if tensor is None else f"has shape {tensor.shape}"
        raise UserError(f"{source}: the sizes of the model cannot be read, because {name} {found}; expected a matrix")
    return tensor


def count_modules(tensors: Iterable[str], prefix: str, source: str) -> int:
    """How many numbers, from 0 on, follow `prefix` in the names of `tensors`.

    Raises:
      UserError: a number is left out.
    """
    numbers = {name.removeprefix(prefix).split(".")[0] for name in tensors if name.startswith(prefix)}
    unexpected = numbers - {str(number) for number in range(len(numbers))}
    if unexpected:
        raise UserError(f"{source}: has {prefix}{min(unexpected):.100}, but not all before it")
    return len(numbers)


def reason_to_ignore(name: str) -> str:
    """Why the tensor of this name in an encoder's file is not needed; "" if it is."""
    return next((reason for pattern, reason in IGNORED if pattern.match(name)), "")


def distilbert_name(name: str) -> str:
    """What DistilBertModel calls the tensor that BertModel calls `name`; its own names stay as they are."""
    for pattern, replacement in BERT_NAMES:
        name = re.sub(pattern, replacement, name)
    return name


def fold_segments(tensors: dict[str, np.ndarray], source: str, prefix: str = "") -> None:
    """Puts BERT's segment embedding, if it is there, into the position embeddings.

    A text is all of segment 0, so that embedding is a constant, which the positions can carry.

    Args:
      tensors: changed in place.
      source: what error messages call the place the tensors come from.
      prefix: what the encoder's names begin with.

    Raises:
      UserError: the two do not go together.
    """
    if prefix + SEGMENTS not in tensors or prefix + POSITIONS not in tensors:
        return
    segments, positions = tensors.pop(prefix + SEGMENTS), tensors[prefix + POSITIONS]
    fits = segments.ndim == positions.ndim == 2 and len(segments) and segments.shape[1] == positions.shape[1]
    if not fits or not all(jnp.issubdtype(tensor.dtype, jnp.floating) for tensor in (segments, positions)):
        raise UserError(
            f"{source}: {prefix}{SEGMENTS} and {prefix}{POSITIONS} have shapes {segments.shape} and {positions.shape} "
            f"of {segments.dtype} and {positions.dtype}; expected two matrices of numbers, as wide as each other"
        )
    tensors[prefix + POSITIONS] = positions.astype(np.float32) + segments[0].astype(np.float32)
