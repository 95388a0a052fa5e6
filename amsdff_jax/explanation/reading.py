"""What a model reads of a text: tokens, the places in the text that they come from, and the words they make up."""

import dataclasses
from itertools import groupby

from amsdff_jax.data.long_texts import head_and_tail
from amsdff_jax.data.saved_tokenizer import Tokenizer
from amsdff_jax.data.tokenization import encode, tokenizer_errors_told, unknown_id, whole_characters

REPLACEMENT = "\ufffd"


@dataclasses.dataclass(frozen=True)
class Token:
    """A token of a text."""

    name: str  # as the vocabulary has it, such as `##ing`
    id: int  # its row in the embedding table
    start: int  # of the characters of the text that it stands for
    end: int  # the start again for a special token
    word: int | None  # number of the word that it is a part of; None for a special token, which the tokenizer added


@dataclasses.dataclass(frozen=True)
class Word:
    """Neighbouring tokens that the tokenizer made out of one word; a punctuation mark is a word of its own."""

    start: int  # of its characters in the text
    end: int


def _without_space(text: str, start: int, end: int) -> Word:
    """The word without the space before it, which sentencepiece and byte-level tokenizers have in its first token."""
    word = text[start:end]
    if not word.strip():
        return Word(start, end)
    return Word(start + len(word) - len(word.lstrip()), end - len(word) + len(word.rstrip()))


@dataclasses.dataclass(frozen=True)
class Reading:
    """A text as a model reads it."""

    text: str  # what was tokenized: the given text, with U+FFFD for every surrogate that is not half of a pair
    replaced: int  # number of these
    unknown: int  # number of tokens that stand for something the vocabulary does not have, such as most emoji
    tokens: tuple[Token, ...]  # special ones included, at least one
    words: tuple[Word, ...]  # in the order of the text
    truncated: bool  # whether tokens beyond the maximal length were left out
    unread: tuple[int, int]  # where the characters of these begin and end

    @property
    def characters_read(self) -> int:
        """All of them, unless the text was truncated."""
        return len(self.text) - (self.unread[1] - self.unread[0])


def read_text(text: str, tokenizer: Tokenizer, max_length: int, long_texts: str = "truncate") -> Reading:
    """Tokenizes one text as in training: a text of no token at all becomes a single unknown one.

    Args:
      text: any string, lone surrogates included.
      max_length: tokens it is truncated to, special ones included.
      long_texts: which tokens are kept then, as in `DataConfig`.

    Raises:
      UserError: the tokenizer fails on the text.
    """
    whole = whole_characters(text)
    with tokenizer_errors_told("the tokenizer cannot read the text"):
        encoding = encode(whole, tokenizer, max_length if long_texts == "truncate" else None)
    rows = list(zip(encoding.tokens, encoding.ids, encoding.offsets, encoding.word_ids, strict=True))
    truncated, unread = bool(encoding.overflowing), (0, 0)
    if long_texts == "head_tail" and len(rows) > max_length:
        kept = head_and_tail(encoding, max_length)
        left_out = sorted(set(range(len(rows))) - set(kept))
        start = rows[left_out[0]][2][0]
        following = [offsets[0] for *_, offsets, word in rows[left_out[-1] + 1 :] if word is not None] or [len(whole)]
        truncated, unread = True, (start, max(start, following[0]))
        rows = [rows[place] for place in kept]
    elif truncated:
        ends = [offsets for *_, offsets, word in rows if word is not None] or [(0, 0)]
        unread = (0, ends[0][0]) if tokenizer.truncation_side == "left" else (ends[-1][1], len(whole))
    tokens, words = [], []
    # What is left out may be the middle of a word, whose ends are two words then.
    for (word_id, _), pieces in groupby(rows, key=lambda piece: (piece[3], piece[2][0] >= unread[1])):
        pieces = list(pieces)
        word = None if word_id is None else len(words)
        tokens += [Token(name, number, *offsets, word) for name, number, offsets, _ in pieces]
        if word is not None:
            first, last = min(piece[2][0] for piece in pieces), max(piece[2][1] for piece in pieces)
            words.append(_without_space(whole, first, last))
    if not tokens:
        nothing = unknown_id(tokenizer)
        tokens = [Token(str(tokenizer.backend_tokenizer.id_to_token(nothing)), nothing, 0, 0, None)]
    replaced = whole.count(REPLACEMENT) - text.count(REPLACEMENT)
    unknown = sum(token.id == tokenizer.unk_token_id for token in tokens)
    return Reading(whole, replaced, unknown, tuple(tokens), tuple(words), truncated, unread)
