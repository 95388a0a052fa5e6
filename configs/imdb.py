"""Sentiment of IMDB reviews (TFDS `imdb_reviews`: 25,000 for training, 25,000 for testing) on DistilBERT.

    python scripts/train.py --config=configs/imdb.py

Not run here: neither the data nor the encoder could be downloaded.
"""

from amsdff_jax.config import default_config


def get_config():
    config = default_config()
    config.data.source = "tfds"
    config.data.dataset = "imdb_reviews"
    config.data.max_length = 512
    config.train.epochs = 2
    return config
