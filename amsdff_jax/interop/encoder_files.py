"""Reads an encoder's folder in transformers' format: sizes and weights. BERT is folded into DistilBERT."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.files import read_json, user_path
from amsdff_jax.base.validation import first_of
from amsdff_jax.config import EncoderConfig
from amsdff_jax.config.encoder_families import read_encoder_values, read_saved_encoder
from amsdff_jax.interop.tensor_files import find_tensor_file, read_tensor_file

# BertModel's parameter names -> DistilBertModel's.
BERT_NAMES = (
    ("encoder.layer.", "transformer.layer."),
    (".attention.self.query.", ".attention.q_lin."),
    (".attention.self.key.", ".attention.k_lin."),
    (".attention.self.value.", ".attention.v_lin."),
    (".attention.output.dense.", ".attention.out_lin."),
    (".attention.output.LayerNorm.", ".sa_layer_norm."),
    (".intermediate.dense.", ".ffn.lin1."),
    (".output.dense.", ".ffn.lin2."),
    (".output.LayerNorm.", ".output_layer_norm."),
)
# As in the files that were made of TensorFlow's.
OLD_NAMES = ((r"\.gamma$", ".weight"), (r"\.beta$", ".bias"))

# What may stand beside an encoder's own tensors, and why it is left out.
IGNORED = (
    (re.compile(r"^embeddings\.(position_ids|token_type_ids)$"), "a buffer of constants"),
    (re.compile(r"^pooler\."), "BERT's pooler, in whose place the classifier has pools of its own"),
    (re.compile(r"^(cls\.|vocab_|qa_outputs\.|(pre_)?classifier\.)"), "a head of pretraining or of another task"),
)

SEGMENTS = "embeddings.token_type_embeddings.weight"


class Place(NamedTuple):
    """Which axis of which tensor, a matrix, is as long as a size says."""

    name: str
    axis: int


class Layout(NamedTuple):
    """What the tensors of a family are called.

    Attributes:
      words: the word embeddings. By its ending the prefix is found that the encoder's names have in a larger model.
      layers: what the names of its blocks begin with, before their numbers.
      others: what further names of its own begin with.
      sizes: where the sizes are to be seen, by their names in its `EncoderConfig`.
    """

    words: str
    layers: str
    others: tuple[str, ...]
    sizes: Mapping[str, Place]

    def holds(self, name: str) -> bool:
        """Whether a tensor of this name is the encoder's own."""
        return name.startswith((self.layers, *self.others)) and not reason_to_ignore(name)


WORDS, POSITIONS = "embeddings.word_embeddings.weight", "embeddings.position_embeddings.weight"
BERT_LAYERS = "encoder.layer."
BERT_SIZES = {
    "vocab_size": Place(WORDS, 0),
    "dim": Place(f"{BERT_LAYERS}0.intermediate.dense.weight", 1),
    "hidden_dim": Place(f"{BERT_LAYERS}0.intermediate.dense.weight", 0),
}
ABSOLUTE_SIZES = BERT_SIZES | {"max_position_embeddings": Place(POSITIONS, 0)}
SEGMENTED_SIZES = ABSOLUTE_SIZES | {"type_vocab_size": Place(SEGMENTS, 0)}

LAYOUTS = {
    "distilbert": Layout(
        WORDS,
        "transformer.layer.",
        ("embeddings.", "transformer."),
        {
            "vocab_size": Place(WORDS, 0),
            "max_position_embeddings": Place(POSITIONS, 0),
            "dim": Place(WORDS, 1),
            "hidden_dim": Place("transformer.layer.0.ffn.lin1.weight", 0),
        },
    ),
    "roberta": Layout(WORDS, BERT_LAYERS, ("embeddings.",), SEGMENTED_SIZES),
    "electra": Layout(
        WORDS,
        BERT_LAYERS,
        ("embeddings.", "embeddings_project."),
        SEGMENTED_SIZES | {"embedding_size": Place(WORDS, 1)},
    ),
    "modernbert": Layout(
        "embeddings.tok_embeddings.weight",
        "layers.",
        ("embeddings.", "final_norm."),
        {
            "vocab_size": Place("embeddings.tok_embeddings.weight", 0),
            "dim": Place("layers.0.mlp.Wo.weight", 0),
            "hidden_dim": Place("layers.0.mlp.Wo.weight", 1),
        },
    ),
    "deberta-v2": Layout(
        WORDS,
        BERT_LAYERS,
        ("embeddings.word_embeddings.", "embeddings.LayerNorm.", "encoder.rel_embeddings.", "encoder.LayerNorm."),
        BERT_SIZES,
    ),
    "mpnet": Layout(WORDS, BERT_LAYERS, ("embeddings.", "encoder.relative_attention_bias."), ABSOLUTE_SIZES),
}

