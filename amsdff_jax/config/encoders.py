"""Sizes of pretrained encoders, family by family, and how transformers' `config.json` writes them."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.validation import build, require, shown

# What is larger is a mistake, which would take all memory or time before it came out.
LARGEST_SIZE, MOST_MODULES = 1 << 24, 1000


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
    """Sizes of DistilBERT, under the names of transformers' `DistilBertConfig`; of BERT too, which is folded into it.

    Other families have these fields too, and some of their own.
    """

    model_type: ClassVar[str] = "distilbert"  # transformers' name of the family

    vocab_size: int = 30522
    max_position_embeddings: int = 512
    dim: int = 768
    n_layers: int = 6
    n_heads: int = 12
    hidden_dim: int = 3072
    dropout: float = 0.1
    attention_dropout: float = 0.1
    initializer_range: float = 0.02
    pad_token_id: int = 0

    def __post_init__(self) -> None:
        for name in ("vocab_size", "max_position_embeddings", "dim", "n_layers", "n_heads", "hidden_dim"):
            _check_size(name, getattr(self, name), MOST_MODULES if name == "n_layers" else LARGEST_SIZE)
        for name in ("dropout", "attention_dropout"):
            require(0 <= getattr(self, name) < 1, f"encoder {name}", getattr(self, name), "from 0 to below 1")
        require(
            0 <= self.initializer_range < 1, "encoder initializer_range", self.initializer_range, "from 0 to below 1"
        )
        has_padding, expected = (
            0 <= self.pad_token_id < self.vocab_size,
            f"from 0 to below vocab_size={self.vocab_size}",
        )
        require(has_padding, "encoder pad_token_id", self.pad_token_id, expected)
        require(self.dim % self.n_heads == 0, "encoder dim", self.dim, f"a multiple of n_heads={self.n_heads}")

    @property
    def max_tokens(self) -> int:
        """The tokens that a text may have."""
        return self.max_position_embeddings


@dataclasses.dataclass(frozen=True)
class PostNormConfig(EncoderConfig):
    """What the families have in common that were made of BERT; the defaults are those of transformers' classes."""

    n_layers: int = 12
    layer_norm_eps: float = 1e-12

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_epsilon("layer_norm_eps", self.layer_norm_eps)


@dataclasses.dataclass(frozen=True)
class RobertaConfig(PostNormConfig):
    """Sizes of RoBERTa, DistilRoBERTa, XLM-RoBERTa and CamemBERT."""

    model_type: ClassVar[str] = "roberta"

    vocab_size: int = 50265
    pad_token_id: int = 1
    type_vocab_size: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_size("type_vocab_size", self.type_vocab_size)
        _check_positions_after_padding(self)

    @property
    def max_tokens(self) -> int:
        """The tokens that a text may have: positions are counted from `pad_token_id` + 1 on."""
        return self.max_position_embeddings - self.pad_token_id - 1


@dataclasses.dataclass(frozen=True)
class ElectraConfig(PostNormConfig):
    """Sizes of ELECTRA, whose embeddings may be narrower than its blocks."""

    model_type: ClassVar[str] = "electra"

    dim: int = 256
    n_heads: int = 4
    hidden_dim: int = 1024
    type_vocab_size: int = 2
    embedding_size: int = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_size("type_vocab_size", self.type_vocab_size)
        _check_size("embedding_size", self.embedding_size)


@dataclasses.dataclass(frozen=True)
class MPNetConfig(PostNormConfig):
    """Sizes of MPNet."""

    model_type: ClassVar[str] = "mpnet"

    vocab_size: int = 30527
    pad_token_id: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_positions_after_padding(self)

    @property
    def max_tokens(self) -> int:
        """The tokens that a text may have: positions are counted from `pad_token_id` + 1 on."""
        return self.max_position_embeddings - self.pad_token_id - 1


