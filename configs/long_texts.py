"""Texts cut at 128 tokens, read at both ends, or read whole: an attention pool on a frozen encoder, three seeds.

    python scripts/prepare_data.py reuters_r8         # and reuters_r52, reuters_r8_joined
    python scripts/run_experiments.py --config=configs/long_texts.py

In `r8_joined` what decides comes after 200 words that do not. The report is written to results/long_texts-frozen.
"""

from pathlib import Path

from amsdff_jax.experiments.settings import default_experiment, run_settings

HERE = Path(__file__).parent


def get_config():
    config = default_experiment()
    config.datasets.r8 = run_settings(HERE / "reuters_r8.py")
    config.datasets.r52 = run_settings(HERE / "reuters_r52.py")
    config.datasets.r8_joined = run_settings(HERE / "reuters_r8.py")
    for split in ("train", "test"):
        config.datasets.r8_joined.data[f"{split}_file"] = f"data/reuters_r8_joined/{split}.csv.gz"
    for settings in config.datasets.values():
        settings.data.max_windows = 8
    for long_texts in ("truncate", "head_tail", "windows"):
        change = {"model": {"name": "attention"}, "data": {"long_texts": long_texts}}
        config.variants[f"attention_{long_texts}"] = change
    config.reference = "attention_windows"
    config.mode = "frozen"
    return config
