"""`train.py`, which also writes how many texts each call of the tokenizer got, and how many had tokens just then.

Its small model is large enough for `parallel.mode=fsdp` to be split.
"""

import json
import os
import runpy
import weakref

from amsdff_jax.data import tokenization
from amsdff_jax.data.tokens import TokenizedDataset
from amsdff_jax.parallel import data_parallel
from tests.processes import ROOT

encode, init, made = tokenization._encode_chunk, TokenizedDataset.__init__, []


def registered(self, *arguments, **named):
    init(self, *arguments, **named)
    # Not by `gc.get_objects`, which takes hold of the tuples that other threads are just then making.
    made.append(weakref.ref(self))


def counted(chunk, *rest):
    held = sum(len(tokens) for tokens in (reference() for reference in [*made]) if tokens is not None)
    with open(os.environ["COUNTS"], "a", encoding="utf-8") as file:
        file.write(json.dumps([len(chunk), held]) + "\n")
    return encode(chunk, *rest)


tokenization._encode_chunk, TokenizedDataset.__init__ = counted, registered
data_parallel.SMALLEST_SPLIT = 500
runpy.run_path(str(ROOT / "scripts" / "train.py"), run_name="__main__")
