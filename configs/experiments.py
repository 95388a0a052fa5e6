"""AMSDFF against what is usual on the same encoder, and against TF-IDF, on four datasets.

    python scripts/run_experiments.py --config=configs/experiments.py
    python scripts/run_experiments.py --config=configs/experiments.py --config.mode=frozen

The Reuters files come from `python scripts/prepare_data.py reuters_r8` and `reuters_r52`; of AG News the first 10,000
of the training articles are taken. The report is written to results/experiments, or to results/experiments-frozen.
"""

from pathlib import Path

from amsdff_jax.experiments.settings import default_experiment, run_settings

HERE = Path(__file__).parent


def get_config():
    config = default_experiment()
    config.datasets.snippets = run_settings(HERE / "quickstart.py")
    config.datasets.r8 = run_settings(HERE / "reuters_r8.py")
    config.datasets.r52 = run_settings(HERE / "reuters_r52.py")
    config.datasets.agnews = run_settings(HERE / "agnews.py")
    config.datasets.agnews.data.train_split = "train[:10000]"
    config.datasets.agnews.model.encoder = "minilm-l6"
    config.datasets.agnews.train.encoder_learning_rate = 1e-4
    for settings in config.datasets.values():
        settings.model.compute_dtype = "bfloat16"
    for name in ("amsdff", "lstm", "gru", "transformer", "cnn", "attention", "linear"):
        config.variants[name] = {"model": {"name": name}}
    config.variants.tfidf = {}
    return config
