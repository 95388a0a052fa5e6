"""Trains every model on every dataset, several times, and writes tables, tests of significance and pictures.

    python scripts/run_experiments.py --config=configs/experiments.py
    python scripts/run_experiments.py --datasets=snippets,r8 --models=amsdff,lstm --seeds=3
    python scripts/run_experiments.py --config=configs/ablations.py
    python scripts/run_experiments.py --config=configs/experiments.py --folds=5

The report is in results/<name of the config>, with -frozen, -5folds or -validation behind it. The same command resumes
what was interrupted (exit code 75) and makes failed runs again. Exit code 1: a run failed.
"""

import dataclasses

from absl import flags

from amsdff_jax.cli import command_line
from amsdff_jax.base.errors import UserError
from amsdff_jax.base.files import user_path
from amsdff_jax.experiments.experiment import run_experiment
from amsdff_jax.experiments.experiment_report import write_experiment_report
from amsdff_jax.experiments.settings import ExperimentConfig
from amsdff_jax.parallel.stop import StopRequest

CONFIG = command_line.DEFINE_CONFIG("config", "experiments", "Datasets, models and how to train them.")
DATASETS = flags.DEFINE_list("datasets", [], "Only these.")
MODELS = flags.DEFINE_list("models", [], "Only these.")
SEEDS = flags.DEFINE_integer("seeds", 0, "Runs of each model on each dataset; 0: as the config says.", lower_bound=0)
FOLDS = flags.DEFINE_integer("folds", 0, "Cross-validation in so many parts; 0: as the config says.", lower_bound=0)
COMPARE_BASELINES = flags.DEFINE_bool("compare_baselines", True, "Train the other models too, not the reference alone.")
OUTPUT = flags.DEFINE_string("output", "", "Folder of records and report; by default results/<name of the config>.")


def main() -> int:
    """Makes the runs that are missing and writes the report over all there are; returns the exit code."""
    config = ExperimentConfig.from_dict(CONFIG.value)
    config.check(flags.FLAGS["config"].override_values)
    if MODELS.value and not COMPARE_BASELINES.value:
        raise UserError("--nocompare_baselines: decides nothing beside --models, which names all that are trained")
    models = MODELS.value or ([] if COMPARE_BASELINES.value else [config.reference])
    config = dataclasses.replace(config, seeds=SEEDS.value or config.seeds, folds=FOLDS.value or config.folds)
    kind = ("-frozen" if config.mode == "frozen" else "") + (f"-{config.folds}folds" if config.folds else "")
    kind += "-validation" if config.reported_split == "validation" else ""
    output = user_path(OUTPUT.value or f"results/{command_line.config_name()}{kind}")
    stop = StopRequest()
    stop.catch_signals()
    finished = run_experiment(config, output, stop.requested, DATASETS.value, models)
    failed = write_experiment_report(config, output)
    if not finished:
        return command_line.EXIT_INTERRUPTED
    return command_line.EXIT_DIFFERENT if failed else 0


if __name__ == "__main__":
    command_line.run(main)
