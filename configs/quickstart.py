"""Sentiment of movie-review snippets, bundled with the package, on all-MiniLM-L6-v2: needs no network.

Made for two CPU cores: the embeddings and the lower half of the encoder stay as they are, which saves a third of the
time.

python scripts/train.py --config=configs/quickstart.py
"""

from amsdff_jax.config import default_config


def get_config():
    config = default_config()
    config.data.source = "bundled"
    config.data.max_length = 48
    config.model.encoder = "minilm-l6"
    config.train.epochs = 2
    config.train.learning_rate_table = (
        (r"^transformer\.embeddings\.", 0.0),
        (r"^transformer\.transformer\.layer\.[0-2]\.", 0.0),
        (r"^transformer\.", 7e-5),
        (r"", 5e-4),
    )
    return config
