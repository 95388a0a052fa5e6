"""Other ways to fine-tune AMSDFF, judged on validation texts: three seeds on four datasets.

    python scripts/run_experiments.py --config=configs/fine_tuning.py

The texts are those of configs/precision.py: 400 to 1,000 for training, cut at 32 tokens. The report is written to
results/fine_tuning-validation.
"""

from pathlib import Path

from amsdff_jax.config import LAST_LAYER
from amsdff_jax.experiments.settings import default_experiment, run_settings

HERE = Path(__file__).parent
LAYERS, ENCODER_RATE = 6, 1e-4
DECAY = 0.8  # of the rate, from one layer to the one below


def get_config():
    config = default_experiment()
    config.datasets = run_settings(HERE / "precision.py").datasets
    for settings in config.datasets.values():
        settings.model.compute_dtype = "bfloat16"
    depth_rates = [
        (rf"^transformer\.transformer\.layer\.{layer}\.", ENCODER_RATE * DECAY ** (LAYERS - 1 - layer))
        for layer in range(LAYERS)
    ]
    depth_rates = (
        (r"^transformer\.embeddings\.", 0.0),
        *depth_rates,
        (r"^(feature|multi)_", 1e-4),
        (r"^(dynamic|pooling)_", 2e-4),
        (LAST_LAYER, 3e-3),
    )
    config.variants.amsdff = {}
    config.variants.linear_probe = {"train": {"linear_probe": True}}
    config.variants.depth_rates = {"train": {"learning_rate_table": depth_rates}}
    config.variants.r_drop = {"loss": {"r_drop": 1.0}}
    config.reported_split = "validation"
    return config
