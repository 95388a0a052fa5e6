"""How long the texts are in tokens, what a `max_length` would truncate and what buckets would pad."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from amsdff_jax.config import Config, DataConfig
from amsdff_jax.data.batches import choose_buckets, plan_batches, training_buckets
from amsdff_jax.data.saved_tokenizer import Tokenizer
from amsdff_jax.data.token_cache import tokenize_once
from amsdff_jax.data.tokenization import make_windows
from amsdff_jax.data.windows import Windows
from amsdff_jax.inspection.corpus import Corpus

MAX_LENGTHS = (32, 64, 128, 256, 512)
QUANTILES = (0.5, 0.75, 0.9, 0.95, 0.99)
BUCKET_NUMBERS = (1, 2, 4, 8)
_BINS = 48
_WHOLE = 1 << 30  # tokens; no text is truncated


@dataclasses.dataclass(frozen=True)
class Lengths:
    """Tokens of the texts of one split, special ones included."""

    split: str
    texts: int
    tokens: int  # of all texts together
    smallest: int  # of the shortest text
    largest: int  # of the longest text
    quantiles: dict[float, int]  # a share of texts -> the number of tokens that so many have at most
    truncated: dict[int, int]  # a `max_length` -> how many texts are longer and would be truncated
    lost: dict[int, int]  # a `max_length` -> how many tokens would be dropped
    # a `max_length` -> how many tokens an epoch would leave out that reads at most `data.max_windows` windows of a text
    beyond_windows: dict[int, int]
    unknown_tokens: int  # that the tokenizer's vocabulary cannot write
    texts_with_unknown: int  # texts that have such a token
    # texts by length; the i-th number is of `bin_width * i` to below `bin_width * (i + 1)` tokens, the last of all
    # from there on
    histogram: tuple[int, ...]
    bin_width: int  # tokens


@dataclasses.dataclass(frozen=True)
class Buckets:
    """Padded lengths for training, and the share of padding among all that goes through the model in an epoch."""

    lengths: tuple[int, ...]
    padding: float
    of_config: bool


def measure_lengths(
    corpus: Corpus, tokenizer: Tokenizer, config: Config
) -> tuple[tuple[Lengths, ...], tuple[Buckets, ...]]:
    """Tokenizes all splits; their lengths, and buckets for the training split.

    The buckets are those that training would take under `config` and, for comparison, those for other
    numbers of them (`choose_buckets`), at the config's `max_length` and batch size.
    """
    measured = []
    for dataset in corpus.datasets:
        tokens = tokenize_once(dataset, tokenizer, _WHOLE)
        number = tokenizer.unk_token_id
        unknown = [] if number is None else np.flatnonzero(tokens.token_ids == number)
        measured.append((tokens.lengths, np.searchsorted(tokens.offsets, unknown, side="right")))
    everything = np.concatenate([lengths for lengths, _ in measured])
    width = max(1, int(np.ceil((np.quantile(everything, 0.995) + 1) / _BINS)))
    limits = sorted({*MAX_LENGTHS, config.data.max_length})
    held = {limit: _windows(limit, tokenizer, config).length(config.data.max_windows) for limit in limits}
    results = tuple(
        _describe(split, lengths, unknown, width, held)
        for split, (lengths, unknown) in zip(corpus.names, measured, strict=True)
    )
    return results, compare_buckets(measured[0][0], config, make_windows(config.data, tokenizer))


def _windows(max_length: int, tokenizer: Tokenizer, config: Config) -> Windows:
    """Those of the config at another size, with less overlap where they are too small for it."""
    data = DataConfig(max_length=max_length, long_texts="windows", window_overlap=0)
    windows: Any = make_windows(data, tokenizer)
    return dataclasses.replace(windows, overlap=min(config.data.window_overlap, windows.capacity // 2))


def compare_buckets(lengths: np.ndarray, config: Config, windows: Windows | None = None) -> tuple[Buckets, ...]:
    """The buckets that training would take first, then others, fewest first.

    Args:
      lengths: [N] tokens of the training texts, uncut.
      windows: of the config; None: texts are truncated.
    """
    longest = config.data.max_length
    lengths = np.minimum(lengths, windows.length(config.data.max_windows) if windows else longest)
    own = training_buckets(lengths, config, windows)
    others = [choose_buckets(lengths, number, longest, windows) for number in BUCKET_NUMBERS]
    return tuple(
        Buckets(buckets, padding_share(lengths, buckets, config), buckets == own)
        for buckets in dict.fromkeys([own, *others])
    )


def padding_share(lengths: np.ndarray, buckets: Sequence[int], config: Config) -> float:
    """The share of padding in the first epoch's batches.

    Args:
      lengths: [N] tokens of the texts, none above the last bucket.
    """
    plan = plan_batches(lengths, buckets, config.train.batch_size, (config.seed, 0))
    return 1 - int(lengths.sum()) / sum(planned.length * len(planned.indices) for planned in plan)


def _describe(split: str, lengths: np.ndarray, unknown: np.ndarray, width: int, held: Mapping[int, int]) -> Lengths:
    """The numbers of a split; `held` has the tokens that the windows of an epoch hold, by `max_length`."""
    quantiles = np.quantile(lengths, QUANTILES, method="inverted_cdf")
    return Lengths(
        split=split,
        texts=len(lengths),
        tokens=int(lengths.sum()),
        smallest=int(lengths.min()),
        largest=int(lengths.max()),
        quantiles=dict(zip(QUANTILES, quantiles.astype(int).tolist(), strict=True)),
        truncated={limit: int((lengths > limit).sum()) for limit in held},
        lost={limit: int(np.maximum(lengths - limit, 0).sum()) for limit in held},
        beyond_windows={limit: int(np.maximum(lengths - most, 0).sum()) for limit, most in held.items()},
        unknown_tokens=len(unknown),
        texts_with_unknown=len(np.unique(unknown)),
        histogram=tuple(np.bincount(np.minimum(lengths // width, _BINS - 1), minlength=_BINS).tolist()),
        bin_width=width,
    )
