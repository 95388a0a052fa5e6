"""Texts become the tokens that transformers makes of them, in pieces that bound the memory."""

import os
import signal

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from amsdff_jax import TextDataset
from amsdff_jax.data import tokenization
from amsdff_jax.data.tokenization import load_tokenizer, tokenize, whole_characters

TEXTS = ["w1 w2 w3", "", "W4 unknown", "w5 " * 50, "é w6", "w7", "[SEP] w8", "😀 " * 30, "w9 " * 8, " "]


@pytest.fixture
def tokenizer(tiny_encoder):
    return load_tokenizer(tiny_encoder)


def dataset(texts, pairs=None):
    return TextDataset(texts, np.arange(len(texts)) % 2, ("a", "b"), text_pairs=pairs)


def byte_level():
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", *letters, "Ġw"])}
    backend = Tokenizer(models.BPE(vocabulary, [("Ġ", "w")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", unk_token="<unk>")


def bare():
    """One that adds no special tokens, so that some texts have no token at all."""
    backend = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1, "w1": 2, "w5": 3}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]")


KINDS = {
    "WordPiece": lambda own: own,
    "truncated on the left": lambda own: setattr(own, "truncation_side", "left") or own,
    "special tokens in texts are text": lambda own: setattr(own, "split_special_tokens", True) or own,
    "byte-level BPE": lambda own: byte_level(),
    "no special tokens": lambda own: bare(),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pairs", [None, TEXTS[::-1]])
@pytest.mark.parametrize("limits", [(1000, 1 << 20), (3, 1 << 20), (4, 60)])
def test_tokens_are_those_of_transformers_however_the_texts_are_divided(kind, pairs, limits, tokenizer, monkeypatch):
    monkeypatch.setattr(tokenization, "TEXTS_PER_CALL", limits[0])
    monkeypatch.setattr(tokenization, "CHARACTERS_PER_CALL", limits[1])
    tokenizer = KINDS[kind](tokenizer)
    tokens = tokenize(dataset(TEXTS, pairs), tokenizer, 10)
    expected = tokenizer(TEXTS, pairs, truncation=True, max_length=10)
    rows = [tokens.token_ids[a:b].tolist() for a, b in zip(tokens.offsets, tokens.offsets[1:], strict=False)]
    assert rows == [ids or [tokenizer.unk_token_id] for ids in expected.input_ids]
    assert tokens.truncated.tolist() == [bool(encoding.overflowing) for encoding in expected.encodings]
    assert tokens.truncated.any()
    assert tokens.labels.tolist() == [0, 1] * 5
    assert [numbers.dtype for numbers in (tokens.token_ids, tokens.offsets, tokens.truncated)] == ["i4", "i8", "?"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pairs", [None, [text.strip() or "w6" for text in TEXTS[::-1]]])
@pytest.mark.parametrize("max_length", [6, 10, 13])
def test_head_and_tail_are_the_first_quarter_and_the_last_three(kind, pairs, max_length, tokenizer):
    tokenizer = KINDS[kind](tokenizer)
    tokens = tokenize(dataset(TEXTS, pairs), tokenizer, max_length, "head_tail")
    for row, whole in enumerate(tokenizer(TEXTS, pairs).encodings):
        ids = tokens.token_ids[tokens.offsets[row] : tokens.offsets[row + 1]].tolist()
        pair = pairs[row] if pairs else None
        truncated = tokenizer(TEXTS[row], pair, truncation=True, max_length=max_length).encodings[0]
        assert tokens.truncated[row] == (len(whole) > max_length)
        expected = []
        for owner in (None, 0, 1):
            own = [id for id, other in zip(whole.ids, whole.sequence_ids, strict=True) if other == owner]
            share = truncated.sequence_ids.count(owner)  # as many of either text of a pair as truncation leaves
            head = -(-share // 4) if owner is not None else share
            expected += own[:head] + own[len(own) - (share - head) :]
        assert sorted(ids) == sorted(expected or [tokenizer.unk_token_id])
        if not tokens.truncated[row]:
            assert ids == (whole.ids or [tokenizer.unk_token_id])


def test_head_and_tail_stay_in_order(tokenizer):
    words = " ".join(f"w{number}" for number in range(40))
    tokens = tokenize(dataset([words], ["w7 w8 w9 w10 w11 w12 w13"]), tokenizer, 14, "head_tail")
    first, second = [0, 1, 36, 37, 38, 39], [7, 8, 11, 12, 13]  # of 11: 5 of the shorter one, 6 of the longer
    assert tokens.token_ids.tolist() == [2, *(5 + word for word in first), 3, *(5 + word for word in second), 3]


def test_no_call_gets_more_than_bounds_its_memory(tokenizer, monkeypatch):
    monkeypatch.setattr(tokenization, "TEXTS_PER_CALL", 4)
    monkeypatch.setattr(tokenization, "CHARACTERS_PER_CALL", 100)
    calls, encode = [], tokenization._encode_chunk
    monkeypatch.setattr(tokenization, "_encode_chunk", lambda chunk, *rest: calls.append(chunk) or encode(chunk, *rest))
    texts = ["w1 " * count for count in (1, 1, 1, 1, 1, 40, 1, 20, 20, 1)]
    tokenize(dataset(texts), tokenizer, 10)
    assert [list(map(len, chunk)) for chunk in calls] == [[3] * 4, [3, 120], [3, 60, 60], [3]]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::DeprecationWarning")
def test_a_forked_process_tokenizes_where_the_threads_of_the_other_are_gone(tokenizer, monkeypatch):
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)  # set, it would have the library wait for them
    data = dataset(["w1 w2"] * 100)
    tokenize(data, tokenizer, 10)
    child = os.fork()
    if not child:
        signal.alarm(60)  # ends a child that waits
        os._exit(len(tokenize(data, tokenizer, 10)))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 100


def test_tokens_are_the_encoders_own(tokenizer):
    tokenized = tokenize(dataset(["w1 w2 w3", "", "W4 unknown", "w5 " * 50]), tokenizer, max_length=10)
    rows = [tokenized.token_ids[a:b].tolist() for a, b in zip(tokenized.offsets, tokenized.offsets[1:], strict=False)]
    assert rows == [[2, 6, 7, 8, 3], [2, 3], [2, 9, 1, 3], [2, *[10] * 8, 3]]
    assert tokenized.truncated.tolist() == [False, False, False, True]


def test_pairs_are_two_segments(tokenizer):
    tokenized = tokenize(dataset(["w1", "w2"], pairs=["w3 w4", "w5"]), tokenizer, max_length=10)
    assert tokenized.token_ids[: tokenized.offsets[1]].tolist() == [2, 6, 3, 8, 9, 3]


def test_halves_of_characters_are_data():
    assert [whole_characters(text) for text in ("a\ud800b", "😀", "\ud83d\ude00", "\0")] == [
        "a\ufffdb",
        "😀",
        "😀",
        "\0",
    ]
