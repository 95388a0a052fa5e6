"""Calibrates a trained model on held-out texts, and tells what it came to."""

import logging
from collections.abc import Mapping
from pathlib import Path

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.validation import first_of, require
from amsdff_jax.config import DataConfig
from amsdff_jax.data.files import read_file
from amsdff_jax.evaluation.calibration import CALIBRATION_BINS, CONFIDENCE, Calibration, calibrate
from amsdff_jax.evaluation.calibration_file import CALIBRATION, AnyCalibration, write_calibration
from amsdff_jax.evaluation.model_card import recorded_columns, write_model_card
from amsdff_jax.evaluation.multi_label_calibration import NEVER, MultiLabelCalibration, calibrate_thresholds
from amsdff_jax.evaluation.regression_calibration import RegressionCalibration, calibrate_intervals
from amsdff_jax.models.model_folder import read_model_folder
from amsdff_jax.prediction.classifier import BATCH_SIZE, Classifier
from amsdff_jax.prediction.inputs import check_pairs
from amsdff_jax.reporting.console import make_console
from amsdff_jax.reporting.table import Table, columns, to_rich

logger = logging.getLogger(__name__)


def calibrate_model(
    model: str,
    file: str,
    data: DataConfig | None = None,
    *,
    target_precision: float = 0.0,
    coverage: float = 0.0,
    false_negative_rate: float = 0.0,
    batch_size: int = BATCH_SIZE,
) -> AnyCalibration:
    """Writes `calibration.json` into a model folder, which `Classifier` obeys from then on, and its card anew.

    Args:
      model: the folder.
      file: labelled texts that the model was not trained on, and that are like those it will see.
      data: names of the file's columns; None: as the model was trained with.
      target_precision: of the predictions that the model does not abstain from; 0: it never abstains. Where texts may
        have several labels, of the texts that get a class, for each; 0: the thresholds are those of the best F1.
      coverage: share of label sets that are to hold the truth; 0: no label sets. Of a model of numbers, of intervals.
      false_negative_rate: where texts may have several labels, the share of them that a text's label set may lack, on
        average; 0: no label sets.
      batch_size: texts that go through the model together.

    Returns:
      What was written.

    Raises:
      UserError: anything wrong with the folder or the file, or more asked for than the model and the texts can give.
    """
    saved, data = read_model_folder(model), data or recorded_columns(model)
    check_pairs(saved.reads_pairs, data.text_pair_column)
    several, number = saved.task == "multi_label", saved.task == "regression"
    if several and coverage:
        raise UserError("--coverage: of models of one label a text; of several it is --false_negative_rate")
    if false_negative_rate and not several:
        raise UserError("--false_negative_rate: of models of several labels a text; of one it is --coverage")
    if number and target_precision:
        raise UserError("--target_precision: of models of classes; of a model of numbers it is --coverage")
    if number and not coverage:
        raise UserError("--coverage: not given; expected the share of intervals to hold the truth, such as 0.9")
    shares = {"coverage": coverage, "target_precision": target_precision, "false_negative_rate": false_negative_rate}
    for name, share in shares.items():  # before the texts go through the model
        require(0 <= share < 1, f"--{name}", share, "a share above 0 and below 1, such as 0.9")
    dataset = read_file(file, data, saved.class_names, saved.task)
    dataset.require_classes(saved.class_names, "the model", saved.task)
    pairs = dataset.text_pairs
    texts = dataset.texts if pairs is None else zip(dataset.texts, pairs, strict=True)
    classifier = Classifier(saved, batch_size=batch_size)
    try:
        logits = classifier.logits(texts)
        known, name = (logits, dataset.classes, saved.class_names), Path(file).name
        if number:
            calibration = calibrate_intervals(*known, coverage, file=name)
        else:
            fit, sets = (calibrate_thresholds, false_negative_rate) if several else (calibrate, coverage)
            calibration = fit(*known, target_precision, sets, file=name)
    except UserError as error:
        raise UserError(f"{file}: {error}") from None
    write_calibration(model, calibration)
    try:
        write_model_card(model)
    except OSError as error:
        raise UserError(f"{model}: calibrated, but its card cannot be written ({error.strerror})") from None
    return calibration


def print_calibration(calibration: AnyCalibration, model: str) -> None:
    """Prints what was found, and what it means."""
    console = make_console()
    if isinstance(calibration, RegressionCalibration):
        lines = _describe_intervals(calibration)
    else:
        several = isinstance(calibration, MultiLabelCalibration)
        table, lines = _describe_thresholds(calibration) if several else _describe_temperature(calibration)
        console.print(to_rich(table))
    for line in lines:
        console.print(line, soft_wrap=True)
    logger.info("written to %s", Path(model) / CALIBRATION)


def _describe_intervals(calibration: RegressionCalibration) -> list[str]:
    return [
        f"intervals of the predicted {calibration.class_names[0]} ± {calibration.half_width:.4g} hold the truth of at "
        f"least {calibration.coverage:.1%} of new texts, on average over such files as {calibration.file} with its "
        f"{calibration.texts:,} texts"
    ]


def _describe_thresholds(calibration: MultiLabelCalibration) -> tuple[Table, list[str]]:
    table = _before_and_after(calibration, {"micro_f1": "micro F1", "macro_f1": "macro F1"})
    lines = ["before: thresholds of 1/2; after: each fifth of the texts at the thresholds of the others"]
    if calibration.target_precision:
        pairs = zip(calibration.class_names, calibration.thresholds, strict=True)
        never = [name for name, threshold in pairs if threshold == NEVER]
        lines.append(
            f"of new texts that get a class, at least {calibration.target_precision:.1%} will have it, with "
            f"{CONFIDENCE:.0%} certainty for each class"
        )
        if never:
            lines.append(f"never given, because nothing shows that they reach it: {first_of(never)}")
    if calibration.false_negative_rate:
        lines.append(
            f"label sets lack at most {calibration.false_negative_rate:.1%} of a new text's labels, on average; they "
            f"have {calibration.label_set_size:.2f} classes on average"
        )
    return table, lines


def _before_and_after(calibration: Calibration | MultiLabelCalibration, names: Mapping[str, str]) -> Table:
    rows = [
        (description, f"{calibration.before[name]:.4f}", f"{calibration.after[name]:.4f}")
        for name, description in names.items()
    ]
    return Table(columns("", "before", "after"), rows, f"{calibration.texts:,} texts of {calibration.file}")


def _describe_temperature(calibration: Calibration) -> tuple[Table, list[str]]:
    names = {"ece": f"expected calibration error, {CALIBRATION_BINS} bins", "log_loss": "log loss", "brier": "Brier"}
    lines = [
        f"temperature {calibration.temperature:.3f}; after: each fifth of the texts at the temperature of the others"
    ]
    if calibration.target_precision:
        lines.append(
            f"abstains below a probability of {calibration.threshold:.4f}: {calibration.kept:.1%} of these texts are "
            f"answered, {calibration.precision:.1%} of them rightly; of new texts that it answers, at least "
            f"{calibration.target_precision:.1%} will be right, with {CONFIDENCE:.0%} certainty"
        )
    if calibration.coverage:
        lines.append(
            f"label sets hold the truth of at least {calibration.coverage:.1%} of new texts, on average over such "
            f"files; they have {calibration.label_set_size:.2f} classes on average"
        )
        if calibration.label_set_size == 1:
            lines.append("every set is the predicted class alone, which is right at least that often: ask for more")
    return _before_and_after(calibration, names), lines
