"""Datasets that are stored because a limit has been lowered, for tests and for processes of their own."""

import json
import os
import random
import resource
import signal
from pathlib import Path

import numpy as np

from amsdff_jax.config import DataConfig
from amsdff_jax.data import labelled_rows, token_cache
from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.data.files import read_file
from amsdff_jax.data.mapped_rows import RowsWriter
from amsdff_jax.data.stored_datasets import TextStore
from amsdff_jax.data.stored_texts import StoredTexts
from amsdff_jax.data.token_cache import tokenize_once
from amsdff_jax.data.tokenization import load_tokenizer

LETTERS = ["w1 w2", "w3", "é", "", " ", "\U0001f600", "的 w4", "w5\nw6", 'w7 "w8"', "\0", "w9 " * 40]
HALVES = ["\ud800 w1", "w2 \udc00", "\ud83d\ude00"]  # of characters; the last is a pair, which JSON joins


def store_soon(patch=setattr) -> None:
    """Lets a dataset of more than about 20 texts be stored, a few at a time; tokens likewise."""
    for module, name, value in (
        (labelled_rows, "LARGEST_IN_MEMORY", 2500),
        (labelled_rows, "PIECE", 700),
        (token_cache, "PIECE", 50),
    ):
        patch(module, name, value)


def assert_same(lists: TextDataset, stored: TextDataset) -> None:
    """Every field of a stored dataset is what it is of one in memory, bit for bit."""
    np.testing.assert_array_equal(stored.ratings, lists.ratings)
    for name in ("texts", "text_pairs", "ids"):
        expected, got = getattr(lists, name), getattr(stored, name)
        assert (expected is None) == (got is None)
        if expected is not None:
            assert isinstance(got, StoredTexts)
            assert list(got) == list(expected)
            assert [got[row] for row in range(len(got))] == list(expected)
    np.testing.assert_array_equal(stored.labels, lists.labels)
    assert stored.labels.dtype == lists.labels.dtype
    assert stored.labels.tobytes() == lists.labels.tobytes()
    assert (stored.class_names, stored.name, stored.task) == (lists.class_names, lists.name, lists.task)
    assert stored.fingerprint == lists.fingerprint
    assert stored.fingerprint == lists.fingerprint  # as it is remembered


def write_rows(path: Path, number: int, label=lambda row: "ab"[row % 2], seed: int = 0) -> str:
    """JSON lines with the columns `text`, `pair` and `label`, or those of the dict that `label` gives."""
    choice = random.Random(seed)
    with path.open("w") as stream:
        for row in range(number):
            text, pair = (" ".join(choice.choices(LETTERS + HALVES, k=choice.randint(1, 4))) for _ in range(2))
            value = label(row)
            labels = value if isinstance(value, dict) else {"label": value}
            stream.write(json.dumps({"text": text, "pair": pair, **labels}) + "\n")
    return str(path)


def tokens_of(path: str, encoder: str) -> tuple[TextDataset, str]:
    """A file's dataset, and the fingerprint of its tokens."""
    dataset = read_file(path, DataConfig())
    return dataset, tokenize_once(dataset, load_tokenizer(encoder), 9).fingerprint


def work(cache: str, path: str, encoder: str, answer: str, disturbance: str = "") -> None:
    """Reads and tokenizes a file in a process of its own, which may be killed, and writes down what it is."""
    os.environ["AMSDFF_CACHE"] = cache
    store_soon()
    if disturbance == "reading":
        _kill_at_third(TextStore, "append", None)
    if disturbance == "tokenizing":
        _kill_at_third(RowsWriter, "commit", np.int32)
    if disturbance == "full":  # a file that grows beyond this is an error as a full disk is
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    try:
        dataset, fingerprint = tokens_of(path, encoder)
        content = f"{dataset.fingerprint} {fingerprint}"
    except Exception as error:
        content = f"{type(error).__name__}: {error}"
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    Path(answer).write_text(content)


def _kill_at_third(owner: type, name: str, dtype: type | None) -> None:
    function, calls = getattr(owner, name), []

    def killing(self, *arguments):
        function(self, *arguments)
        if dtype is None or self._dtype == dtype:
            calls.append(None)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, name, killing)