@dataclasses.dataclass(frozen=True)
class ModernBertConfig(EncoderConfig):
    """Sizes of ModernBERT and mmBERT. `dropout` is that of the feed-forwards."""

    model_type: ClassVar[str] = "modernbert"

    vocab_size: int = 50368
    max_position_embeddings: int = 8192
    n_layers: int = 22
    hidden_dim: int = 1152
    dropout: float = 0.0
    attention_dropout: float = 0.0
    pad_token_id: int = 50283
    embedding_dropout: float = 0.0
    norm_eps: float = 1e-5
    local_attention: int = 128  # how many tokens a local attention sees, half of them to either side
    global_attn_every_n_layers: int = 3  # the first and every so many blocks later one attends everywhere
    global_rope_theta: float = 160_000.0
    local_rope_theta: float = 10_000.0

    def __post_init__(self) -> None:
        super().__post_init__()
        rate = self.embedding_dropout
        require(0 <= rate < 1, "encoder embedding_dropout", rate, "from 0 to below 1")
        _check_epsilon("norm_eps", self.norm_eps)
        _check_size("global_attn_every_n_layers", self.global_attn_every_n_layers)
        fits = 2 <= self.local_attention <= LARGEST_SIZE
        require(fits, "encoder local_attention", self.local_attention, f"at least 2, at most {LARGEST_SIZE:,}")
        for name in ("global_rope_theta", "local_rope_theta"):
            theta = getattr(self, name)
            require(1 <= theta < math.inf, f"encoder {name}", theta, "a number of at least 1")
        even = self.dim % (2 * self.n_heads) == 0
        require(even, "encoder dim", self.dim, f"an even number of features for each of n_heads={self.n_heads}")


@dataclasses.dataclass(frozen=True)
class DebertaConfig(PostNormConfig):
    """Sizes of DeBERTa-v3."""

    model_type: ClassVar[str] = "deberta-v2"

    vocab_size: int = 128100
    dim: int = 1536
    n_layers: int = 24
    n_heads: int = 24
    hidden_dim: int = 6144
    layer_norm_eps: float = 1e-7
    position_buckets: int = -1
    max_relative_positions: int = -1  # below 1: max_position_embeddings

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_size("position_buckets", self.position_buckets)
        reaches = 1 <= self.position_buckets // 2 < self.farthest - 1 <= LARGEST_SIZE
        expected = f"from 2 to below twice the farthest distance, {self.farthest - 1}"
        require(reaches, "encoder position_buckets", self.position_buckets, expected)

    @property
    def farthest(self) -> int:
        """The distance from which on all are one."""
        return self.max_relative_positions if self.max_relative_positions >= 1 else self.max_position_embeddings


def _check_epsilon(name: str, epsilon: float) -> None:
    require(0 < epsilon < 1, f"encoder {name}", epsilon, "above 0 and below 1")


def _check_size(name: str, size: int, largest: int = LARGEST_SIZE) -> None:
    require(0 < size <= largest, f"encoder {name}", size, f"a positive number, at most {largest:,}")


def _check_positions_after_padding(config: EncoderConfig) -> None:
    positions, expected = config.max_position_embeddings, f"at least 4 more than pad_token_id={config.pad_token_id}"
    require(config.max_tokens >= 3, "encoder max_position_embeddings", positions, expected)


class Family(NamedTuple):
    """How transformers' `config.json` of one `model_type` becomes an `EncoderConfig`.

    Attributes:
      config: the class that it becomes.
      names: transformers' names of the fields, by ours, where the two differ.
      fixed: what must stand there, and what transformers takes where nothing does; everything else is another model.
      adapt: gives what is written in other ways the form that is read here.
    """

    config: type[EncoderConfig]
    names: Mapping[str, str]
    fixed: Mapping[str, tuple[Any, Any]]
    adapt: Callable[[dict[str, Any]], dict[str, Any]] = dict


# The names of transformers' `BertConfig`, and of the families that were made of it.
BERT_NAMES = {
    "dim": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "hidden_dim": "intermediate_size",
    "dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
}
GELU = {"hidden_act": ("gelu", "gelu")}
ABSOLUTE = {"position_embedding_type": ("absolute", "absolute"), **GELU}
MODERNBERT_NAMES = {name: BERT_NAMES[name] for name in ("dim", "n_layers", "n_heads", "hidden_dim")}
MODERNBERT_FIXED = {
    "hidden_activation": ("gelu", "gelu"),
    "attention_bias": (False, False),
    "mlp_bias": (False, False),
    "norm_bias": (False, False),
}
# What makes transformers' DebertaV2Model that of v3.
DEBERTA_FIXED = GELU | {
    "relative_attention": (True, False),
    "share_att_key": (True, False),
    "pos_att_type": (["p2c", "c2p"], None),
    "norm_rel_ebd": ("layer_norm", "none"),
    "position_biased_input": (False, True),
    "type_vocab_size": (0, 0),
    "conv_kernel_size": (0, 0),
}


