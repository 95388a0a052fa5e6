"""Reads an encoder's folder in transformers' format: sizes and weights, BERT folded into DistilBERT."""

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from amsdff_jax.config import EncoderConfig
from amsdff_jax.errors import UserError
from amsdff_jax.interop.safetensors_file import read_safetensors
from amsdff_jax.json_file import read_json
from amsdff_jax.validation import build

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
)

# What may stand beside an encoder's own tensors, and why it is left out.
IGNORED = (
    (re.compile(r"^embeddings\.(position_ids|token_type_ids)$"), "a buffer of constants"),
    (re.compile(r"^pooler\."), "BERT's pooler, in whose place the classifier has pools of its own"),
    (re.compile(r"^(cls\.|vocab_|qa_outputs\.|(pre_)?classifier\.)"), "a head of pretraining or of another task"),
)

PREFIX = re.compile(r"^(distilbert|bert)\.")


class EncoderWeights(NamedTuple):
    """An encoder's tensors under DistilBertModel's names, and the names that were left out."""

    tensors: dict[str, np.ndarray]
    ignored: tuple[str, ...]


def read_encoder_config(path: str | Path) -> EncoderConfig:
    """The sizes in a `config.json` of transformers, DistilBERT's or BERT's.

    Args:
      path: the file, or the folder that holds it.

    Raises:
      UserError: no such file, not JSON, or a model of another kind.
    """
    path = Path(path).expanduser()
    file = path / "config.json" if path.is_dir() else path
    values = read_json(file, "an encoder's config.json")
    kind = values.get("model_type")
    if kind == "amsdff":
        raise UserError(f"{file}: this is a whole classifier, not an encoder; load it with amsdff_jax.load_model")
    if kind not in ("distilbert", "bert"):
        raise UserError(f"{file}: model_type is {kind!r}, expected 'distilbert' or 'bert'")
    _check_variant(file, values)
    fields = {name: name for name in EncoderConfig.__dataclass_fields__} if kind == "distilbert" else BERT_FIELDS
    try:
        return build(EncoderConfig, {ours: values[theirs] for theirs, ours in fields.items() if theirs in values}, "")
    except UserError as error:
        raise UserError(f"{file}: {error}") from None


def _check_variant(file: Path, values: dict[str, Any]) -> None:
    expected = {
        "activation": "gelu",
        "hidden_act": "gelu",
        "position_embedding_type": "absolute",
        "layer_norm_eps": 1e-12,
    }
    for name, value in expected.items():
        if name in values and values[name] != value:
            raise UserError(f"{file}: {name} is {values[name]!r}; only {value!r} is supported")


def read_encoder_weights(folder: Path) -> EncoderWeights:
    """The tensors of `model.safetensors`, renamed and folded to what DistilBertModel holds.

    Raises:
      UserError: the file is missing or is not a safetensors file.
    """
    file = folder / "model.safetensors"
    stored = {PREFIX.sub("", name): tensor for name, tensor in read_safetensors(file).items()}
    ignored = tuple(sorted(name for name in stored if reason_to_ignore(name)))
    tensors = {distilbert_name(name): tensor for name, tensor in stored.items() if name not in ignored}
    fold_segments(tensors)
    return EncoderWeights(tensors, ignored)


def reason_to_ignore(name: str) -> str:
    """Why the tensor of this name in an encoder's file is not needed; "" if it is."""
    return next((reason for pattern, reason in IGNORED if pattern.match(name)), "")


def distilbert_name(name: str) -> str:
    """What DistilBertModel calls the tensor that BertModel calls `name`; its own names stay as they are."""
    for pattern, replacement in BERT_NAMES:
        name = re.sub(pattern, replacement, name)
    return name


def fold_segments(tensors: dict[str, np.ndarray], prefix: str = "") -> None:
    """Puts BERT's segment embedding, if it is there, into the position embeddings.

    A text is all of segment 0, so that embedding is a constant, which the positions can carry.

    Args:
      tensors: changed in place.
      prefix: what the encoder's names begin with.
    """
    segments, positions = (f"{prefix}embeddings.{kind}_embeddings.weight" for kind in ("token_type", "position"))
    if segments in tensors and positions in tensors:
        tensors[positions] = tensors[positions].astype(np.float32) + tensors.pop(segments)[0].astype(np.float32)
