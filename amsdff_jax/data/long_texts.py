"""What is read of texts with more tokens than a model takes. Exports carry this file, which stands alone."""

import math
from collections.abc import Sequence

from tokenizers import Encoding

# Of the tokens that are kept, which come from the beginning: 128 of 510 in Sun et al., "How to Fine-Tune BERT for Text
# Classification?", 2019.
HEAD_SHARE = 0.25


def head_and_tail(encoding: Encoding, max_length: int) -> list[int]:
    """The places of the tokens that `data.long_texts=head_tail` keeps: the first and the last ones.

    Special tokens all stay. A quarter of the rest, rounded up, is the text's beginning. Of a pair of texts each has its
    own beginning and end, and as many tokens as truncation of the longest first leaves it.

    Args:
      encoding: of a text or a pair, whole.
      max_length: tokens to keep, special ones included.

    Returns:
      Rising places in the encoding: all where it is short enough, else `max_length` of them, or its special tokens
      where these alone are more.
    """
    if len(encoding) <= max_length:
        return list(range(len(encoding)))
    owners = encoding.sequence_ids
    texts = [[place for place, owner in enumerate(owners) if owner == text] for text in range(encoding.n_sequences)]
    kept = [place for place, owner in enumerate(owners) if owner is None]
    shares = _shares([len(text) for text in texts], room=max(max_length - len(kept), 0))
    for places, share in zip(texts, shares, strict=True):
        head = math.ceil(HEAD_SHARE * share)
        kept += places[:head] + places[len(places) - (share - head) :]
    return sorted(kept)


def _shares(lengths: Sequence[int], room: int) -> list[int]:
    """How many tokens each of one or two texts keeps, `room` in all."""
    if len(lengths) == 1:
        return [room]
    shorter = min(*lengths, room // 2)
    return [shorter, room - shorter] if lengths[0] <= lengths[1] else [room - shorter, shorter]
