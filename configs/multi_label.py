"""Texts with several labels: AMSDFF against TF-IDF with one logistic regression per label, on two datasets.

    python scripts/prepare_data.py reuters_r52_pairs
    python scripts/prepare_data.py newsgroups20
    python scripts/run_experiments.py --config=configs/multi_label.py

`r52_pairs`: documents of two newswires, with the topics of both. `newsgroups20`: posts with the name of their group and
of all that is above it, such as `rec.sport.hockey`, `rec.sport` and `rec`. The report is written to
results/multi_label. On one core of an Intel Xeon with AMX AMSDFF trained for 86 and 52 minutes.
"""

from pathlib import Path

from amsdff_jax.experiments.settings import default_experiment, run_settings

HERE = Path(__file__).parent


def get_config():
    config = default_experiment()
    for name, folder in (("r52_pairs", "reuters_r52_pairs"), ("newsgroups20", "newsgroups20")):
        settings = run_settings(HERE / "reuters_r52.py")
        settings.data.train_file = f"data/{folder}/train.csv.gz"
        settings.data.test_file = f"data/{folder}/test.csv.gz"
        settings.model.compute_dtype = "bfloat16"
        settings.train.best_metric = "micro_f1"
        config.datasets[name] = settings
    config.datasets.r52_pairs.data.label_separator = "|"
    config.datasets.r52_pairs.data.max_length = 256
    config.datasets.r52_pairs.train.epochs = 8  # of half as many documents as R52 has texts
    config.datasets.newsgroups20.data.label_hierarchy = "."
    config.datasets.newsgroups20.data.max_length = 128
    config.datasets.newsgroups20.train.epochs = 3
    config.variants.amsdff = {"model": {"name": "amsdff"}}
    config.variants.tfidf = {}
    config.seeds = 1
    return config
