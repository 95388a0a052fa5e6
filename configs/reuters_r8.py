"""Reuters-21578, R8 split: 5,485 training and 2,189 test newswires, 8 topics."""

from amsdff_jax.config import default_config


def get_config():
    config = default_config()
    config.data.source = "files"
    config.data.train_file = "data/reuters_r8/train.csv.gz"
    config.data.test_file = "data/reuters_r8/test.csv.gz"
    config.data.max_length = 128
    config.model.encoder = "minilm-l6"
    config.train.epochs = 3
    return config
