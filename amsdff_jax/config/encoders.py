"""Sizes of pretrained encoders, family by family; the defaults are those of transformers' classes."""

import dataclasses
import math
from typing import ClassVar

from amsdff_jax.base.validation import require, require_choice

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
    # Whether it was BERT, whose head for classification is another; the encoder is the same.
    folded: bool = dataclasses.field(default=False, compare=False)

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
    def native_type(self) -> str:
        """The family in transformers whose class for sequence classification stands on this encoder."""
        return "bert" if self.folded else self.model_type

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
class CountedAfterPaddingConfig(PostNormConfig):
    """Sizes of encoders whose positions are counted from `pad_token_id` + 1 on, which is fairseq's way."""

    pad_token_id: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        positions, expected = self.max_position_embeddings, f"at least 4 more than pad_token_id={self.pad_token_id}"
        require(self.max_tokens >= 3, "encoder max_position_embeddings", positions, expected)

    @property
    def max_tokens(self) -> int:
        """The tokens that a text may have."""
        return self.max_position_embeddings - self.pad_token_id - 1


@dataclasses.dataclass(frozen=True)
class RobertaConfig(CountedAfterPaddingConfig):
    """Sizes of RoBERTa, DistilRoBERTa, XLM-RoBERTa and CamemBERT."""

    model_type: ClassVar[str] = "roberta"

    vocab_size: int = 50265
    type_vocab_size: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_size("type_vocab_size", self.type_vocab_size)


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
class MPNetConfig(CountedAfterPaddingConfig):
    """Sizes of MPNet."""

    model_type: ClassVar[str] = "mpnet"

    vocab_size: int = 30527


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
    classifier_pooling: str = "cls"  # what transformers' head for classification reads: the first token, or the mean

    def __post_init__(self) -> None:
        super().__post_init__()
        rate = self.embedding_dropout
        require(0 <= rate < 1, "encoder embedding_dropout", rate, "from 0 to below 1")
        _check_epsilon("norm_eps", self.norm_eps)
        _check_size("global_attn_every_n_layers", self.global_attn_every_n_layers)
        require_choice("encoder classifier_pooling", self.classifier_pooling, ("cls", "mean"))
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
