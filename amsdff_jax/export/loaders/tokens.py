"""Texts as tokens, as the classifier in this folder reads them; needs tokenizers."""

import json
from pathlib import Path

from long_texts import head_and_tail
from tokenizers import Tokenizer

FOLDER = Path(__file__).resolve().parent
config = json.loads((FOLDER / "config.json").read_text(encoding="utf-8"))
tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
padding = tokenizer.padding
tokenizer.no_padding()  # which comes after the choice of tokens
tokenizer.encode_special_tokens = config["split_special_tokens"]


def encode(texts):
    """Token ids and attention mask, each B rows of S numbers, for B texts or pairs of texts.

    Raises:
      ValueError: no texts, or no list of them; a text where the model reads pairs, or the other way round; one that is
        too long.
    """
    if isinstance(texts, str):  # whose letters would be texts
        raise ValueError(f"texts: expected a list of texts, got {texts!r}")
    if not len(texts):
        raise ValueError("texts: expected one or more")
    for place, text in enumerate(texts):
        if config["reads_pairs"] not in (None, not isinstance(text, str)):  # None: the model does not tell
            expected = "a pair of texts" if config["reads_pairs"] else "a text"
            raise ValueError(f"texts[{place}]: expected {expected}, as in training, got {text!r}")
    encodings = tokenizer.encode_batch([_whole(text) for text in texts])
    rows = [_ids(encoding, place) for place, encoding in enumerate(encodings)]
    length = padding["length"] or max(map(len, rows))
    multiple = padding["pad_to_multiple_of"] or 1
    length = -(-length // multiple) * multiple
    mask = [[1] * len(row) + [0] * (length - len(row)) for row in rows]
    return [row + [padding["pad_id"]] * (length - len(row)) for row in rows], mask


def _ids(encoding, place):
    ids, most = encoding.ids or [config["unknown_token_id"]], config["max_length"]
    if config["long_texts"] == "head_tail" and len(ids) > most:
        return [ids[place] for place in head_and_tail(encoding, most)]
    if len(ids) > most:  # which the tokenizer truncates, unless the model reads longer texts in windows
        raise ValueError(
            f"texts[{place}]: has {len(ids)} tokens, and an export takes at most {most}; amsdff_jax's own Classifier "
            "reads longer texts in windows"
        )
    return ids


def _whole(text):
    """The text, or both of a pair, with U+FFFD for halves of characters, which no tokenizer takes."""
    if not isinstance(text, str):
        return tuple(map(_whole, text))
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
