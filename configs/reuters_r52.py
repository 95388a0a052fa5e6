"""Reuters-21578, R52 split: 6,532 training and 2,568 test newswires, 52 topics."""

from amsdff_jax.config import default_config


def get_config():
    config = default_config()
    config.data.source = "files"
    config.data.train_file = "data/reuters_r52/train.csv.gz"
    config.data.test_file = "data/reuters_r52/test.csv.gz"
    config.data.max_length = 128
    config.model.encoder = "minilm-l6"
    config.train.epochs = 3
    return config
