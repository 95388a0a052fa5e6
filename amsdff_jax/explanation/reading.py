"""What a model reads of a text: tokens, the places in the text that they come from, and the words they make up."""

import dataclasses
from itertools import groupby

from amsdff_jax.data.tokenization import PreTrainedTokenizerFast, tokenizer_errors_told, unknown_id, whole_characters

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


@dataclasses.dataclass(frozen=True)
class Reading:
    """A text as a model reads it."""

    text: str  # what was tokenized: the given text, with U+FFFD for every surrogate that is not half of a pair
    replaced: int  # number of these
    unknown: int  # number of tokens that stand for something the vocabulary does not have, such as most emoji
    tokens: tuple[Token, ...]  # special ones included, at least one
    words: tuple[Word, ...]  # in the order of the text
    truncated: bool  # whether tokens beyond the maximal length were left out

    @property
    def characters_read(self) -> int:
        """Characters up to the end of the last token: all of them, unless the text was truncated."""
        return max(token.end for token in self.tokens) if self.truncated else len(self.text)


def read_text(text: str, tokenizer: PreTrainedTokenizerFast, max_length: int) -> Reading:
    """Tokenizes one text as in training: a text of no token at all becomes a single unknown one.

    Args:
      text: any string, lone surrogates included.
      max_length: tokens it is truncated to, special ones included.

    Raises:
      UserError: the tokenizer fails on the text.
    """
    whole = whole_characters(text)
    with tokenizer_errors_told("the tokenizer cannot read the text"):
        encoding = (tokenizer(whole, truncation=True, max_length=max_length).encodings or [])[0]
    columns = (encoding.tokens, encoding.ids, encoding.offsets, encoding.word_ids)
    tokens, words = [], []
    for word_id, pieces in groupby(zip(*columns, strict=True), key=lambda piece: piece[3]):
        pieces = list(pieces)
        word = None if word_id is None else len(words)
        tokens += [Token(name, number, *offsets, word) for name, number, offsets, _ in pieces]
        if word is not None:
            words.append(Word(min(piece[2][0] for piece in pieces), max(piece[2][1] for piece in pieces)))
    if not tokens:
        nothing = unknown_id(tokenizer)
        tokens = [Token(str(tokenizer.convert_ids_to_tokens(nothing)), nothing, 0, 0, None)]
    replaced = whole.count(REPLACEMENT) - text.count(REPLACEMENT)
    unknown = sum(token.id == tokenizer.unk_token_id for token in tokens)
    return Reading(whole, replaced, unknown, tuple(tokens), tuple(words), bool(encoding.overflowing))
