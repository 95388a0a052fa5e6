"""What windows a tokenizer's texts have, and what training reads of those with many."""

import numpy as np
import pytest

from amsdff_jax.base.errors import UserError
from amsdff_jax.config import DataConfig
from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.data.tokenization import load_tokenizer, make_windows, tokenize
from amsdff_jax.data.windows import Windows, excerpts
from tests.data.test_tokenization import KINDS

WINDOWS = Windows(8, 2, 1, 1)
DATA = DataConfig(max_length=8, long_texts="windows", window_overlap=2)


def make_tokens(tiny_encoder, counts):
    texts = [" ".join(f"w{(place + row) % 40}" for place in range(count)) for row, count in enumerate(counts)]
    return tokenize(
        TextDataset(texts, np.zeros(len(texts), int), ("a", "b")), load_tokenizer(tiny_encoder), 8, "windows"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_are_counted_on_the_tokenizer(kind, tiny_encoder):
    tokenizer = KINDS[kind](load_tokenizer(tiny_encoder))
    number = 0 if kind == "no special tokens" else 1
    tokenizer("w1 w2 w3 w4", truncation=True, max_length=3)  # leaves its settings behind
    assert make_windows(DATA, tokenizer) == Windows(8, 2, number, number)
    assert make_windows(DataConfig(), tokenizer) is None


def test_texts_are_tokenized_whole_and_pairs_refused(tiny_encoder):
    tokens = make_tokens(tiny_encoder, [0, 6, 7, 500])
    assert tokens.lengths.tolist() == [2, 8, 9, 502]
    assert not tokens.truncated.any()
    pairs = TextDataset(["w1"], [0], ("a", "b"), ["w2"], name="pairs.csv")
    with pytest.raises(UserError, match=r"data\.long_texts: windows are of single texts, and pairs\.csv holds pairs"):
        tokenize(pairs, load_tokenizer(tiny_encoder), 8, "windows")


def test_an_excerpt_is_a_function_of_seed_epoch_and_text(tiny_encoder):
    counts = [3, 10, 11, 29, 117, 500, 6]
    tokens = make_tokens(tiny_encoder, counts)
    rows = np.array([5, 0, 4, 1, 2])
    most, longest = 2, WINDOWS.length(2)

    def read(tokens, seed, rows=rows):
        part = excerpts(tokens, WINDOWS, most, seed)
        assert part.lengths.tolist() == np.minimum(tokens.lengths, longest).tolist()
        texts = part.select(rows)
        np.testing.assert_array_equal(texts.lengths, part.lengths[rows])
        return [texts.token_ids[a:b].tolist() for a, b in zip(texts.offsets, texts.offsets[1:], strict=False)]

    assert read(tokens, (0, 3)) == read(tokens, (0, 3))
    assert read(tokens, (0, 3), rows[::-1]) == read(tokens, (0, 3))[::-1]
    fewer = make_tokens(tiny_encoder, counts[:6])
    assert read(fewer, (0, 3)) == read(tokens, (0, 3))
    assert read(tokens, (0, 3))[0] not in (read(tokens, (0, 4))[0], read(tokens, (1, 3))[0])
    beginnings = {row: set() for row in rows}
    for epoch in range(300):
        for row, text in zip(rows, read(tokens, (0, epoch)), strict=True):
            whole = tokens.token_ids[tokens.offsets[row] : tokens.offsets[row + 1]].tolist()
            content, own = whole[1:-1], text[1:-1]
            assert (text[0], text[-1]) == (whole[0], whole[-1])
            first = next(place for place in range(len(content)) if content[place : place + len(own)] == own)
            beginnings[row].add((first, len(own)))
    # From window to window, with the end of the text among them; words repeat after 40.
    assert {first for first, _ in beginnings[2]} == {0, 1}
    assert {first for first, _ in beginnings[4]} == {*range(0, 40, 4), 107 % 40}
    assert beginnings[0] == {(0, 3)} and beginnings[1] == {(0, 10)}
    assert excerpts(tokens, WINDOWS, 1000, (0, 0)) is tokens
