"""8, 16 and 32 labelled texts of each class, ten draws: the recipe for few labels, and SetFit on the same texts.

    pip install setfit
    python scripts/run_experiments.py --config=configs/few_shot.py

The encoder is `minilm-l6` for both, texts are cut at 64 tokens. SetFit has its own settings, with which its time grows
with the square of the texts. The report is written to results/few_shot.
"""

from pathlib import Path

from amsdff_jax.experiments.settings import default_experiment, run_settings

HERE = Path(__file__).parent


def get_config():
    config = default_experiment()
    for name, file in (("snippets", "quickstart"), ("agnews", "agnews"), ("r8", "reuters_r8")):
        for shots in (8, 16, 32):
            settings = run_settings(HERE / f"{file}.py")
            settings.data.shots = shots
            settings.data.max_length = 64
            settings.data.num_buckets = 1
            settings.model.encoder = "minilm-l6"
            settings.loss.update(ce=1.0, focal=0.0, label_smoothing=0.0)
            settings.train.update(
                linear_probe=True,
                keep_best=False,
                epochs=20,
                encoder_learning_rate=5e-5,
                head_learning_rate=1e-3,
                learning_rate_table=(),
                evaluate_every=1_000_000,  # at the end only
            )
            if name == "agnews":
                settings.data.train_split = "train[:4000]"
                settings.data.test_split = "test[:1000]"
            config.datasets[f"{name}_{shots}"] = settings
    config.variants.contrastive = {"model": {"name": "linear"}, "loss": {"contrastive": 1.0, "temperature": 0.1}}
    config.variants.linear = {"model": {"name": "linear"}}
    config.variants.setfit = {}
    config.reference = "contrastive"
    config.seeds = 10
    return config
