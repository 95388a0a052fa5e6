"""Tokens of earlier runs, found again by what they were made of: texts, tokenizer and what is read of long ones.

Those of texts in memory are an `.npz` file. Those of stored texts are a folder, which is filled piece by piece and read
through a memory map.
"""

import contextlib
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from amsdff_jax.base.cache import cache_folder, evict_oldest, filled_folder, remembered, use_folder
from amsdff_jax.base.files import atomic_write
from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.data.long_texts import HEAD_SHARE
from amsdff_jax.data.mapped_rows import RowsWriter, flush, map_rows, open_file
from amsdff_jax.data.saved_tokenizer import Tokenizer
from amsdff_jax.data.stored_texts import StoredTexts, storage_errors
from amsdff_jax.data.tokenization import pad_token_id, token_pieces, tokenize
from amsdff_jax.data.tokens import TokenizedDataset, Tokens, TokensOnDemand

logger = logging.getLogger(__name__)

LARGEST_CACHE = 1 << 30  # bytes of files; beyond it, what was not used for the longest time goes
PIECE = 1 << 20  # tokens that a killed process loses
IDS, TRUNCATED = "token_ids", "truncated"  # files of a folder


def tokenize_once(
    dataset: TextDataset, tokenizer: Tokenizer, max_length: int, long_texts: str = "truncate"
) -> TokenizedDataset:
    """What `tokenize` gives, read from the cache if it has been made before; of stored texts tokens that are stored.

    A cache that is damaged or cannot be written changes nothing but the time this takes.

    Raises:
      UserError: as `tokenize`; or a disk without room for stored tokens.
    """
    if isinstance(dataset.texts, StoredTexts):
        return _tokenize_stored(dataset, tokenizer, max_length, long_texts)
    folder = cache_folder("tokens")
    if folder is None:
        return tokenize(dataset, tokenizer, max_length, long_texts)
    file = folder / f"{content_digest(dataset, tokenizer, max_length, long_texts)}.npz"
    found = _read(lambda: _load(file), dataset, tokenizer)
    if found is not None:
        return found
    tokenized = tokenize(dataset, tokenizer, max_length, long_texts)
    with contextlib.suppress(OSError):
        _write(file, tokenized)
        evict_oldest(folder, "*.npz", LARGEST_CACHE)
    return tokenized


def tokens_for_batches(
    dataset: TextDataset, tokenizer: Tokenizer, max_length: int, long_texts: str = "truncate"
) -> Tokens:
    """What `tokenize_once` gives; of stored tokens the fingerprint, for which all are read, is remembered too.

    Raises:
      UserError: as `tokenize_once`.
    """
    tokens = tokenize_once(dataset, tokenizer, max_length, long_texts)
    if not isinstance(dataset.texts, StoredTexts):
        return tokens
    folder = _folder(dataset, tokenizer, max_length, long_texts)
    labels = hashlib.blake2b(tokens.labels.tobytes(), digest_size=16).hexdigest()
    known = remembered(folder, f"fingerprint {labels}", lambda: tokens.fingerprint)
    return TokensOnDemand(
        tokens.lengths, tokens.labels, tokens.truncated, tokens.pad_token_id, known, select=tokens.select
    )


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
    add(f"3 {tokenizers.__version__} {read} {special} {len(dataset)} {dataset.text_pairs is not None}")
    definition = json.loads(tokenizer.backend_tokenizer.to_str())
    # These two are what the last call has left there.
    add(json.dumps(definition | {"truncation": None, "padding": None}, sort_keys=True))
    for texts in (dataset.texts, dataset.text_pairs or ()):
        for text in (texts.digest,) if isinstance(texts, StoredTexts) else texts:
            add(text)
    return digest.hexdigest()


def _folder(dataset: TextDataset, *settings: Any) -> Path | None:
    root = cache_folder("tokens")
    return None if root is None else root / content_digest(dataset, *settings)


def _tokenize_stored(dataset: TextDataset, tokenizer: Tokenizer, max_length: int, long_texts: str) -> TokenizedDataset:
    folder = _folder(dataset, tokenizer, max_length, long_texts)
    if folder is not None and folder.exists():
        found = _read(lambda: _map(folder), dataset, tokenizer)
        if found is not None:
            use_folder(folder)
            return found
        shutil.rmtree(folder, ignore_errors=True)  # what is there is damaged
    with (
        filled_folder(folder, resumable=True) as partial,
        storage_errors(partial),
        contextlib.closing(RowsWriter(partial, IDS, np.int32)) as writer,
        open_file(partial, TRUNCATED) as flags,
    ):
        writer.resume(most=flags.seek(0, os.SEEK_END))
        rows = range(writer.rows, len(dataset))
        flags.seek(rows.start)
        if rows.start:
            logger.info("%s: %d of %d texts were tokenized by an earlier run", dataset.name, rows.start, len(dataset))
        waiting = 0
        for ids, lengths, truncated in token_pieces(dataset, rows, tokenizer, max_length, long_texts):
            flags.write(bytes(truncated))
            writer.append(ids, lengths)
            waiting += len(ids)
            if waiting > PIECE:
                flush(flags)
                writer.commit()
                waiting = 0
        flush(flags)
        stored = writer.finish()
        flags.truncate(len(dataset))
        flags.seek(0)
        truncated = np.frombuffer(flags.read(), bool)
    return TokenizedDataset(stored.values, stored.offsets, dataset.labels, truncated, pad_token_id(tokenizer))


def _load(file: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    with np.load(file, allow_pickle=False) as arrays:
        found = arrays[IDS], arrays["offsets"], arrays[TRUNCATED]
    with contextlib.suppress(OSError):  # a folder that may only be read
        file.touch()
    return found


def _map(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    values, offsets = map_rows(folder, IDS, np.int32)
    return values, offsets, np.frombuffer((folder / TRUNCATED).read_bytes(), np.uint8) == 1


def _read(
    load: Callable[[], tuple[np.ndarray, np.ndarray, np.ndarray]],
    dataset: TextDataset,
    tokenizer: Tokenizer,
) -> TokenizedDataset | None:
    try:
        token_ids, offsets, truncated = load()
    except Exception:  # numpy and zipfile raise many kinds for a damaged file
        return None
    if (token_ids.dtype, offsets.dtype, truncated.dtype) != (np.int32, np.int64, bool):
        return None
    if offsets.shape != (len(dataset) + 1,) or truncated.shape != (len(dataset),):
        return None
    if offsets[0] != 0 or (np.diff(offsets) <= 0).any() or token_ids.shape != (offsets[-1],):
        return None
    return TokenizedDataset(token_ids, offsets, dataset.labels, truncated, pad_token_id(tokenizer))


def _write(file: Path, tokenized: TokenizedDataset) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(file, shared=True) as temporary, temporary.open("wb") as stream:
        np.savez(stream, token_ids=tokenized.token_ids, offsets=tokenized.offsets, truncated=tokenized.truncated)
