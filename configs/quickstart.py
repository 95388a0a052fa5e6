"""Sentiment of movie-review snippets, bundled with the package, on all-MiniLM-L6-v2: needs no network.

python scripts/train.py --config=configs/quickstart.py
"""

from amsdff_jax.config import default_config


def get_config():
    config = default_config()
    config.data.source = "bundled"
    config.data.max_length = 64
    config.data.num_buckets = 2
    config.model.encoder = "minilm-l6"
    config.train.epochs = 2
    return config
