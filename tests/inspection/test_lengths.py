import numpy as np
import pytest

from amsdff_jax.config import Config
from amsdff_jax.data.batches import choose_buckets, training_buckets
from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.data.sources import DataSplits
from amsdff_jax.data.tokenization import load_tokenizer, tokenize
from amsdff_jax.inspection.corpus import Corpus
from amsdff_jax.inspection.lengths import compare_buckets, measure_lengths, padding_share
from tests.conftest import make_texts

CONFIG = Config.from_dict({"data": {"max_length": 15, "num_buckets": 2}, "train": {"batch_size": 7}})


def dataset(texts, pairs=None):
    return TextDataset(texts, [0] * len(texts), ("A", "B"), text_pairs=pairs)


@pytest.fixture
def tokenizer(tiny_encoder):
    return load_tokenizer(tiny_encoder)


def measure(tokenizer, train, test=None):
    return measure_lengths(Corpus(DataSplits(train, dataset(["w1"]), test)), tokenizer, CONFIG)


def test_lengths_and_truncation_are_those_of_tokenize(tokenizer):
    train = dataset(make_texts(61, 3)[0], pairs=make_texts(61, 4)[0])
    (found, _), _ = measure(tokenizer, train)
    lengths = tokenize(train, tokenizer, 1000).lengths
    assert (found.texts, found.tokens) == (61, lengths.sum())
    assert (found.smallest, found.largest) == (lengths.min(), lengths.max())
    for limit in (15, 32):
        cut = tokenize(train, tokenizer, limit)
        assert found.truncated[limit] == cut.truncated.sum() > 0
        assert found.lost[limit] == lengths.sum() - cut.lengths.sum()
    assert list(found.truncated) == [15, 32, 64, 128, 256, 512]
    assert found.truncated[64] == found.lost[64] == 0


def test_quantiles_are_lengths_that_so_many_have_at_most(tokenizer):
    train = dataset([" ".join(["w1"] * number) for number in range(1, 101)])  # 3 to 102 tokens
    (found, _), _ = measure(tokenizer, train)
    assert found.quantiles == {0.5: 52, 0.75: 77, 0.9: 92, 0.95: 97, 0.99: 101}


def test_the_histogram_counts_every_text_where_it_belongs(tokenizer):
    train = dataset(["w1"] * 5 + ["w1 w2 w3"] * 3 + [" ".join(["w4"] * 200)])
    (found, validation), _ = measure(tokenizer, train)
    assert sum(found.histogram) == 9
    assert found.bin_width == validation.bin_width == 5  # 48 bars for 202 tokens
    assert {index: count for index, count in enumerate(found.histogram) if count} == {0: 5, 1: 3, 40: 1}


def test_unknown_tokens(tokenizer):
    (found, other), _ = measure(tokenizer, dataset(["w1 unheard w2", "w3", "of of", "w4"]))
    assert (found.unknown_tokens, found.texts_with_unknown) == (3, 2)
    assert (other.unknown_tokens, other.texts_with_unknown) == (0, 0)


def test_texts_that_no_tokenizer_takes_are_measured(tokenizer):
    (found, _), _ = measure(tokenizer, dataset(["w1 \ud800 w2", "", "w1\0"]))
    assert found.texts == 3


@pytest.mark.parametrize("changes", [{}, {"data__buckets": (9, 24)}, {"model__mask_padding": False}])
def test_the_first_buckets_are_those_of_training(tokenizer, changes):
    train = dataset(make_texts(61, 5)[0])
    config = CONFIG.replace(data__max_length=24, **changes)
    first, *others = compare_buckets(tokenize(train, tokenizer, 1000).lengths, config)
    assert first.lengths == training_buckets(tokenize(train, tokenizer, 24).lengths, config)
    assert first.of_config
    assert not any(one.of_config for one in others)


def test_the_others_are_chosen_by_choose_buckets_and_each_is_there_once(tokenizer):
    lengths = tokenize(dataset(make_texts(61, 6)[0]), tokenizer, 1000).lengths
    config = CONFIG.replace(data__max_length=40)
    buckets = [one.lengths for one in compare_buckets(lengths, config)]
    assert set(buckets) == {choose_buckets(lengths, number, 40) for number in (1, 2, 4, 8)}
    assert len(buckets) == len(set(buckets))


def test_padding_is_what_the_batches_hold_beside_tokens():
    # Batches of 7: one of length 8 with 7 * 5 tokens, one of length 15 with 2 * 5 + 3 * 15 tokens and 2 rows of filler.
    lengths = np.array([5] * 9 + [15] * 3)
    share = padding_share(lengths, (8, 15), CONFIG)
    assert share == pytest.approx(1 - (9 * 5 + 3 * 15) / (7 * 8 + 7 * 15))
