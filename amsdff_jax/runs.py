"""A whole run from settings to report, and the evaluation of a finished one or of any model."""

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from flax import nnx
from rich.table import Table

from amsdff_jax.classifier import BATCH_SIZE
from amsdff_jax.config import Config, DataConfig, TrainConfig
from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.data.files import read_file
from amsdff_jax.data.sources import DataSplits, load_data
from amsdff_jax.errors import UserError
from amsdff_jax.escaping import printable
from amsdff_jax.evaluation.environment import describe_environment
from amsdff_jax.evaluation.evaluator import Evaluation, Evaluator, StoppedError
from amsdff_jax.evaluation.metrics import compute_metrics
from amsdff_jax.evaluation.model_card import record_metrics, record_training, recorded_loss
from amsdff_jax.evaluation.report import draw_learning_curves, draw_report, read_metrics, write_metrics, write_report
from amsdff_jax.idle_settings import find_idle_settings
from amsdff_jax.interop.model_folder import SavedModel, read_model_folder
from amsdff_jax.models.catalogue import make_model
from amsdff_jax.parallel.data_parallel import DataParallel
from amsdff_jax.parallel.hosts import is_first_host
from amsdff_jax.paths import user_path
from amsdff_jax.prediction.inputs import check_pairs
from amsdff_jax.terminal import make_console
from amsdff_jax.training.inputs import check_split, record_test_split
from amsdff_jax.training.step import Variables
from amsdff_jax.training.trainer import Trainer
from amsdff_jax.training.workdir import lock_workdir, read_run_config

logger = logging.getLogger(__name__)


def train_run(
    config: Config,
    workdir: str | Path,
    stop_signal: Callable[[], Callable[[], bool]] = lambda: lambda: False,
) -> bool:
    """Trains what `config` describes and writes the report.

    Args:
      config: the settings.
      workdir: the run's folder. One that holds an unfinished run of the same settings is gone on with.
      stop_signal: called once there is something to lose, for the question that is asked at every
        step from then on: whether to stop, save and return.

    Returns:
      Whether the run is finished; if not, the same call goes on with it.

    Raises:
      UserError: anything wrong with settings, data, encoder or folder.
    """
    workdir = user_path(workdir)
    for name, reason in find_idle_settings(config).items():
        logger.info("%s decides nothing, because %s", name, reason)
    data = load_data(config.data, config.seed)
    trainer = make_trainer(config, data, workdir)
    with lock_workdir(workdir):
        return _train_and_report(trainer, data, config, stop_signal())


def make_trainer(
    config: Config, data: DataSplits, workdir: str | Path, devices: Sequence[jax.Device] | None = None
) -> Trainer:
    """A trainer of the model that `config` describes, with as many classes as the data has unless it says otherwise.

    Args:
      devices: None: all there are.

    Raises:
      UserError: anything wrong with settings, encoder or folder.
    """
    classes = config.model.num_classes or len(data.train.class_names)
    model = make_model(dataclasses.replace(config.model, num_classes=classes), seed=config.seed)
    return Trainer(model, config, data.train, data.validation, workdir, devices=devices)


def evaluate_run(workdir: str | Path, split: str = "test", file: str = "") -> dict[str, Any]:
    """Evaluates the model of a finished run and writes the report.

    Args:
      workdir: the run's folder.
      split: a split of the run's own data; its report goes to `report/`, as at the end of training
        (`report/train/` and `report/validation/` for these splits).
      file: a file instead, whose report goes to `report/<name of the file>/`.

    Returns:
      The metrics.

    Raises:
      UserError: no finished run, no such split, one that has changed since the run was made, or anything wrong with
        the file.
    """
    workdir = user_path(workdir)
    config = read_run_config(workdir)
    saved = read_model_folder(workdir / "model")
    reporter = _Reporter(saved, config)
    if file:
        name = Path(file).name  # with its ending, so that it is not the name of a split
        dataset, directory = read_file(file, config.data, saved.class_names), workdir / "report" / name
    else:
        name = split
        dataset = getattr(load_data(config.data, config.seed), split)
        directory = workdir / "report" if split == "test" else workdir / "report" / split
        if dataset is None:
            raise UserError(
                f"{workdir}: the run's data has no {split} split; name one in the config, or use --file=FILE"
            )
        check_split(workdir, split, dataset)
    return _evaluate_and_write(reporter, dataset, name, directory, card=workdir / "model")


def evaluate_model(
    model: str | Path, file: str, data: DataConfig, output: str | Path = "", batch_size: int = BATCH_SIZE
) -> dict[str, Any]:
    """Evaluates any model folder, a converted or received one too, which stays as it is, and writes the report.

    Args:
      model: the folder.
      file: labelled texts.
      data: names of the file's columns.
      output: folder of the report; "": `<name of the model>-report/<name of the file>/`, beside the model.
      batch_size: texts that go through the model together.

    Returns:
      The metrics. Their `loss` is that of the training where the folder tells it, else cross-entropy.

    Raises:
      UserError: anything wrong with the folder, the file or the output.
    """
    model = user_path(model)
    saved = read_model_folder(model)
    if saved.tokenizer is None:
        raise UserError(f"{model}: holds no tokenizer, and texts cannot be read without one; save it with one")
    check_pairs(saved.reads_pairs, data.text_pair_column)
    dataset, name = read_file(file, data, saved.class_names), Path(file).name
    directory = user_path(output) if output else model.absolute().with_name(f"{model.absolute().name}-report") / name
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{directory}: cannot be written ({error.strerror}); name another folder with --output"
        ) from None
    config = Config(
        data=dataclasses.replace(data, max_length=saved.max_length),
        loss=recorded_loss(model),
        train=TrainConfig(eval_batch_size=batch_size),
    )
    return _evaluate_and_write(_Reporter(saved, config), dataset, name, directory)


