"""From a saved model and labelled texts to the files of a report."""

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from flax import nnx

from amsdff_jax.base.files import user_errors
from amsdff_jax.config import Config, TaskConfig
from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.evaluation.calibration_file import AnyCalibration
from amsdff_jax.evaluation.environment import describe_environment
from amsdff_jax.evaluation.evaluator import Evaluation, Evaluator
from amsdff_jax.evaluation.metrics import METRICS, compute_metrics
from amsdff_jax.evaluation.multi_label_calibration import MultiLabelCalibration
from amsdff_jax.evaluation.report import draw_report, write_report
from amsdff_jax.models.model_folder import SavedModel
from amsdff_jax.models.variables import Variables
from amsdff_jax.parallel.data_parallel import DataParallel
from amsdff_jax.parallel.hosts import is_first_host
from amsdff_jax.reporting.console import make_console
from amsdff_jax.reporting.table import Table, columns, to_rich


class Reporter:
    """Evaluates datasets with a saved model, writes their tables and then, asked for it, draws their pictures.

    Attributes:
      task: the kind of the model's task.
    """

    def __init__(
        self,
        saved: SavedModel,
        config: Config,
        buckets: tuple[int, ...] = (),
        calibration: AnyCalibration | None = None,
    ):
        """Takes the model.

        Args:
          saved: with its tokenizer.
          config: of the run.
          buckets: rising padded lengths, such as those of the training; (): chosen from the first dataset.
          calibration: of the model, of which the thresholds count where a text may have several labels.
        """
        self.task = saved.task
        parallel = DataParallel()
        model = saved.model.for_platform(parallel.platform)
        self._variables = parallel.replicate(Variables.of(model))
        self._config = dataclasses.replace(config, model=model.config, task=TaskConfig(saved.task))
        tokenizer, windows = saved.require_tokenizer(), model.windows
        self._evaluator = Evaluator(nnx.graphdef(model), self._config, tokenizer, parallel, buckets, windows)
        self._environment = describe_environment(model)
        self._class_names, self._reads_pairs = saved.class_names, saved.reads_pairs
        self._thresholds = calibration.thresholds if isinstance(calibration, MultiLabelCalibration) else ()
        self._evaluations: dict[Path, Evaluation] = {}

    def evaluate(
        self, dataset: TextDataset, directory: Path, should_stop: Callable[[], bool] = lambda: False
    ) -> dict[str, Any]:
        """The metrics of one dataset, whose tables are written to `directory`.

        Raises:
          UserError: other classes than the model's, pairs of texts where it reads single ones or single ones where it
            reads pairs, or a folder that cannot be written.
          StoppedError: `should_stop` said so.
        """
        dataset.require_classes(self._class_names, "the model", self.task)
        dataset.require_pairs(self._reads_pairs, "the model")
        evaluation = self._evaluator.evaluate(self._variables, dataset, should_stop)
        evaluation = dataclasses.replace(evaluation, thresholds=self._thresholds)
        metrics = compute_metrics(evaluation, dataset.class_names, self._config.loss)
        if is_first_host():
            with report_errors(directory):
                write_report(directory, dataset, evaluation, metrics)
            self._evaluations[directory] = evaluation
        return metrics | {"truncated": evaluation.truncated} | self._environment

    def draw(self) -> None:
        """The pictures come last, so that one that fails or takes long does not take the numbers with it."""
        for directory, evaluation in self._evaluations.items():
            draw_report(directory, self._class_names, evaluation)


def report_errors(report: Path) -> contextlib.AbstractContextManager[None]:
    """Turns a report that cannot be written into one line."""
    return user_errors(report, "written", "make room and run the same command again to write it")


def print_metrics(metrics: Mapping[str, Mapping[str, Any]], report: Path, task: str = "single") -> None:
    """Prints the most important numbers of each split, those of a kind of task, under the folder of their report."""
    names = METRICS[task].shown
    rows = []
    for split, values in metrics.items():
        numbers = (values[name] for name in names.values())
        rows.append((split, *(f"{number:.4f}" if isinstance(number, float) else str(number) for number in numbers)))
    make_console().print(to_rich(Table(columns("split", *names), rows, f"report: {report}")))
