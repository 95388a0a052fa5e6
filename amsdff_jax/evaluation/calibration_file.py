"""The calibration in a model folder."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.files import read_json, user_errors, user_path, write_json
from amsdff_jax.base.validation import build
from amsdff_jax.evaluation.calibration import Calibration
from amsdff_jax.evaluation.multi_label_calibration import MultiLabelCalibration
from amsdff_jax.evaluation.regression_calibration import RegressionCalibration

CALIBRATION = "calibration.json"
FORMAT_VERSION = 1

AnyCalibration: TypeAlias = Calibration | MultiLabelCalibration | RegressionCalibration
KINDS: dict[str, type[AnyCalibration]] = {
    **{kind.task: kind for kind in (Calibration, MultiLabelCalibration, RegressionCalibration)},
    "ordinal": Calibration,
}


def write_calibration(folder: str | Path, calibration: AnyCalibration) -> None:
    """Writes `calibration.json` into a model folder, whole or not at all.

    Raises:
      UserError: the folder cannot be written.
    """
    file = user_path(folder) / CALIBRATION
    with user_errors(file, "written", "check its permissions and the disk"):
        write_json(file, {"format_version": FORMAT_VERSION, **dataclasses.asdict(calibration)})


def read_calibration(folder: str | Path, class_names: Sequence[str], task: str = "single") -> AnyCalibration | None:
    """The calibration in a model folder, or None if there is none.

    Args:
      class_names: of the model.
      task: the kind of its task.

    Raises:
      UserError: the file is damaged, of a newer format, or belongs to a model of other classes or another task.
    """
    file = user_path(folder) / CALIBRATION
    again = "delete it, or calibrate again (amsdff calibrate)"
    if not file.exists():
        return None
    content = read_json(file, f"a calibration; {again}")
    try:
        version = content.pop("format_version", None)
        if version != FORMAT_VERSION:
            raise UserError(f"is in format {version!r:.100}, expected {FORMAT_VERSION}")
        calibration = build(KINDS[task], content, "")
        if calibration.class_names != tuple(class_names):
            raise UserError("belongs to a model with other class names")
        return calibration
    except UserError as error:
        raise UserError(f"{file}: {error}; {again}") from None
    except TypeError as error:  # a field is missing
        raise UserError(f"{file}: not a calibration ({error}); {again}") from None


def neutral_calibration(class_names: Sequence[str], task: str) -> AnyCalibration:
    """That of a model that has not been calibrated, which changes nothing."""
    if task == "multi_label":
        return MultiLabelCalibration.neutral(class_names)
    if task == "regression":
        return RegressionCalibration(tuple(class_names))
    return Calibration(tuple(class_names), temperature=1.0)
