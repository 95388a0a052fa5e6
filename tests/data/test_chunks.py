"""Streams in pieces."""

import itertools
import threading

import pytest

from amsdff_jax.data.chunks import PAUSE, chunks, with_pauses


def test_chunks_grow_and_keep_everything_in_order():
    pieces = list(chunks(range(50), 3, 12, lambda _: 1, 1000))
    assert list(itertools.chain(*pieces)) == list(range(50))
    assert [len(piece) for piece in pieces] == [3, 6, 12, 12, 12, 5]


def test_large_items_end_a_chunk_early_and_pauses_end_it_at_once():
    items = ["a", "b" * 9, "c", PAUSE, PAUSE, "d"]
    assert list(chunks(items, 5, 5, len, 8)) == [["a", "b" * 9], ["c"], [], [], ["d"]]


def test_a_slow_source_pauses_and_a_fast_one_does_not():
    go_on = threading.Event()

    def slow():
        yield 1
        assert go_on.wait(10)
        yield 2

    items = with_pauses(slow(), patience=0.05, depth=3)
    assert [next(items), next(items)] == [1, PAUSE]
    go_on.set()
    assert list(items) == [2]
    assert list(with_pauses(range(1000), patience=5, depth=3)) == list(range(1000))


def test_an_error_of_the_source_comes_out():
    def broken():
        yield 1
        raise ValueError("broken")

    items = with_pauses(broken(), patience=5, depth=3)
    assert next(items) == 1
    with pytest.raises(ValueError, match="broken"):
        next(items)
