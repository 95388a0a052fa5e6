"""Texts to token ids, with the encoder's own fast tokenizer."""

import contextlib
import itertools
import logging
import os
import re
import sys
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tokenizers import Encoding

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.files import check_regular, read_json, user_errors, write_json
from amsdff_jax.config import DataConfig
from amsdff_jax.data.chunks import chunks
from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.data.long_texts import head_and_tail
from amsdff_jax.data.normalizer_growth import check_growth
from amsdff_jax.data.prefetch import prefetch
from amsdff_jax.data.saved_tokenizer import SavedTokenizer, Tokenizer
from amsdff_jax.data.tokens import TokenizedDataset
from amsdff_jax.data.windows import Windows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

logger = logging.getLogger(__name__)

# What may be read of a tokenizer's folder, and how large each may be in bytes.
FILES = (
    *("tokenizer.json", "vocab.txt", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("config.json", "vocab.json", "merges.txt", "chat_template.jinja", "chat_template.json"),
)
LARGEST_FILE = 1 << 26

BERT_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
# What `AutoTokenizer` reads as `BertTokenizer` too, in an encoder's or a trained model's folder.
BERT_CLASSES = {"BertTokenizer", "BertTokenizerFast"}
BERT_MODELS = {"amsdff", "bert", "distilbert"}
PROBE = "Aé 的 \U00012000 \U0001f600"  # words that few vocabularies know

# Of one call of the tokenizer: enough to keep all cores busy, few enough to bound the memory of the encodings.
TEXTS_PER_CALL = 1000
CHARACTERS_PER_CALL = 1 << 20


def load_tokenizer(folder: str | Path) -> "PreTrainedTokenizerFast":
    """The fast tokenizer in a folder of transformers' format; a `vocab.txt` alone is BERT's.

    Raises:
      UserError: the folder holds no tokenizer that can be read, or one that fails on some texts.
    """
    return _load(Path(folder), _read)


def load_saved_tokenizer(folder: str | Path) -> Tokenizer:
    """The tokenizer in a model folder, as `save_tokenizer` wrote it: without transformers, unless its files need that.

    Raises:
      UserError: as for `load_tokenizer`.
    """
    return _load(Path(folder), lambda place: SavedTokenizer.read(place) or _read(place))


def _load(folder: Path, read: Callable[[Path], Any]) -> Any:
    if not has_tokenizer(folder):
        raise UserError(
            f"{folder}: holds no tokenizer (tokenizer.json or vocab.txt); name a folder that does (data.tokenizer)"
        )
    _check_files(folder)
    with tokenizer_errors_told(f"{folder}: the tokenizer cannot be read"):
        tokenizer = read(folder)
        pad_token_id(tokenizer, f"{folder}: ")
        backend = tokenizer.backend_tokenizer
        backend.no_padding()  # which is set at every call; the file may say any length
        backend.no_truncation()
        check_growth(backend, str(folder))
    with tokenizer_errors_told(f"{folder}: the tokenizer cannot read every text"):
        backend.encode(PROBE, PROBE)
        largest = largest_id(tokenizer)
    if largest >= 1 << 31:
        raise UserError(f"{folder}: the tokenizer gives ids up to {largest}, more than any encoder has embeddings")
    return tokenizer


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder holds a tokenizer's files."""
    return any((folder / name).exists() for name in ("tokenizer.json", "vocab.txt"))


def pad_token_id(tokenizer: Tokenizer, source: str = "") -> int:
    """The id of the padding token.

    Raises:
      UserError: there is none, which `source` is named for.
    """
    number = tokenizer.pad_token_id
    if not isinstance(number, int):
        raise UserError(f"{source}the tokenizer has no padding token")
    return number


def token_ids(tokenizer: Tokenizer) -> dict[str, int]:
    """The ids of the tokens around a text, by the names that transformers' `config.json` has for them."""
    first, last = tokenizer.cls_token_id, tokenizer.sep_token_id
    ids = {"cls_token_id": first, "sep_token_id": last, "bos_token_id": first, "eos_token_id": last}
    return {name: number for name, number in ids.items() if isinstance(number, int)}


def save_tokenizer(tokenizer: Tokenizer, folder: Path, max_length: int) -> None:
    """Writes a tokenizer for whoever reads a model's folder with transformers: what truncates there does so alike.

    Args:
      max_length: tokens that the model reads of a text.

    Raises:
      OSError: it cannot be written.
    """
    tokenizer.backend_tokenizer.no_truncation()  # what the last call has left there is no part of it
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.save_pretrained(folder)
    file = folder / "tokenizer_config.json"
    # Without segments, for here the second text of a pair has that of the first.
    told = {"model_max_length": max_length, "model_input_names": ["input_ids", "attention_mask"]}
    values = read_json(file, "a tokenizer's configuration") | told
    if values.get("tokenizer_class") == "TokenizersBackend":  # which version 4 of transformers knows by this name
        values["tokenizer_class"] = "PreTrainedTokenizerFast"
    write_json(file, dict(sorted(values.items())))  # as transformers orders them


def unknown_id(tokenizer: Tokenizer) -> int:
    """The id of the unknown token, which stands for a text of no token at all; without one that of the padding."""
    number = tokenizer.unk_token_id
    return number if isinstance(number, int) else pad_token_id(tokenizer)


def check_vocabulary(tokenizer: Tokenizer, vocab_size: int, source: str) -> None:
    """Raises `UserError` if the tokenizer can give an id for which a model has no embedding.

    Args:
      vocab_size: number of embeddings of the model.
      source: what error messages call the place the tokenizer comes from.
    """
    largest = largest_id(tokenizer)
    if largest >= vocab_size:
        raise UserError(
            f"{source}: the tokenizer gives ids up to {largest}, but the encoder's vocabulary has {vocab_size}; use "
            "the encoder's own tokenizer (an empty data.tokenizer), or train with "
            "--config.model.resize_embeddings=true, which adds the missing embeddings"
        )


@contextlib.contextmanager
def tokenizer_errors_told(what: str) -> Iterator[None]:
    """Makes one line, which begins with `what`, of whatever transformers and tokenizers raise.

    Raises:
      UserError: instead of any exception or panic, but not of an interrupt.
    """
    try:
        yield
    except UserError:
        raise
    except BaseException as error:
        # A panic in Rust is no `Exception`, and its class cannot be imported.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{what} ({reason[:300]})") from None


def largest_id(tokenizer: Tokenizer) -> int:
    """The largest id that the tokenizer can give."""
    backend = tokenizer.backend_tokenizer
    added = backend.encode("", "").ids  # their ids are not looked up in the vocabulary
    return max([*backend.get_vocab(with_added_tokens=True).values(), *added, pad_token_id(tokenizer)])


def make_windows(data: DataConfig, tokenizer: Tokenizer) -> Windows | None:
    """The windows of texts that this tokenizer reads, or None where `data.long_texts` asks for something else.

    Raises:
      UserError: a `max_length` or an overlap that leaves no room.
    """
    if data.long_texts != "windows":
        return None
    with tokenizer_errors_told("the tokenizer cannot read every text"):
        tokenizer.backend_tokenizer.no_truncation()
        own = [owner is None for owner in tokenizer.backend_tokenizer.encode(PROBE).sequence_ids]
    if all(own):
        raise UserError("data.long_texts: the tokenizer reads nothing of words that it does not know; expected another")
    return Windows(data.max_length, data.window_overlap, own.index(False), own[::-1].index(False))


def _check_files(folder: Path) -> None:
    for file in map(folder.joinpath, FILES):
        if not file.exists():
            continue
        with user_errors(file, "read", "expected a tokenizer's file"):
            check_regular(file)
        if file.stat().st_size > LARGEST_FILE:
            raise UserError(f"{file}: has more than {LARGEST_FILE >> 20} MiB; expected a tokenizer's file")


def _read(folder: Path) -> "PreTrainedTokenizerFast":
    with _no_advice():
        from transformers import BertTokenizer
        from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()  # it warns that it does not know the model in the same folder
    configs = [folder / name for name in ("tokenizer_config.json", "config.json") if (folder / name).exists()]
    settings = [read_json(file, "a tokenizer's or encoder's configuration") for file in configs]
    if (folder / "tokenizer.json").exists() or any("tokenizer_class" in values for values in settings):
        classes = {values["tokenizer_class"] for values in settings if "tokenizer_class" in values}
        models = {values["model_type"] for values in settings if "model_type" in values}
        if classes and classes <= BERT_CLASSES and models <= BERT_MODELS:
            return BertTokenizer.from_pretrained(str(folder), local_files_only=True)
        from transformers import AutoTokenizer  # which imports PyTorch where it is installed: 1.6 s

        return AutoTokenizer.from_pretrained(str(folder), use_fast=True, local_files_only=True, trust_remote_code=False)
    vocabulary = (folder / "vocab.txt").read_text(encoding="utf-8").split("\n")
    missing = [token for token in BERT_TOKENS if token not in vocabulary]
    if missing:
        raise UserError(
            f"{folder / 'vocab.txt'}: is not BERT's vocabulary, in which {', '.join(missing)} would stand; add the "
            "tokenizer.json that belongs to it"
        )
    lower_case = not any(re.search("[A-Z]", token) for token in vocabulary if not token.startswith("["))
    logger.info("%s: vocab.txt alone, read as BERT's, %s", folder, "in lower case" if lower_case else "with capitals")
    said = any("do_lower_case" in values for values in settings)
    spelling: dict[str, Any] = {} if said else {"do_lower_case": lower_case}
    return BertTokenizer.from_pretrained(str(folder), local_files_only=True, **spelling)


@contextlib.contextmanager
def _no_advice() -> Iterator[None]:
    """Keeps transformers from saying, when it is imported, that PyTorch is missing, which tokenizers do not need.

    The variable is left as it was: what else the process does with transformers is not ours.
    """
    name = "TRANSFORMERS_NO_ADVISORY_WARNINGS"
    given = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        del os.environ[name]
        if given is not None:
            os.environ[name] = given


def tokenize(
    dataset: TextDataset, tokenizer: Tokenizer, max_length: int, long_texts: str = "truncate"
) -> TokenizedDataset:
    """Tokenizes all texts, on all cores; a text of no token at all becomes a single unknown token.

    Args:
      max_length: longer texts are truncated to so many tokens, special ones included.
      long_texts: which tokens of these are kept, as in `DataConfig`; all of them for windows.

    Raises:
      UserError: the tokenizer fails on a text, or windows of pairs.
    """
    return tokenize_rows(dataset, range(len(dataset)), tokenizer, max_length, long_texts)


def tokenize_rows(
    dataset: TextDataset,
    rows: Sequence[int],
    tokenizer: Tokenizer,
    max_length: int,
    long_texts: str = "truncate",
) -> TokenizedDataset:
    """What `tokenize` gives for some of the texts, or for none, in the order of `rows`."""
    padding = pad_token_id(tokenizer)
    token_ids, lengths, truncated = array("i"), [], []
    for piece, piece_lengths, piece_truncated in token_pieces(dataset, rows, tokenizer, max_length, long_texts):
        # An array grows in place, where joining pieces would hold all tokens twice.
        token_ids.frombytes(piece.tobytes())
        lengths += piece_lengths
        truncated += piece_truncated
    return TokenizedDataset(
        token_ids=np.asarray(token_ids),
        offsets=np.cumsum([0, *lengths], dtype=np.int64),
        labels=dataset.labels[np.asarray(rows, int)],
        truncated=np.array(truncated, bool),
        pad_token_id=padding,
    )


def token_pieces(
    dataset: TextDataset, rows: Sequence[int], tokenizer: Tokenizer, max_length: int, long_texts: str
) -> Iterator[tuple[np.ndarray, list[int], list[bool]]]:
    """What `tokenize_rows` gives, as many texts at a time as one call of the tokenizer encodes.

    Yields:
      The token ids of all of them, [t] int32, how many each has, and which are truncated.
    """
    nothing = [unknown_id(tokenizer)]
    if long_texts == "windows":
        if dataset.text_pairs is not None:
            raise UserError(
                f"data.long_texts: windows are of single texts, and {dataset.name} holds pairs; expected truncate or "
                "head_tail"
            )
        max_length = sys.maxsize
    encoded = _encode(dataset, rows, tokenizer, max_length if long_texts == "truncate" else None)
    if len(rows) > TEXTS_PER_CALL:
        encoded = prefetch(encoded, depth=1)  # Rust encodes the next texts while Python takes the ids of these
    for encodings in encoded:
        ids = [_ids(encoding, max_length) or nothing for encoding in encodings]
        pairs = zip(encodings, ids, strict=True)
        truncated = [bool(encoding.overflowing) or len(kept) < len(encoding) for encoding, kept in pairs]
        yield np.fromiter(itertools.chain.from_iterable(ids), np.int32), list(map(len, ids)), truncated


def _ids(encoding: Encoding, max_length: int) -> list[int]:
    ids = encoding.ids
    return ids if len(ids) <= max_length else [ids[place] for place in head_and_tail(encoding, max_length)]


def _encode(
    dataset: TextDataset, rows: Sequence[int], tokenizer: Tokenizer, max_length: int | None
) -> Iterator[list[Encoding]]:
    """The encodings of some texts in order, as many at a time as one call makes; None: whole."""
    alone = (whole_characters(dataset.texts[row]) for row in rows)
    pairs = dataset.text_pairs
    texts = alone if pairs is None else zip(alone, (whole_characters(pairs[row]) for row in rows), strict=True)
    first = 0
    for chunk in chunks(texts, TEXTS_PER_CALL, TEXTS_PER_CALL, _characters, CHARACTERS_PER_CALL):
        last = first + len(chunk) - 1
        what = f"the tokenizer cannot read one of the texts {rows[first] + 1} to {rows[last] + 1}"
        with tokenizer_errors_told(what):
            encodings = _encode_chunk(chunk, tokenizer, max_length)
        yield encodings
        first = last + 1


def _encode_chunk(chunk: list[str | tuple[str, str]], tokenizer: Tokenizer, max_length: int | None) -> list[Encoding]:
    """The encodings of `encode`, without positions in the texts."""
    _set_truncation(tokenizer, max_length)
    return tokenizer.backend_tokenizer.encode_batch_fast(chunk)


def encode(text: str, tokenizer: Tokenizer, max_length: int | None) -> Encoding:
    """What `tokenizer(text, truncation=True, max_length=max_length)` encodes in transformers; None: all of the text."""
    _set_truncation(tokenizer, max_length)
    return tokenizer.backend_tokenizer.encode(text)


def _set_truncation(tokenizer: Tokenizer, max_length: int | None) -> None:
    backend = tokenizer.backend_tokenizer
    backend.no_padding()
    if max_length is None:
        backend.no_truncation()
    else:
        backend.enable_truncation(max_length, direction=tokenizer.truncation_side)
    if backend.encode_special_tokens != tokenizer.split_special_tokens:
        backend.encode_special_tokens = tokenizer.split_special_tokens


def _characters(text: str | tuple[str, str]) -> int:
    return len(text) if isinstance(text, str) else sum(map(len, text))


def whole_characters(text: str) -> str:
    """`text` with U+FFFD for surrogates that stand alone, which no tokenizer takes; pairs become one character."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
