"""Your own texts: a CSV, TSV, JSONL or Parquet file with the columns `text` and `label` is enough.

python scripts/train.py --config=configs/files.py --config.data.train_file=train.csv --workdir=runs/mine
"""

from amsdff_jax.config import default_config


def get_config():
    config = default_config()
    config.data.source = "files"
    config.model.encoder = "minilm-l6"
    return config
