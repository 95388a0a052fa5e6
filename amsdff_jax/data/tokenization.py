"""Texts to token ids, with the encoder's own fast tokenizer."""

import dataclasses
import hashlib
import os
from pathlib import Path

import numpy as np
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.errors import UserError

TEXTS_PER_CALL = 1000  # enough to keep all cores busy, few enough to bound the memory of the encodings


@dataclasses.dataclass(frozen=True)
class TokenizedDataset:
    """Token ids of N texts, end to end.

    Attributes:
      token_ids: [T] int32, all texts one after the other.
      offsets: [N+1] int64; text i is `token_ids[offsets[i]:offsets[i + 1]]`, at least one token.
      labels: [N] int32.
      truncated: [N] bool, whether the text was cut to the maximal length.
      pad_token_id: what fills a row up.
    """

    token_ids: np.ndarray
    offsets: np.ndarray
    labels: np.ndarray
    truncated: np.ndarray
    pad_token_id: int

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def lengths(self) -> np.ndarray:
        """[N] int64, tokens of each text, special ones included."""
        return np.diff(self.offsets)

    @property
    def fingerprint(self) -> str:
        """A digest of tokens and labels: the same texts through the same tokenizer have the same."""
        digest = hashlib.blake2b(digest_size=16)
        for array in (self.token_ids, self.offsets, self.labels):
            digest.update(array.tobytes())
        return digest.hexdigest()


def load_tokenizer(folder: str | Path) -> PreTrainedTokenizerFast:
    """The fast tokenizer in a folder of transformers' format.

    Raises:
      UserError: the folder holds no tokenizer that can be read.
    """
    # The library warns of forked processes; nothing here forks.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    folder = Path(folder)
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.txt")):
        raise UserError(
            f"{folder}: holds no tokenizer (tokenizer.json or vocab.txt); name a folder that does (data.tokenizer)"
        )
    transformers_logging.set_verbosity_error()  # it warns that it does not know the model in the same folder
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            str(folder), use_fast=True, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # transformers and tokenizers raise many kinds for a damaged file.
        raise UserError(f"{folder}: the tokenizer cannot be read ({str(error).strip().splitlines()[0]})") from None
    if tokenizer.pad_token_id is None:
        raise UserError(f"{folder}: the tokenizer has no padding token")
    return tokenizer


def tokenize(dataset: TextDataset, tokenizer: PreTrainedTokenizerFast, max_length: int) -> TokenizedDataset:
    """Tokenizes all texts; a text of no token at all becomes a single unknown token.

    Args:
      max_length: longer texts are cut to so many tokens, special ones included.
    """
    pieces, truncated = [], np.zeros(len(dataset), bool)
    nothing = [tokenizer.unk_token_id or tokenizer.pad_token_id]
    for start in range(0, len(dataset), TEXTS_PER_CALL):
        chunk = slice(start, start + TEXTS_PER_CALL)
        batch = tokenizer(
            list(map(whole_characters, dataset.texts[chunk])),
            None if dataset.text_pairs is None else list(map(whole_characters, dataset.text_pairs[chunk])),
            truncation=True,
            max_length=max_length,
            padding=False,
            return_attention_mask=False,
            return_token_type_ids=False,
        )
        for index, encoding in enumerate(batch.encodings, start=start):
            pieces.append(np.array(encoding.ids or nothing, np.int32))
            truncated[index] = bool(encoding.overflowing)
    offsets = np.concatenate([[0], np.cumsum([len(piece) for piece in pieces])])
    return TokenizedDataset(
        np.concatenate(pieces), offsets.astype(np.int64), dataset.labels, truncated, tokenizer.pad_token_id
    )


def whole_characters(text: str) -> str:
    """`text` with U+FFFD for surrogates that stand alone, which no tokenizer takes; pairs become one character."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