def _evaluate_and_write(
    reporter: "_Reporter", dataset: TextDataset, name: str, directory: Path, card: Path | None = None
) -> dict[str, Any]:
    """Writes the report of one split or file, and its metrics into the card of the model folder `card`."""
    metrics = reporter.evaluate(dataset, directory)
    if is_first_host():
        with _errors_told(directory):
            write_metrics(directory, {name: metrics})
            if card:
                record_metrics(card, {name: metrics})
        reporter.draw()
        _print_table({name: metrics}, directory)
    return metrics


def _train_and_report(trainer: Trainer, data: DataSplits, config: Config, should_stop: Callable[[], bool]) -> bool:
    workdir = trainer.workdir
    trainer.train(should_stop=should_stop)
    if not trainer.finished:
        logger.info("stopped and saved; run the same command again to go on")
        return False
    report = workdir / "report"
    if _is_written(report):
        logger.info("%s is finished already, its report is in %s; train again with another --workdir", workdir, report)
        return True
    splits = {"validation": data.validation, "test": data.test}
    reporter = _Reporter(read_model_folder(workdir / "model"), trainer.config)
    try:
        metrics = {
            name: reporter.evaluate(dataset, report, should_stop)
            for name, dataset in splits.items()
            if dataset is not None
        }
    except StoppedError:
        logger.info("training is done and saved, but not the report; run the same command again to write it")
        return False
    if is_first_host():
        with _errors_told(report):
            named = {"train": data.train} | {name: dataset for name, dataset in splits.items() if dataset is not None}
            record_training(
                workdir / "model", config, named, metrics, steps=trainer.total_steps, best_step=trainer.best_step
            )
            write_metrics(report, metrics)
            if data.test is not None:
                record_test_split(workdir, data.test)
        reporter.draw()
        draw_learning_curves(report, workdir / "metrics.jsonl", trainer.best_step, config.train.best_metric)
        _print_table(metrics, report)
    return True


class _Reporter:
    """Evaluates datasets with a saved model, writes their tables and then, asked for it, draws their pictures."""

    def __init__(self, saved: SavedModel, config: Config):
        graph, parameters, statistics = nnx.split(saved.model, nnx.Param, nnx.BatchStat)
        parallel = DataParallel()
        self._variables = parallel.replicate(Variables(nnx.to_pure_dict(parameters), {}, nnx.to_pure_dict(statistics)))
        self._config = dataclasses.replace(config, model=saved.model.config)
        self._evaluator = Evaluator(graph, self._config, saved.tokenizer, parallel)
        self._environment = describe_environment(saved.model)
        self._class_names = saved.class_names
        self._evaluations: dict[Path, Evaluation] = {}

    def evaluate(
        self, dataset: TextDataset, directory: Path, should_stop: Callable[[], bool] = lambda: False
    ) -> dict[str, Any]:
        dataset.require_classes(self._class_names, "the model")
        evaluation = self._evaluator.evaluate(self._variables, dataset, should_stop)
        metrics = compute_metrics(evaluation, dataset.class_names, self._config.loss)
        if is_first_host():
            with _errors_told(directory):
                write_report(directory, dataset, evaluation, metrics)
            self._evaluations[directory] = evaluation
        return metrics | {"truncated": evaluation.truncated} | self._environment

    def draw(self) -> None:
        """The pictures come last, so that one that fails or takes long does not take the numbers with it."""
        for directory, evaluation in self._evaluations.items():
            draw_report(directory, self._class_names, evaluation)


def _is_written(report: Path) -> bool:
    """Whether training has written its report to the end, which `evaluate_run` may have added to."""
    return "validation" in read_metrics(report)


@contextlib.contextmanager
def _errors_told(report: Path) -> Iterator[None]:
    """Turns a report that cannot be written into one line."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{report}: cannot be written ({error.strerror}); make room and run the same command again to write it"
        ) from None


def _print_table(metrics: Mapping[str, Mapping[str, Any]], report: Path) -> None:
    columns = {"texts": "examples", "accuracy": "accuracy", "macro F1": "macro_f1", "loss": "loss", "ECE": "ece"}
    table = Table(title=f"report: {printable(str(report))}")
    for title in ("split", *columns):
        table.add_column(title, justify="left" if title == "split" else "right")
    for split, values in metrics.items():
        numbers = (values[name] for name in columns.values())
        table.add_row(
            printable(split), *(f"{number:.4f}" if isinstance(number, float) else str(number) for number in numbers)
        )
    make_console().print(table)