def _adapt_modernbert(values: dict[str, Any]) -> dict[str, Any]:
    """Since version 5 of transformers blocks are listed one by one, and their rotary bases stand in a dict."""
    kinds, ropes = values.pop("layer_types", None), values.pop("rope_parameters", None)
    if isinstance(kinds, list) and kinds:
        every = kinds.index("full_attention", 1) if "full_attention" in kinds[1:] else len(kinds)
        expected = ["sliding_attention" if number % every else "full_attention" for number in range(len(kinds))]
        require(kinds == expected, "layer_types", kinds, "full_attention first and at equal distances")
        values["global_attn_every_n_layers"] = every
    for kind, name in {"full_attention": "global_rope_theta", "sliding_attention": "local_rope_theta"}.items():
        rope = ropes.get(kind) if isinstance(ropes, dict) else None
        if isinstance(rope, dict):
            plain = rope.get("rope_type", "default") == "default"
            require(plain, f"rope_parameters.{kind}.rope_type", rope.get("rope_type"), "'default'")
            values |= {name: rope["rope_theta"]} if "rope_theta" in rope else {}
    return values


def _adapt_deberta(values: dict[str, Any]) -> dict[str, Any]:
    """The kinds of attention may be joined by `|`, in any order."""
    kinds = values.get("pos_att_type")
    kinds = kinds.lower().replace(" ", "").split("|") if isinstance(kinds, str) else kinds
    same = isinstance(kinds, list) and len(kinds) == 2 and set(map(str, kinds)) == {"p2c", "c2p"}
    return values | {"pos_att_type": ["p2c", "c2p"] if same else kinds}


ROBERTA = Family(RobertaConfig, BERT_NAMES, ABSOLUTE)

FAMILIES = {
    "distilbert": Family(EncoderConfig, {}, {"activation": ("gelu", "gelu")}),
    "bert": Family(EncoderConfig, BERT_NAMES, ABSOLUTE | {"layer_norm_eps": (1e-12, 1e-12)}),
    "roberta": ROBERTA,
    "xlm-roberta": ROBERTA,
    "camembert": ROBERTA,
    "electra": Family(ElectraConfig, BERT_NAMES, ABSOLUTE),
    # transformers' class takes no other number of buckets and no other padding token.
    "modernbert": Family(
        ModernBertConfig, MODERNBERT_NAMES | {"dropout": "mlp_dropout"}, MODERNBERT_FIXED, _adapt_modernbert
    ),
    "deberta-v2": Family(DebertaConfig, BERT_NAMES, DEBERTA_FIXED, _adapt_deberta),
    "mpnet": Family(
        MPNetConfig, BERT_NAMES, GELU | {"relative_attention_num_buckets": (32, 32), "pad_token_id": (1, 1)}
    ),
}


def read_encoder_values(values: Mapping[str, Any]) -> EncoderConfig:
    """The sizes in what a `config.json` of transformers holds; what does not matter here is left out.

    Raises:
      UserError: a kind of model that is not there, a variant of one, or sizes that are none.
    """
    family, values = _find_family(values)
    names = {family.names.get(field.name, field.name): field.name for field in dataclasses.fields(family.config)}
    return build(family.config, {names[name]: value for name, value in values.items() if name in names}, "")


def read_saved_encoder(values: Any) -> EncoderConfig:
    """The sizes in what `encoder_values` gave, as model folders and runs hold it under `encoder`.

    Raises:
      UserError: as `read_encoder_values`; a name that is not known.
    """
    if not isinstance(values, Mapping):
        raise UserError(f"encoder: expected names and values, got {shown(values)}")
    values = {"model_type": EncoderConfig.model_type, **values}
    family, values = _find_family(values)
    ours = {theirs: name for name, theirs in family.names.items()}
    own = {name: value for name, value in values.items() if name not in ("model_type", *family.fixed)}
    return build(family.config, {ours.get(name, name): value for name, value in own.items()}, "encoder.")


def encoder_values(config: EncoderConfig) -> dict[str, Any]:
    """The sizes under transformers' names, and all else that its class for the encoder needs to be told."""
    family = FAMILIES[config.model_type]
    values = {family.names.get(name, name): value for name, value in dataclasses.asdict(config).items()}
    if config.model_type == EncoderConfig.model_type:
        return values  # as when there was no other family
    return {"model_type": config.model_type, **values, **{name: value for name, (value, _) in family.fixed.items()}}


def _find_family(values: Mapping[str, Any]) -> tuple[Family, dict[str, Any]]:
    """The family that `values` are of, and what its `adapt` makes of them."""
    model_type = values.get("model_type")
    family = FAMILIES.get(model_type) if isinstance(model_type, str) else None
    if family is None:
        known = ", ".join(map(repr, FAMILIES))
        raise UserError(f"model_type is {model_type!r:.100}, expected {known}, or a classifier's 'amsdff'")
    adapted = family.adapt(dict(values))
    for name, (expected, default) in family.fixed.items():
        if adapted.get(name, default) != expected:
            raise UserError(f"{name} is {adapted.get(name, default)!r:.100}; only {expected!r} is supported")
    return family, adapted
