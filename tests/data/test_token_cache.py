"""Tokens are made once, and never taken for those of something else."""

import io
import os

import numpy as np
import pytest

from amsdff_jax import TextDataset
from amsdff_jax.data import token_cache
from amsdff_jax.data.token_cache import content_digest, tokenize_once
from amsdff_jax.data.tokenization import load_tokenizer


@pytest.fixture
def tokenizer(tiny_encoder, tmp_path, monkeypatch):
    monkeypatch.setenv("AMSDFF_CACHE", str(tmp_path / "cache"))
    return load_tokenizer(tiny_encoder)


def dataset(*texts, pairs=None):
    return TextDataset(texts, np.arange(len(texts)) % 2, ("a", "b"), text_pairs=pairs)


def files(tmp_path):
    return sorted((tmp_path / "cache" / "tokens").iterdir())


def same(one, other):
    return one.fingerprint == other.fingerprint and np.array_equal(one.truncated, other.truncated)


def test_a_second_time_reads_what_the_first_wrote(tokenizer, tmp_path, monkeypatch):
    data = dataset("w1 w2", "", "w3 " * 9, "é")
    first = tokenize_once(data, tokenizer, 6)
    assert first.truncated.tolist() == [False, False, True, False]
    monkeypatch.setattr(token_cache, "tokenize", lambda *_: pytest.fail("tokenized again"))
    assert same(tokenize_once(data, tokenizer, 6), first)
    assert len(files(tmp_path)) == 1


def test_other_labels_are_those_asked_for(tokenizer):
    tokenize_once(dataset("w1", "w2"), tokenizer, 6)
    other = TextDataset(("w1", "w2"), np.array([1, 1]), ("a", "b"))
    assert tokenize_once(other, tokenizer, 6).labels.tolist() == [1, 1]


def test_everything_that_tokens_depend_on_is_in_the_digest(tokenizer, tiny_encoder):
    usual = content_digest(dataset("w1", "w2"), tokenizer, 6)
    changed, literal = load_tokenizer(tiny_encoder), load_tokenizer(tiny_encoder)
    changed.add_tokens(["w1 w2"])
    literal.split_special_tokens = True
    others = [
        content_digest(dataset("w1", "w3"), tokenizer, 6),
        content_digest(dataset("w1w2", ""), tokenizer, 6),
        content_digest(dataset("w1", "w2", pairs=("", "")), tokenizer, 6),
        content_digest(dataset("w1", "w2"), tokenizer, 7),
        content_digest(dataset("w1", "w2"), tokenizer, 6, "head_tail"),
        content_digest(dataset("w1", "w2"), changed, 6),
        content_digest(dataset("w1", "w2"), literal, 6),
    ]
    assert len({usual, *others}) == 8


def packed(**arrays):
    stream = io.BytesIO()
    np.savez(stream, **{"token_ids": np.zeros(7, np.int32), "offsets": np.array([0, 3, 7]),
                        "truncated": np.zeros(2, bool), **arrays})  # fmt: skip
    return stream.getvalue()


def in_directory(data, offset):
    place = data.index(b"PK\1\2") + offset
    return data[:place] + bytes([data[place] ^ 33]) + data[place + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"PK" + data[9:],
        lambda data: in_directory(data, 8),  # encrypted
        lambda data: in_directory(data, 10),  # another compression
        lambda data: packed(token_ids=np.int32(3)), lambda data: packed(token_ids=np.zeros(7)),
        lambda data: packed(offsets=np.array([0, 8, 7])), lambda data: packed(offsets=np.array([[0], [3], [7]])),
    ],
)  # fmt: skip
def test_a_damaged_file_is_made_again(tokenizer, tmp_path, damage):
    data = dataset("w1 w2", "w3")
    first = tokenize_once(data, tokenizer, 6)
    (file,) = files(tmp_path)
    file.write_bytes(damage(file.read_bytes()))
    assert same(tokenize_once(data, tokenizer, 6), first)
    assert same(tokenize_once(data, tokenizer, 6), first)


def test_what_was_used_least_recently_goes_first(tokenizer, tmp_path, monkeypatch):
    datasets = [dataset(f"w{number}") for number in range(3)]
    for age, data in zip((30, 20), datasets[:2], strict=True):
        tokenize_once(data, tokenizer, 6)
        newest = max(files(tmp_path), key=lambda file: file.stat().st_mtime)
        os.utime(newest, (newest.stat().st_mtime - age,) * 2)
    tokenize_once(datasets[0], tokenizer, 6)  # read, and so the newer of the two
    monkeypatch.setattr(token_cache, "LARGEST_CACHE", 2 * files(tmp_path)[0].stat().st_size)
    tokenize_once(datasets[2], tokenizer, 6)
    kept = {file.stem for file in files(tmp_path)}
    assert kept == {content_digest(data, tokenizer, 6) for data in (datasets[0], datasets[2])}


def test_a_cache_that_cannot_be_written_or_is_off_changes_nothing(tokenizer, tmp_path, monkeypatch):
    data = dataset("w1 w2", "w3")
    expected = tokenize_once(data, tokenizer, 6)
    (tmp_path / "file").write_text("in the way")
    for place in (str(tmp_path / "file"), "off"):
        monkeypatch.setenv("AMSDFF_CACHE", place)
        assert same(tokenize_once(data, tokenizer, 6), expected)
