"""Sentiment of movie-review snippets, bundled with the package, on all-MiniLM-L6-v2, all of which is fine-tuned.

    python scripts/train.py --config=configs/movie_snippets.py

The same texts as quickstart.py, which leaves part of the encoder as it is to be done in minutes.
"""

from amsdff_jax.config import default_config


def get_config():
    config = default_config()
    config.data.source = "bundled"
    config.data.max_length = 64
    config.model.encoder = "minilm-l6"
    config.train.epochs = 2
    config.train.learning_rate = 2e-4
    config.train.encoder_learning_rate = 2e-4
    return config
