"""transformers' own classes for sequence classification: what their tensors and settings are called."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.validation import require, require_choice
from amsdff_jax.config import ModelConfig
from amsdff_jax.config.encoder_families import transformers_values
from amsdff_jax.config.encoders import EncoderConfig
from amsdff_jax.interop.encoder_files import bert_name, encoder_name, fold_segments, reason_to_ignore
from amsdff_jax.interop.weights_file import ENCODER

# What transformers calls each kind of task. Of an order of classes it knows nothing: their logits are as of single
# labels, and the model tells by its thresholds.
PROBLEM_TYPES = {
    **dict.fromkeys(("ordinal", "single"), "single_label_classification"),
    "multi_label": "multi_label_classification",
    "regression": "regression",
}
NATIVE_MODEL = "bert"  # what `ModelConfig` calls a classifier with such a head


def is_native(config: ModelConfig) -> bool:
    """Whether transformers' own class holds such a classifier; it has no thresholds between ordered classes."""
    return config.name == NATIVE_MODEL and not config.ordinal


class Native(NamedTuple):
    """The class of one family.

    Attributes:
      architecture: its name in `architectures`.
      encoder: what the encoder's names begin with.
      dense: name of the layer between the first token and the last layer.
      classifier: name of the last layer.
      dropout: name of the dropout rate of the head in `config.json`; "": it is the encoder's.
      norm: name of the norm behind the dense layer; "": there is none.
      fixed: what must stand in `config.json`, where it says anything.
      default_dropout: the rate where `config.json` has none; None: the encoder's.
    """

    architecture: str
    encoder: str
    dense: str
    classifier: str
    dropout: str
    norm: str = ""
    fixed: Mapping[str, Any] = {}
    default_dropout: float | None = None

    @property
    def modules(self) -> dict[str, str]:
        """Their names of the head's layers by ours."""
        names = {"pooler.dense": self.dense, "pooler.LayerNorm": self.norm, "classifier": self.classifier}
        return {ours: theirs for ours, theirs in names.items() if theirs}


_DENSE = ("classifier.dense", "classifier.out_proj")
NATIVE = {
    "bert": Native(
        "BertForSequenceClassification", "bert.", "bert.pooler.dense", "classifier", "classifier_dropout"
    ),
    "distilbert": Native(
        "DistilBertForSequenceClassification", "distilbert.", "pre_classifier", "classifier", "seq_classif_dropout",
        default_dropout=0.2,
    ),
    "roberta": Native("RobertaForSequenceClassification", "roberta.", *_DENSE, "classifier_dropout"),
    "electra": Native("ElectraForSequenceClassification", "electra.", *_DENSE, "classifier_dropout"),
    "mpnet": Native("MPNetForSequenceClassification", "mpnet.", *_DENSE, ""),
    "modernbert": Native(
        "ModernBertForSequenceClassification", "model.", "head.dense", "classifier", "classifier_dropout", "head.norm",
        {"classifier_activation": "gelu", "classifier_bias": False}, default_dropout=0.0,
    ),
    "deberta-v2": Native(
        "DebertaV2ForSequenceClassification", "deberta.", "pooler.dense", "classifier", "cls_dropout", "",
        {"pooler_hidden_act": "gelu"},
    ),
}  # fmt: skip


def native_values(encoder: EncoderConfig, dropout_rate: float, token_ids: Mapping[str, int]) -> dict[str, Any]:
    """What `config.json` says of such a classifier, but for its labels.

    Args:
      dropout_rate: of the head.
      token_ids: of the tokens around a text, which ModernBERT's `config.json` names, such as `cls_token_id`.
    """
    kind = NATIVE[encoder.native_type]
    values = {"architectures": [kind.architecture], **transformers_values(encoder), **kind.fixed}
    if kind.dropout:
        values[kind.dropout] = dropout_rate
    if encoder.native_type == "bert":
        values["type_vocab_size"] = 2
    elif encoder.native_type == "modernbert":
        values["initializer_cutoff_factor"] = 2.0  # of its initialization, which text-embeddings-inference asks for
        values |= token_ids
    elif encoder.native_type == "deberta-v2":
        values["pooler_hidden_size"] = encoder.dim
    return values


def to_native(tensors: Mapping[str, np.ndarray], encoder: EncoderConfig) -> dict[str, np.ndarray]:
    """The tensors of a classifier `bert` under transformers' names.

    To BERT come its segments, which are all zeros because the positions hold the one that counts.
    """
    kind = NATIVE[encoder.native_type]
    named = {}
    for name, tensor in tensors.items():
        if name.startswith(ENCODER):
            inside = name.removeprefix(ENCODER)
            named[kind.encoder + (bert_name(inside) if encoder.folded else inside)] = tensor
        else:
            module, leaf = name.rsplit(".", 1)
            named[f"{kind.modules[module]}.{leaf}"] = tensor
    if encoder.native_type == "bert":
        named["bert.embeddings.token_type_embeddings.weight"] = np.zeros((2, encoder.dim), np.float32)
    return named


