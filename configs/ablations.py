"""AMSDFF without one part at a time: which of them earn their place.

    python scripts/run_experiments.py --config=configs/ablations.py

The report is written to results/ablations.
"""

from pathlib import Path

from amsdff_jax.experiments.settings import default_experiment, run_settings

HERE = Path(__file__).parent


def get_config():
    config = default_experiment()
    config.datasets.snippets = run_settings(HERE / "quickstart.py")
    config.datasets.snippets.train.learning_rate_table = ()  # everything moves, for a variant of random embeddings
    config.datasets.r8 = run_settings(HERE / "reuters_r8.py")
    for settings in config.datasets.values():
        settings.model.compute_dtype = "bfloat16"
    config.variants.amsdff = {}
    config.variants.no_multi_scale = {"model": {"multi_scale": False}}
    config.variants.no_fusion = {"model": {"fusion": False}}
    config.variants.attention_pool_only = {"model": {"pools": ("attention",)}}
    config.variants.query_pool_only = {"model": {"pools": ("query",)}}
    config.variants.max_pool_only = {"model": {"pools": ("max",)}}
    config.variants.one_scale = {"model": {"kernel_sizes": (3,)}}
    config.variants.one_expert = {"model": {"num_experts": 1}}
    config.variants.cross_entropy_only = {"loss": {"ce": 1.0, "focal": 0.0, "label_smoothing": 0.0}}
    config.variants.reference_padding = {"model": {"mask_padding": False}}
    without = {"encoder_attention_dropout_rate": 0.0, "attention_dropout_rate": 0.0}  # faster on GPUs
    config.variants.no_attention_dropout = {"model": without}
    config.variants.frozen_encoder = {"train": {"encoder_learning_rate": 0.0}}
    config.variants.random_new_layers = {"train": {"data_dependent_init": False}}
    config.variants.random_encoder = {"model": {"reinit_encoder": True}}
    return config
