"""Topics of AG News articles (TFDS `ag_news_subset`: 120,000 for training, 7,600 for testing) on DistilBERT.

    python scripts/train.py --config=configs/agnews.py

Not run here: neither the data nor the encoder could be downloaded. With 10,000 of the training articles and
`--config.model.encoder=minilm-l6 --config.train.encoder_learning_rate=1e-4`, in bfloat16, test accuracy is 0.918, see
docs/results.md.
"""

from amsdff_jax.config import LAST_LAYER, default_config, leave_out_new_dropout


def get_config():
    config = default_config()
    config.data.source = "tfds"
    config.data.dataset = "ag_news_subset"
    config.data.text_features = ("title", "description")
    config.data.max_length = 128
    leave_out_new_dropout(config.model)
    config.train.epochs = 2
    config.train.head_learning_rate = 3e-4
    config.train.learning_rate_table = ((LAST_LAYER, 3e-3),)
    return config
