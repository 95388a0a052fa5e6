"""The mean rating, from -4 to 4, of movie-review snippets that come with the package: a number, not a class.

Made for two CPU cores, as `quickstart.py` is.

    python scripts/train.py --config=configs/movie_ratings.py
"""

from amsdff_jax.config import default_config


def get_config():
    config = default_config()
    config.task.kind = "regression"
    config.data.source = "bundled"
    config.data.max_length = 64
    config.model.encoder = "minilm-l6"
    config.train.epochs = 2
    config.train.head_learning_rate = config.train.encoder_learning_rate = 2e-4
    config.train.learning_rate_table = ((r"^transformer\.embeddings\.", 0.0),)
    return config
