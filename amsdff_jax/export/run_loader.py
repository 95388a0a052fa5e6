"""Runs an export's own `load.py` where this package cannot be imported, as on the machine it is meant for.

python -P run_loader.py FOLDER BATCHES.json OUT.npy
"""

import importlib
import json
import sys
from pathlib import Path


def main(folder: str, batches: str, out: str) -> None:
    """Reads lists of texts and writes their logits, [N,C], one batch after the other."""
    sys.modules["amsdff_jax"] = None  # pyright: ignore[reportArgumentType]  # from here on importing it is an error
    sys.path.insert(0, folder)
    import numpy as np

    load = importlib.import_module("load")  # which lies in the folder
    parts = [np.asarray(load.logits(batch)) for batch in json.loads(Path(batches).read_text(encoding="utf-8"))]
    np.save(out, np.concatenate(parts))


if __name__ == "__main__":
    main(*sys.argv[1:])