def from_native(tensors: Mapping[str, np.ndarray], encoder: EncoderConfig, source: str) -> dict[str, np.ndarray]:
    """The tensors of transformers' class for the encoder's family under the names that they have here.

    What is not known keeps its name.

    Args:
      source: what error messages call the place the tensors come from.

    Raises:
      UserError: BERT's segments do not fit its positions.
    """
    kind = NATIVE[encoder.native_type]
    ours = {theirs: name for name, theirs in kind.modules.items()}
    named = {}
    for name, tensor in tensors.items():
        module, _, leaf = name.rpartition(".")
        inside = encoder_name(name.removeprefix(kind.encoder), encoder.model_type)
        if module in ours:
            named[f"{ours[module]}.{leaf}"] = tensor
        elif not name.startswith(kind.encoder):
            named[name] = tensor
        elif not reason_to_ignore(inside):
            named[ENCODER + inside] = tensor
    if encoder.folded:
        fold_segments(named, source, ENCODER)
    return named


def reads_segments(tensors: Mapping[str, np.ndarray]) -> bool:
    """Whether the second text of a pair has another segment embedding than the first, which no model here has."""
    tables = [tensor for name, tensor in tensors.items() if name.endswith("token_type_embeddings.weight")]
    return any(table.ndim == 2 and len(table) > 1 and bool((table[1:] != table[0]).any()) for table in tables)


def check_native(values: Mapping[str, Any], encoder: EncoderConfig) -> None:
    """Raises `UserError` unless `config.json` is of a classifier with the head that is known here."""
    kind = NATIVE[encoder.native_type]
    architectures = values.get("architectures") or [kind.architecture]
    if not isinstance(architectures, list) or not str(architectures[0]).endswith("ForSequenceClassification"):
        raise UserError(f"architectures is {architectures!r:.200}; expected a class such as {kind.architecture}")
    for name, expected in kind.fixed.items():
        if (values.get(name) or expected) != expected:
            raise UserError(f"{name} is {values[name]!r:.100}; only {expected!r} is supported")


def labels_of(values: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the classes in the order of the logits, or that of the number, by `id2label` of a `config.json`.

    Raises:
      UserError: it is missing, or does not name them from 0 on.
    """
    labels = values.get("id2label")
    names = [labels.get(str(number)) for number in range(len(labels))] if isinstance(labels, Mapping) else []
    if not names or not all(isinstance(name, str) for name in names):
        raise UserError(f"id2label: expected names of classes by their numbers from 0, got {labels!r:.200}")
    return tuple(map(str, names))


def read_task(values: Mapping[str, Any], number: int, ordinal: bool = False) -> str:
    """The kind of the task that a file says by `problem_type`.

    One that does not say is, as in transformers, of numbers if there is one logit, and else of single labels.

    Args:
      number: of logits.
      ordinal: whether the model has thresholds between ordered classes.

    Raises:
      UserError: it says one that is not known here, or that has another number of logits.
    """
    kinds = {problem_type: task for task, problem_type in PROBLEM_TYPES.items()}
    problem_type = values.get("problem_type") or PROBLEM_TYPES["regression" if number == 1 else "single"]
    require_choice("problem_type", problem_type, tuple(kinds))
    task = "ordinal" if ordinal and kinds[problem_type] == "single" else kinds[problem_type]
    check_task(task, number, ordinal)
    return task


def check_task(task: str, number: int, ordinal: bool) -> None:
    """Raises `UserError` unless a model can have this task, by its number of logits and by whether it has thresholds.

    Regression has one logit, any other task more; ordered classes, and only they, have thresholds between them.
    """
    expected = "ordinal of" if ordinal else "another than ordinal of"
    thresholds = "a model with thresholds between its classes" if ordinal else "a model without thresholds"
    require((task == "ordinal") == ordinal, "task", task, f"{expected} {thresholds}")
    expected = "1, more numbers a text are not supported" if task == "regression" else f"at least 2 with task {task}"
    require((number == 1) == (task == "regression"), "number of labels", number, expected)


def label_values(class_names: tuple[str, ...], task: str) -> dict[str, Any]:
    """What `config.json` of transformers says of the classes, and of the kind of the task."""
    return {
        "id2label": {str(number): name for number, name in enumerate(class_names)},
        "label2id": {name: number for number, name in enumerate(class_names)},
        "problem_type": PROBLEM_TYPES[task],
    }
