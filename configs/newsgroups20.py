"""20 Newsgroups, by-date split: 11,293 for training, 7,528 for testing, 20 classes, on DistilBERT.

    python scripts/prepare_data.py newsgroups20
    python scripts/train.py --config=configs/newsgroups20.py

These texts are lower case and letters only, with subjects, quotations and signatures. scikit-learn's loader downloads
the posts as they were written (11,314 and 7,532) and takes headers, footers and quotations away, a harder task:
--config.data.source=newsgroups20.

Not run here: the encoder could not be downloaded.
"""

from amsdff_jax.config import default_config


def get_config():
    config = default_config()
    config.data.source = "files"
    config.data.train_file = "data/newsgroups20/train.csv.gz"
    config.data.test_file = "data/newsgroups20/test.csv.gz"
    return config
