"""The batch plan and what is made of it."""

import threading

import jax
import numpy as np
import pytest

from amsdff_jax.data.batches import FILLER, choose_buckets, make_batch, plan_batches, plan_inference
from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.data.prefetch import prefetch
from amsdff_jax.data.stream import BatchStream
from amsdff_jax.data.tokenization import load_tokenizer, tokenize
from amsdff_jax.data.windows import Windows
from amsdff_jax.parallel.data_parallel import DataParallel

LENGTHS = np.random.default_rng(0).integers(3, 90, 217)


@pytest.mark.parametrize("order_seed", [None, (0, 0), (3, 1)])
@pytest.mark.parametrize("batch_size", [1, 10, 217, 500])
@pytest.mark.parametrize("buckets", [(96,), (16, 40, 64, 96)])
def test_every_text_once_and_only_one_batch_with_filler(order_seed, batch_size, buckets):
    plan = plan_batches(LENGTHS, buckets, batch_size, order_seed)
    assert len(plan) == -(-217 // batch_size)
    indices = np.concatenate([planned.indices for planned in plan])
    assert sorted(indices[indices != FILLER]) == list(range(217))
    assert sum(FILLER in planned.indices for planned in plan) == (217 % batch_size > 0)
    for planned in plan:
        assert planned.indices.shape == (batch_size,)
        assert LENGTHS[planned.indices[planned.indices != FILLER]].max() <= planned.length
        assert planned.length in buckets


@pytest.mark.parametrize("devices", [1, 4])
def test_long_texts_share_batches_of_as_many_tokens_and_leave_the_others_alone(devices):
    windows = Windows(24, 4, 1, 1)
    plan = plan_inference(LENGTHS, (16, 24), 12, devices, windows)
    indices = np.concatenate([planned.indices for planned in plan])
    assert sorted(indices[indices != FILLER]) == list(range(217))
    short = np.flatnonzero(LENGTHS <= 24)
    own = [planned for planned in plan if planned.length <= 24]
    for planned, expected in zip(own, plan_batches(LENGTHS[short], (16, 24), 12), strict=True):
        assert planned.length == expected.length
        np.testing.assert_array_equal(planned.indices, np.where(expected.indices < 0, FILLER, short[expected.indices]))
    for planned in plan[len(own) :]:
        assert planned.length in windows.buckets(90)
        real = LENGTHS[planned.indices[planned.indices != FILLER]]
        assert real.min() > 24 and real.max() <= planned.length
        assert len(planned.indices) == max(12 * 24 // planned.length // devices, 1) * devices
    assert plan_inference(LENGTHS[short], (16, 24), 12, devices, windows)[-1].length <= 24


def test_plan_is_a_function_of_seed_and_epoch():
    def rows(*order_seed):
        return [planned.indices.tolist() for planned in plan_batches(LENGTHS, (48, 96), 10, order_seed)]

    assert rows(0, 1) == rows(0, 1)
    assert rows(0, 1) != rows(0, 2) != rows(1, 2)


def test_buckets_waste_less_than_any_other_choice():
    lengths = np.array([5] * 50 + [20] * 30 + [60] * 5 + [61] * 5)

    def padding(buckets):
        return sum(min(bucket for bucket in buckets if bucket >= length) for length in lengths)

    candidates = range(8, 65, 8)
    for number in (1, 2, 3):
        chosen = choose_buckets(lengths, number, 128)
        options = [(64,)] if number == 1 else []
        options += [(a, 64) for a in candidates if a < 64] if number >= 2 else []
        options += [(a, b, 64) for a in candidates for b in candidates if a < b < 64] if number >= 3 else []
        assert len(chosen) <= number
        assert padding(chosen) == min(map(padding, options))


def test_buckets_never_exceed_the_maximal_length():
    assert choose_buckets(np.array([3, 30, 30]), 2, 30) == (8, 30)


@pytest.fixture
def tokenized(tiny_encoder):
    texts = ["w1 w2 w3", "", "W4 unknown", "w5 " * 50]
    return tokenize(TextDataset(texts, [0, 1, 1, 0], ("a", "b")), load_tokenizer(tiny_encoder), max_length=10)


def test_batch_pads_behind_and_masks_filler(tokenized):
    planned = plan_batches(tokenized.lengths, (10,), 5)[0]
    batch = make_batch(tokenized, planned)
    assert batch.attention_mask.sum(axis=1).tolist() == [5, 2, 4, 10, 0]
    assert batch.input_ids[0].tolist() == [2, 6, 7, 8, 3, 0, 0, 0, 0, 0]
    assert batch.labels.tolist() == [0, 1, 1, 0, 0]


def test_prefetch_keeps_order_runs_ahead_and_hands_errors_over():
    assert list(prefetch(iter(range(20)))) == list(range(20))
    made = []

    def numbers():
        for number in range(10):
            made.append(number)
            yield number
        raise KeyError("broken source")

    ahead = prefetch(numbers(), depth=3)
    assert next(ahead) == 0
    with pytest.raises(KeyError, match="broken source"):
        list(ahead)
    assert made == list(range(10))


def test_prefetch_ends_its_thread_when_the_consumer_stops():
    before = threading.active_count()
    items = prefetch(iter(range(1000)))
    next(items)
    items.close()
    assert threading.active_count() == before


@pytest.mark.parametrize("windows", [None, Windows(8, 2, 1, 1)])
def test_the_batch_of_a_step_is_the_same_wherever_the_stream_begins(windows, tiny_config, tiny_data):
    reading = "windows" if windows else "truncate"
    tokens = tokenize(tiny_data.train, load_tokenizer(tiny_config.model.encoder), 24, reading)
    config = tiny_config.replace(data__num_buckets=2, data__max_windows=2)
    stream = BatchStream(tokens, config, DataParallel(devices=jax.devices()[:1]), windows)
    assert stream.buckets[-1] == (windows.length(2) if windows else 24)
    assert stream.steps_per_epoch == 9
    whole = [*stream.batches(0, 27)]
    assert len(whole) == 27
    for first, last in ((0, 4), (4, 5), (8, 10), (9, 18), (17, 27), (26, 27), (5, 5)):
        for batch, expected in zip(stream.batches(first, last), whole[first:last], strict=True):
            jax.tree.map(np.testing.assert_array_equal, batch, expected)
        lengths = {batch.input_ids.shape[1] for batch in whole[first:last]}
        assert stream.batch_by_length(first, last).keys() == lengths
