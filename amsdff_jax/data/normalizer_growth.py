"""Whether a tokenizer's normalizer can make a text so long that it takes all memory."""

import base64
import json
from collections.abc import Iterator
from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import BPE

from amsdff_jax.base.errors import UserError

# Unicode's own normalization makes up to 18 characters of one; replacing an emoji by its description, some 30.
LARGEST_GROWTH = 1000
LONGEST_PROBE = 10_000  # characters


def check_growth(tokenizer: Tokenizer, source: str) -> None:
    """Raises `UserError` if normalizing makes a text more than `LARGEST_GROWTH` times as long.

    Every rule is tried, after those before it, on the texts that the rules seek and write.

    Args:
      source: what error messages call the place the tokenizer comes from.
    """
    if tokenizer.normalizer is None:
        return
    steps = list(_steps(json.loads(tokenizer.normalizer.__getstate__())))
    written = [text for step in steps for text in _texts(step)]
    probe = "".join(["aA é", *written])[:LONGEST_PROBE]
    text = probe
    for step in steps:
        if max(map(len, _texts(step)), default=0) <= LARGEST_GROWTH:
            text = _normalizer(step).normalize_str(text)
            if len(text) <= LARGEST_GROWTH * len(probe):
                continue
        raise UserError(
            f"{source}: the tokenizer's normalizer ({step['type']}) makes a text more than {LARGEST_GROWTH} times as "
            "long; use another tokenizer"
        )


def _steps(normalizer: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if normalizer["type"] == "Sequence":
        for step in normalizer["normalizers"]:
            yield from _steps(step)
    else:
        yield normalizer


def _texts(step: dict[str, Any]) -> list[str]:
    """What a rule seeks and writes, as far as it is a matter of the tokenizer's file."""
    if step["type"] == "Replace":
        return [step["pattern"].get("String", ""), step["content"]]
    if step["type"] == "Prepend":
        return [step["prepend"]]
    if step["type"] == "Precompiled":
        # The size of a table of places, the table, and what is written, each ended by a zero.
        data = base64.b64decode(step["precompiled_charsmap"])
        table = int.from_bytes(data[:4], "little")
        return [part.decode("utf-8", "replace") for part in data[4 + table :].split(b"\0")]
    return []


def _normalizer(step: dict[str, Any]) -> Any:
    definition = json.loads(Tokenizer(BPE()).to_str())
    return Tokenizer.from_str(json.dumps(definition | {"normalizer": step})).normalizer