MODEL_TYPE = "amsdff"  # of this project's model folders


class EncoderWeights(NamedTuple):
    """An encoder's tensors as transformers' class names them, the names that were left out, and the file."""

    tensors: dict[str, np.ndarray]
    ignored: tuple[str, ...]
    file: Path


def read_encoder_config(path: str | Path) -> EncoderConfig:
    """The sizes in a `config.json` of transformers, or of the encoder in a model folder.

    Args:
      path: the file, or the folder that holds it.

    Raises:
      UserError: no such file, not JSON, or a model of another kind.
    """
    path = user_path(path)
    file = path / "config.json" if path.is_dir() else path
    values = read_json(file, "an encoder's config.json")
    try:
        if values.get("model_type") == MODEL_TYPE:
            own = values.get(MODEL_TYPE, values)  # beside which it stood in earlier versions
            return read_saved_encoder(own.get("encoder") if isinstance(own, dict) else None)
        return read_encoder_values(values)
    except UserError as error:
        raise UserError(f"{file}: {error}") from None


def read_encoder_weights(folder: Path, model_type: str = EncoderConfig.model_type) -> EncoderWeights:
    """The tensors of an encoder, or of a larger model with one in it, as transformers' class for it names them.

    Args:
      model_type: of the `EncoderConfig`; with DistilBERT's, BERT is folded into it.

    Raises:
      UserError: the weights are missing or damaged, or there is not exactly one encoder among them.
    """
    file = find_tensor_file(folder)
    stored = read_tensor_file(file)
    layout = LAYOUTS[model_type]
    prefixes = sorted(name.removesuffix(layout.words) for name in stored if name.endswith(layout.words))
    if len(prefixes) != 1:
        many = f"{len(prefixes)} tensors {layout.words} ({first_of(prefixes)})"
        found = many if prefixes else f"no tensor {layout.words}"
        kind = "BERT's or DistilBERT's" if model_type == EncoderConfig.model_type else f"of the kind {model_type}"
        raise UserError(f"{file}: holds {found}; expected the weights of one encoder, {kind}")
    tensors, ignored = {}, []
    for stored_name, tensor in stored.items():
        inside = stored_name.startswith(prefixes[0])
        name = encoder_name(stored_name.removeprefix(prefixes[0]), model_type) if inside else ""
        if not layout.holds(name):
            ignored.append(stored_name)
        elif name in tensors:
            raise UserError(f"{file}: two tensors would be called {name}, one of them {stored_name}")
        else:
            tensors[name] = tensor
    if model_type == EncoderConfig.model_type:
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
    layout = LAYOUTS[config.model_type]
    matrices = {name: require_matrix(tensors, prefix + place.name, source) for name, place in layout.sizes.items()}
    sizes = {name: matrix.shape[layout.sizes[name].axis] for name, matrix in matrices.items()}
    sizes["n_layers"] = count_modules(tensors, prefix + layout.layers, source)
    for name, size in sizes.items():
        if getattr(config, name) != size:
            raise UserError(f"{config_source}: {name} is {getattr(config, name)}, but {source} has {size}")


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


def encoder_name(name: str, model_type: str) -> str:
    """What transformers' class for an encoder calls the tensor that a file calls `name`.

    Args:
      model_type: of the `EncoderConfig`; with DistilBERT's, names of BERT's become DistilBERT's.
    """
    for pattern, replacement in OLD_NAMES:
        name = re.sub(pattern, replacement, name)
    for bert, distilbert in BERT_NAMES if model_type == EncoderConfig.model_type else ():
        name = name.replace(bert, distilbert)
    return name


def bert_name(name: str) -> str:
    """What `BertModel` calls the tensor that `DistilBertModel` calls `name`."""
    for bert, distilbert in BERT_NAMES:
        name = name.replace(distilbert, bert)
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
