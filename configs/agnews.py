"""AG News topics from TFDS (`ag_news_subset`, 120,000 training articles) on DistilBERT.

python scripts/train.py --config=configs/agnews.py
"""

from amsdff_jax.config import default_config


def get_config():
    config = default_config()
    config.data.source = "tfds"
    config.data.tfds_name = "ag_news_subset"
    config.data.text_features = ("title", "description")
    config.data.max_length = 128
    config.model.encoder = "distilbert-base-uncased"
    config.train.epochs = 2
    return config
