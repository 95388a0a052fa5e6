"""A whole training run, from its settings to its report."""

import dataclasses
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from amsdff_jax.base.files import user_path
from amsdff_jax.config import Config
from amsdff_jax.config.idle_settings import find_idle_settings
from amsdff_jax.data.sources import DataSplits, load_data
from amsdff_jax.evaluation.inference import StoppedError
from amsdff_jax.evaluation.model_card import record_training
from amsdff_jax.models.model_folder import read_model_folder
from amsdff_jax.models.pretrained import PretrainedClassifier
from amsdff_jax.models.registry import make_model
from amsdff_jax.parallel.data_parallel import Device
from amsdff_jax.parallel.hosts import is_first_host
from amsdff_jax.parallel.stop import StopRequest
from amsdff_jax.training.inputs import record_test_split
from amsdff_jax.training.tracking import Trackers
from amsdff_jax.training.trainer import Trainer
from amsdff_jax.training.workdir import lock_workdir

logger = logging.getLogger(__name__)


def train_run(config: Config, workdir: str | Path, stop: StopRequest | None = None) -> bool:
    """Trains what `config` describes and writes the report.

    Args:
      config: the settings.
      workdir: the run's folder. One that holds an unfinished run of the same settings is resumed.
      stop: catches signals once there is something to lose; from then on a stop that is requested saves and returns.
        None: signals do what they do.

    Returns:
      Whether the run is finished; if not, the same call resumes it.

    Raises:
      UserError: anything wrong with settings, data, encoder or folder.
    """
    workdir = user_path(workdir)
    for name, reason in find_idle_settings(config).items():
        logger.info("%s decides nothing, because %s", name, reason)
    data = load_data(config.data, config.seed, config.task.kind)
    trainer = make_trainer(config, data, workdir)
    with lock_workdir(workdir):
        if stop is None:
            return _train_and_report(trainer, data, config, lambda: False)
        stop.catch_signals()
        return _train_and_report(trainer, data, config, stop.requested)


def new_model(config: Config, data: DataSplits) -> PretrainedClassifier:
    """The model that `config` describes, with as many classes as the data has unless it says otherwise.

    Raises:
      UserError: anything wrong with settings or encoder.
    """
    classes = config.model.num_classes or len(data.train.class_names)
    return make_model(dataclasses.replace(config.model, num_classes=classes), seed=config.seed)


def make_trainer(
    config: Config, data: DataSplits, workdir: str | Path, devices: Sequence[Device] | None = None
) -> Trainer:
    """A trainer of the model that `config` describes.

    Args:
      devices: None: all there are.

    Raises:
      UserError: anything wrong with settings, encoder or folder.
    """
    return Trainer(new_model(config, data), config, data.train, data.validation, workdir, devices=devices)


def _train_and_report(trainer: Trainer, data: DataSplits, config: Config, should_stop: Callable[[], bool]) -> bool:
    trainer.train(should_stop=should_stop)
    if not trainer.finished:
        logger.info("stopped and saved; run the same command again to resume")
        return False
    return _write_report(trainer, data, config, should_stop)


def _write_report(trainer: Trainer, data: DataSplits, config: Config, should_stop: Callable[[], bool]) -> bool:
    # Here, because Matplotlib takes a second to load, which the first step need not wait for.
    from amsdff_jax.evaluation.report import draw_learning_curves, read_metrics, write_metrics
    from amsdff_jax.evaluation.reporter import Reporter, print_metrics, report_errors

    workdir = trainer.workdir
    report = workdir / "report"
    if "validation" in read_metrics(report):  # written to the end, and `evaluate_run` may have added to it
        logger.info("%s is finished already, its report is in %s; train again with another --workdir", workdir, report)
        return True
    splits = {name: dataset for name, dataset in data._asdict().items() if dataset is not None}
    # With the lengths of the training, whose evaluation has been compiled for them.
    reporter = Reporter(read_model_folder(workdir / "model"), trainer.config, trainer.stream.buckets)
    try:
        metrics = {
            name: reporter.evaluate(dataset, report, should_stop) for name, dataset in splits.items() if name != "train"
        }
    except StoppedError:
        logger.info("training is done and saved, but not the report; run the same command again to write it")
        return False
    if is_first_host():
        with report_errors(report):
            # With the metric that the task has, and what the run began with, whatever a session after it was told.
            began = {name: getattr(trainer.config.model, name) for name in ("encoder", "reinit_encoder")}
            model = dataclasses.replace(config.model, **began)
            resolved = dataclasses.replace(config, train=trainer.config.train, model=model)
            steps = {"steps": trainer.total_steps, "best_step": trainer.best_step}
            record_training(workdir / "model", resolved, splits, metrics, **steps)
            if data.test is not None:
                record_test_split(workdir, data.test)
            write_metrics(report, metrics, trainer.config.task.kind)  # the last that a finished run must have
            if data.test is not None:
                last = trainer.history[-1]["step"]
                with Trackers(trainer.config, workdir, last, resumed=True) as trackers:
                    trackers.log("test", last, metrics["test"])
        reporter.draw()
        draw_learning_curves(report, workdir / "metrics.jsonl", trainer.best_step, trainer.config.train.best_metric)
        print_metrics(metrics, report, trainer.config.task.kind)
    return True
