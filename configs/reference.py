"""The published hyper-parameters and padding semantics, on AG News and DistilBERT.

Differs from `agnews.py` in epochs and batch size, and in that padding is visible to the model, every parameter decays
and learns at the same small rate, new layers begin at random alone, and all texts are padded to 256 tokens.

    python scripts/train.py --config=configs/reference.py
"""

from amsdff_jax.config import default_config


def get_config():
    config = default_config()
    config.data.source = "tfds"
    config.data.dataset = "ag_news_subset"
    config.data.text_features = ("title", "description")
    config.data.max_length = 256
    config.model.mask_padding = False
    config.train.epochs = 5
    config.train.batch_size = 16
    config.train.head_learning_rate = 5e-6
    config.train.encoder_learning_rate = 5e-6
    config.train.decay_all = True
    config.train.data_dependent_init = False
    return config
