"""AMSDFF computed in bfloat16 and in float32: what the smaller type costs in accuracy, three seeds on four datasets.

    python scripts/run_experiments.py --config=configs/precision.py

400 to 1,000 training texts of each dataset, cut at 32 tokens, so that two cores end it within an hour; rounding has the
more of a say the less there is to learn from. The report is written to results/precision.
"""

from pathlib import Path

from amsdff_jax.experiments.settings import default_experiment, run_settings

HERE = Path(__file__).parent
SHOTS = {"snippets": 500, "r8": 75, "r52": 10, "agnews": 250}


def get_config():
    config = default_experiment()
    config.datasets.snippets = run_settings(HERE / "quickstart.py")
    config.datasets.r8 = run_settings(HERE / "reuters_r8.py")
    config.datasets.r52 = run_settings(HERE / "reuters_r52.py")
    config.datasets.agnews = run_settings(HERE / "agnews.py")
    config.datasets.agnews.data.train_split = "train[:10000]"
    config.datasets.agnews.data.test_split = "test[:2000]"
    config.datasets.agnews.model.encoder = "minilm-l6"
    config.datasets.agnews.train.encoder_learning_rate = 1e-4
    for name, settings in config.datasets.items():
        settings.data.shots = SHOTS[name]
        settings.data.max_length = 32
        settings.data.num_buckets = 1
    config.variants.bfloat16 = {"model": {"compute_dtype": "bfloat16"}}
    config.variants.float32 = {"model": {"compute_dtype": "float32"}}
    config.reference = "bfloat16"
    return config
