"""Calibrates a trained model on held-out texts, and tells what it came to."""

import logging
from pathlib import Path

from amsdff_jax.base.errors import UserError
from amsdff_jax.config import DataConfig
from amsdff_jax.data.files import read_file
from amsdff_jax.evaluation.calibration import (
    CALIBRATION,
    CALIBRATION_BINS,
    CONFIDENCE,
    Calibration,
    calibrate,
    write_calibration,
)
from amsdff_jax.evaluation.model_card import recorded_columns, write_model_card
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
    batch_size: int = BATCH_SIZE,
) -> Calibration:
    """Writes `calibration.json` into a model folder, which `Classifier` obeys from then on, and its card anew.

    Args:
      model: the folder.
      file: labelled texts that the model was not trained on, and that are like those it will see.
      data: names of the file's columns; None: as the model was trained with.
      target_precision: of the predictions that the model does not abstain from; 0: it never abstains.
      coverage: share of label sets that are to hold the truth; 0: no label sets.
      batch_size: texts that go through the model together.

    Returns:
      What was written.

    Raises:
      UserError: anything wrong with the folder or the file, or more asked for than the model and the texts can give.
    """
    saved, data = read_model_folder(model), data or recorded_columns(model)
    check_pairs(saved.reads_pairs, data.text_pair_column)
    dataset = read_file(file, data, saved.class_names)
    pairs = dataset.text_pairs
    texts = dataset.texts if pairs is None else list(zip(dataset.texts, pairs, strict=True))
    classifier = Classifier(saved, batch_size=batch_size)
    try:
        logits = classifier.logits(texts)
        calibration = calibrate(
            logits, dataset.labels, saved.class_names, target_precision, coverage, file=Path(file).name
        )
    except UserError as error:
        raise UserError(f"{file}: {error}") from None
    write_calibration(model, calibration)
    try:
        write_model_card(model)
    except OSError as error:
        raise UserError(f"{model}: calibrated, but its card cannot be written ({error.strerror})") from None
    return calibration


def print_calibration(calibration: Calibration, model: str) -> None:
    """Prints what was found, and what it means."""
    names = {"ece": f"expected calibration error, {CALIBRATION_BINS} bins", "log_loss": "log loss", "brier": "Brier"}
    rows = [
        (description, f"{calibration.before[name]:.4f}", f"{calibration.after[name]:.4f}")
        for name, description in names.items()
    ]
    title = f"{calibration.texts:,} texts of {calibration.file}"
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
            f"label sets hold the truth of at least {calibration.coverage:.1%} of new texts; they have "
            f"{calibration.label_set_size:.2f} classes on average"
        )
        if calibration.label_set_size == 1:
            lines.append("every set is the predicted class alone, which is right at least that often: ask for more")
    console = make_console()
    console.print(to_rich(Table(columns("", "before", "after"), rows, title)))
    for line in lines:
        console.print(line, soft_wrap=True)
    logger.info("written to %s", Path(model) / CALIBRATION)
