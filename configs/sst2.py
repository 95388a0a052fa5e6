"""Stanford Sentiment Treebank, two classes (TFDS `glue/sst2`), on DistilBERT.

The labels of GLUE's test split are secret, so its validation split serves as the test split here, and the validation
split is taken from the training split.

    python scripts/train.py --config=configs/sst2.py

Not run here: neither the data nor the encoder could be downloaded.
"""

from amsdff_jax.config import default_config


def get_config():
    config = default_config()
    config.data.source = "tfds"
    config.data.dataset = "glue/sst2"
    config.data.text_features = ("sentence",)
    config.data.test_split = "validation"
    config.data.validation_fraction = 0.05
    config.data.max_length = 64
    return config
