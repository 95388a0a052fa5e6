"""Topics of AG News articles (TFDS `ag_news_subset`: 120,000 for training, 7,600 for testing) on DistilBERT.

python scripts/train.py --config=configs/agnews.py
"""

from amsdff_jax.config import default_config


def get_config():
    config = default_config()
    config.data.source = "tfds"
    config.data.tfds_name = "ag_news_subset"
    config.data.text_features = ("title", "description")
    config.data.max_length = 128
    config.train.epochs = 2
    return config
