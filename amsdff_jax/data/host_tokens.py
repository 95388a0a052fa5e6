"""Texts that several hosts tokenize together: all plan the same batches, and each makes the tokens of its own rows.

In every epoch a host has other texts, as batches are drawn from all of them. So it keeps the lengths of all, of which
the plan is made, and no tokens: it makes those of a batch when it lays the batch out, ahead of time.
"""

import copy

import jax
import numpy as np

from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.data.saved_tokenizer import Tokenizer
from amsdff_jax.data.token_cache import content_digest, tokens_for_batches
from amsdff_jax.data.tokenization import tokenize_rows
from amsdff_jax.data.tokens import Tokens, TokensOnDemand, fingerprint
from amsdff_jax.parallel.hosts import (
    errors_on_all_hosts,
    gather_shares,
    own_share,
    require_same_on_all_hosts,
    stream_shares,
)


def tokenize_on_hosts(
    dataset: TextDataset, tokenizer: Tokenizer, max_length: int, long_texts: str = "truncate"
) -> Tokens:
    """What `tokens_for_batches` gives; of several hosts each tokenizes its share, and they exchange the lengths.

    Raises:
      UserError: the tokenizer fails on a text, or the hosts have other texts, labels or tokenizers.
    """
    if jax.process_count() == 1:
        return tokens_for_batches(dataset, tokenizer, max_length, long_texts)
    require_same_on_all_hosts(f"texts or labels in {dataset.name}", dataset.fingerprint)
    require_same_on_all_hosts("tokenizer", content_digest(dataset, tokenizer, max_length, long_texts))
    own = copy.deepcopy(tokenizer)  # tokens are made in a thread, while others may set theirs to another length
    with errors_on_all_hosts():
        share = tokenize_rows(dataset, own_share(len(dataset)), own, max_length, long_texts)
    facts = np.stack([share.lengths, share.truncated], axis=1).astype(np.int32)
    lengths, truncated = gather_shares(facts, len(dataset)).T
    offsets = np.cumsum([0, *lengths], dtype=np.int64)
    return TokensOnDemand(
        lengths=np.diff(offsets),
        labels=dataset.labels,
        truncated=truncated.astype(bool),
        pad_token_id=share.pad_token_id,
        fingerprint=fingerprint(stream_shares(share.token_ids), offsets, dataset.labels),
        select=lambda rows: tokenize_rows(dataset, rows.tolist(), own, max_length, long_texts),
    )
