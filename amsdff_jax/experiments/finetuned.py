"""One run that trains encoder and classifier together."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from amsdff_jax.config import Config
from amsdff_jax.data.sources import DataSplits
from amsdff_jax.evaluation.inference import StoppedError
from amsdff_jax.evaluation.metrics import compute_metrics
from amsdff_jax.experiments.record import Outcome, curve_point
from amsdff_jax.models.state_dict import parameter_names
from amsdff_jax.training.optimizer import without_idle_rates
from amsdff_jax.training.train_run import new_model
from amsdff_jax.training.trainer import Trainer


def run_finetuned(config: Config, data: DataSplits, workdir: Path, should_stop: Callable[[], bool]) -> Outcome:
    """Trains as `amsdff train` would, and evaluates the best checkpoint on the test split.

    Args:
      data: with a test split.
      workdir: of the run, which is resumed if it is there.
      should_stop: asked at every step.

    Raises:
      StoppedError: it said so; the same call resumes.
      UserError: anything wrong with settings or data.
    """
    model = new_model(config, data)
    config = dataclasses.replace(config, train=without_idle_rates(config.train, parameter_names(model)))
    trainer = Trainer(model, config, data.train, data.validation, workdir)
    history = trainer.train(should_stop=should_stop)
    if not trainer.finished:
        raise StoppedError
    test = data.require_test()
    evaluation = trainer.run_evaluation(test)
    metrics = compute_metrics(evaluation, test.class_names, config.loss)
    curve = tuple(curve_point(record["epoch"], record["validation"], evaluation.task) for record in history)
    return Outcome(evaluation, metrics, trainer.trained_parameters, trainer.seconds, curve)
