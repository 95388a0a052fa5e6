"""The report of a finished run, or of any saved model, on labelled texts."""

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.files import folder_of, user_errors, user_path
from amsdff_jax.config import Config, DataConfig, TrainConfig
from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.data.file_sets import name_of
from amsdff_jax.data.files import read_file
from amsdff_jax.data.sources import DataSplits, load_data
from amsdff_jax.evaluation.calibration_file import AnyCalibration, read_calibration
from amsdff_jax.evaluation.model_card import record_metrics, recorded_columns, recorded_loss
from amsdff_jax.evaluation.report import write_metrics
from amsdff_jax.evaluation.reporter import Reporter, print_metrics, report_errors
from amsdff_jax.models.model_folder import SavedModel, read_model_folder
from amsdff_jax.parallel.hosts import is_first_host
from amsdff_jax.prediction.classifier import BATCH_SIZE
from amsdff_jax.prediction.inputs import check_pairs
from amsdff_jax.training.inputs import check_split
from amsdff_jax.training.workdir import read_run_config


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
    reporter = Reporter(saved, config, calibration=_thresholds(workdir / "model", saved))
    if file:
        name = name_of(file)
        name += "-files" if name in DataSplits._fields else ""  # of a folder of that name, which is no split
        dataset, directory = read_file(file, config.data, saved.class_names, saved.task), workdir / "report" / name
    else:
        name = split
        dataset = getattr(load_data(config.data, config.seed, saved.task), split)
        directory = workdir / "report" if split == "test" else workdir / "report" / split
        if dataset is None:
            raise UserError(
                f"{workdir}: the run's data has no {split} split; name one in the config, or use --file=FILE"
            )
        check_split(workdir, split, dataset)
    return _evaluate_and_write(reporter, dataset, name, directory, card=workdir / "model")


def evaluate_model(
    model: str | Path,
    file: str,
    data: DataConfig | None = None,
    output: str | Path = "",
    batch_size: int = BATCH_SIZE,
) -> dict[str, Any]:
    """Evaluates any model folder, a converted or received one too, which stays as it is, and writes the report.

    Args:
      model: the folder.
      file: labelled texts.
      data: names of the file's columns; None: as the model was trained with.
      output: folder of the report; "": `<name of the model>-report/<name of the file>/`, beside the model.
      batch_size: texts that go through the model together.

    Returns:
      The metrics. Their `loss` is that of the training where the folder tells it, else cross-entropy.

    Raises:
      UserError: anything wrong with the folder, the file or the output.
    """
    model = user_path(model)
    data = data or recorded_columns(model)
    saved = read_model_folder(model)
    saved.require_tokenizer(model)
    check_pairs(saved.reads_pairs, data.text_pair_column)
    dataset, name = read_file(file, data, saved.class_names, saved.task), name_of(file)
    directory = user_path(output) if output else model.absolute().with_name(f"{model.absolute().name}-report") / name
    overlap = saved.model.windows.overlap if saved.model.windows else data.window_overlap
    limit = {"max_length": saved.max_length, "long_texts": saved.long_texts, "window_overlap": overlap}
    config = Config(
        data=dataclasses.replace(data, **limit),
        loss=recorded_loss(model),
        train=TrainConfig(eval_batch_size=batch_size),
    )
    reporter = Reporter(saved, config, calibration=_thresholds(model, saved))
    with contextlib.ExitStack() as made:
        with user_errors(directory, "written", "name another folder with --output"):
            made.enter_context(folder_of(directory / "metrics.json"))  # before the work, not after it
        return _evaluate_and_write(reporter, dataset, name, directory)


def _thresholds(model: Path, saved: SavedModel) -> AnyCalibration | None:
    """The calibration where it decides which labels a text gets."""
    return None if saved.task != "multi_label" else read_calibration(model, saved.class_names, saved.task)


def _evaluate_and_write(
    reporter: Reporter, dataset: TextDataset, name: str, directory: Path, card: Path | None = None
) -> dict[str, Any]:
    """Writes the report of one split or file, and its metrics into the card of the model folder `card`."""
    metrics = reporter.evaluate(dataset, directory)
    if is_first_host():
        with report_errors(directory):
            write_metrics(directory, {name: metrics}, reporter.task)
            if card:
                record_metrics(card, {name: metrics})
        reporter.draw()
        print_metrics({name: metrics}, directory, reporter.task)
    return metrics
