"""One of several processes that tokenize texts together, and compare what they get with what one makes alone.

Arguments: address of process 0, number of processes, number of this one, folder of a tokenizer.
"""

import sys

import numpy as np
from tokenizers import Regex, pre_tokenizers

from amsdff_jax import TextDataset, UserError
from amsdff_jax.data.host_tokens import tokenize_on_hosts
from amsdff_jax.data.tokenization import load_tokenizer, tokenize
from amsdff_jax.parallel import hosts
from tests.conftest import make_texts

NEVER_ENDING = "a" * 40 + "!"  # for the regular expression below


def main(address: str, processes: int, number: int, folder: str) -> None:
    hosts.LARGEST_PIECE = 5
    hosts.join_hosts(address, processes, number, connection_timeout=60)
    tokenizer = load_tokenizer(folder)
    for size in (1, 3, 23):
        texts, labels = make_texts(size, seed=size)[:2]
        for pairs in (None, texts[::-1]):
            given = np.full((size, 2), 0.5) if pairs else labels
            data = TextDataset(texts, given, ("high", "low"), text_pairs=pairs)
            limit = 9, "head_tail" if pairs else "truncate"
            expected, shared = tokenize(data, tokenizer, *limit), tokenize_on_hosts(data, tokenizer, *limit)
            assert shared.fingerprint == expected.fingerprint
            tokenizer("a text that others read", truncation=True, max_length=4)
            for name in ("lengths", "labels", "truncated", "pad_token_id"):
                np.testing.assert_array_equal(getattr(shared, name), getattr(expected, name))
            for rows in (np.arange(size), np.arange(size)[::-2], np.arange(0)):
                assert shared.select(rows).fingerprint == expected.select(rows).fingerprint

    def refused(texts: list[str]) -> None:
        try:
            tokenize_on_hosts(TextDataset(texts, [0] * len(texts), ("a",)), tokenizer, 9)
        except UserError as error:
            print(error, flush=True)

    refused(["w1", f"w{number}"])
    tokenizer.truncation_side = "left" if number else "right"
    refused(["w1", "w2"])
    tokenizer.truncation_side = "right"
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("(a+)+$"), "isolated")
    refused(["w1"] * 2 * (processes - 1) + [NEVER_ENDING] * 2)
    hosts.wait_for_all_hosts("end")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
