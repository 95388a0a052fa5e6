"""20 Newsgroups, by-date split without headers, footers and quotes (scikit-learn's loader), on DistilBERT.

python scripts/train.py --config=configs/newsgroups20.py
"""

from amsdff_jax.config import default_config


def get_config():
    config = default_config()
    config.data.source = "newsgroups20"
    return config
