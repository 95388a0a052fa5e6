"""Tokens of earlier runs, found again by what they were made of: texts, tokenizer and what is read of long ones."""

import contextlib
import hashlib
import json
from pathlib import Path

import numpy as np
import tokenizers

from amsdff_jax.base.cache import cache_folder, evict_oldest
from amsdff_jax.base.files import atomic_write
from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.data.long_texts import HEAD_SHARE
from amsdff_jax.data.saved_tokenizer import Tokenizer
from amsdff_jax.data.tokenization import pad_token_id, tokenize
from amsdff_jax.data.tokens import TokenizedDataset

LARGEST_CACHE = 1 << 30  # bytes; beyond it, what was not used for the longest time goes


def tokenize_once(
    dataset: TextDataset, tokenizer: Tokenizer, max_length: int, long_texts: str = "truncate"
) -> TokenizedDataset:
    """What `tokenize` gives, read from the cache if it has been made before.

    A cache that is damaged or cannot be written changes nothing but the time this takes.
    """
    folder = cache_folder("tokens")
    if folder is None:
        return tokenize(dataset, tokenizer, max_length, long_texts)
    file = folder / f"{content_digest(dataset, tokenizer, max_length, long_texts)}.npz"
    found = _read(file, dataset, tokenizer)
    if found is not None:
        return found
    tokenized = tokenize(dataset, tokenizer, max_length, long_texts)
    with contextlib.suppress(OSError):
        _write(file, tokenized)
        evict_oldest(folder, "*.npz", LARGEST_CACHE)
    return tokenized


def content_digest(dataset: TextDataset, tokenizer: Tokenizer, max_length: int, long_texts: str = "truncate") -> str:
    """A digest of all that the tokens depend on."""
    digest = hashlib.blake2b(digest_size=20)

    def add(text: str) -> None:
        encoded = text.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "little") + encoded)

    special = (
        tokenizer.unk_token_id,
        tokenizer.pad_token_id,
        tokenizer.truncation_side,
        tokenizer.split_special_tokens,
    )
    read = f"{max_length} {long_texts} {HEAD_SHARE}"
    add(f"2 {tokenizers.__version__} {read} {special} {len(dataset)} {dataset.text_pairs is not None}")
    definition = json.loads(tokenizer.backend_tokenizer.to_str())
    # These two are what the last call has left there.
    add(json.dumps(definition | {"truncation": None, "padding": None}, sort_keys=True))
    for text in (*dataset.texts, *(dataset.text_pairs or ())):
        add(text)
    return digest.hexdigest()


def _read(file: Path, dataset: TextDataset, tokenizer: Tokenizer) -> TokenizedDataset | None:
    try:
        with np.load(file, allow_pickle=False) as arrays:
            token_ids, offsets, truncated = (arrays[name] for name in ("token_ids", "offsets", "truncated"))
    except Exception:  # numpy and zipfile raise many kinds for a damaged file
        return None
    if (token_ids.dtype, offsets.dtype, truncated.dtype) != (np.int32, np.int64, bool):
        return None
    if offsets.shape != (len(dataset) + 1,) or truncated.shape != (len(dataset),):
        return None
    if offsets[0] != 0 or (np.diff(offsets) <= 0).any() or token_ids.shape != (offsets[-1],):
        return None
    with contextlib.suppress(OSError):  # a folder that may only be read
        file.touch()
    return TokenizedDataset(token_ids, offsets, dataset.labels, truncated, pad_token_id(tokenizer))


def _write(file: Path, tokenized: TokenizedDataset) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(file, shared=True) as temporary, temporary.open("wb") as stream:
        np.savez(stream, token_ids=tokenized.token_ids, offsets=tokenized.offsets, truncated=tokenized.truncated)
