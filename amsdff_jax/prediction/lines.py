"""How a record and its prediction are written: as a line of JSONL or CSV."""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.escaping import csv_line
from amsdff_jax.base.files import to_json
from amsdff_jax.evaluation.inference import NOT_FINITE
from amsdff_jax.evaluation.regression_calibration import RegressionCalibration
from amsdff_jax.prediction.classifier import Classifier
from amsdff_jax.prediction.inputs import Record
from amsdff_jax.prediction.prediction import AnyPrediction, MultiLabelPrediction, NumberPrediction, Prediction

FORMATS = ("jsonl", "csv")


class Layout(NamedTuple):
    """What every line of an output holds.

    Attributes:
      format: one of `FORMATS`.
      top_k: number of classes; from 2 on they have fields of their own.
      abstains: whether the model may abstain.
      label_sets: whether it gives sets of labels.
      keep_columns: columns of the input.
      class_names: of a model whose texts may have several labels, in the order of their probabilities; (): texts have
        one.
      number: whether the answers are numbers.
      intervals: whether they come with intervals.
    """

    format: str
    top_k: int = 1
    abstains: bool = False
    label_sets: bool = False
    keep_columns: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    number: bool = False
    intervals: bool = False


def make_layout(
    classifier: Classifier, format: str = "jsonl", top_k: int = 1, keep_columns: Sequence[str] = ()
) -> Layout:
    """The layout of what a classifier says."""
    several, calibration = classifier.saved.task == "multi_label", classifier.calibration
    return Layout(
        format,
        min(top_k, len(classifier.class_names)),
        abstains=calibration is not None and calibration.may_abstain,
        label_sets=calibration is not None and calibration.has_label_sets,
        keep_columns=tuple(keep_columns),
        class_names=classifier.class_names if several else (),
        number=classifier.saved.task == "regression",
        intervals=isinstance(calibration, RegressionCalibration) and calibration.has_intervals,
    )


def choose_format(path: str, format: str = "") -> str:
    """`format`, or what the ending of the output's name says; JSONL without a name.

    Raises:
      UserError: neither says it.
    """
    if format or not path:
        return format or "jsonl"
    ending = Path(path).suffix.lower().removeprefix(".")
    if ending not in FORMATS:
        endings = " or ".join(f".{name}" for name in FORMATS)
        raise UserError(f"--output={path}: expected a name ending in {endings}, or --format={'|'.join(FORMATS)}")
    return ending


def header(layout: Layout) -> bytes:
    """What comes before the first line."""
    return _csv_line(_columns(layout)) if layout.format == "csv" else b""


def beginning(row: int, layout: Layout) -> bytes:
    """What the line of a row begins with."""
    return f"{row},".encode() if layout.format == "csv" else f'{{"row": {row}, '.encode()


def line(record: Record, prediction: AnyPrediction | None, layout: Layout) -> bytes:
    """The line of a record, with its end."""
    if layout.format == "csv":
        return _csv_line(_csv_fields(record, prediction, layout))
    try:
        text = to_json(json_fields(record, prediction, layout), default=_plain)
    except RecursionError:  # the input was not too deep to be read, but nearly so
        kept = dict.fromkeys(record.kept)
        text = to_json(json_fields(record._replace(kept=kept, error="a kept column is nested too deep"), None, layout))
    # JSON has an escape for a surrogate that stands alone, and it is what `backslashreplace` makes.
    return text.encode("utf-8", "backslashreplace") + b"\n"


def error_of(record: Record, prediction: AnyPrediction | None) -> str:
    """Why a record has no prediction; "" if it has one."""
    return "" if prediction is not None else record.error or NOT_FINITE


def _plain(value: Any) -> str:
    """What JSON has no form for: bytes in Base64, as other programs write them, anything else as it is printed."""
    return base64.b64encode(value).decode() if isinstance(value, (bytes, bytearray, memoryview)) else str(value)


def _rounded(probability: float) -> float:
    return float(f"{probability:.6g}")


def _number(value: float) -> float:
    return float(f"{value:.8g}")  # what float32 holds; a year or a price has more digits than a probability needs


def json_fields(record: Record, prediction: AnyPrediction | None, layout: Layout) -> dict[str, Any]:
    """What a line of JSONL says of a record."""
    fields: dict[str, Any] = {"row": record.row}
    if prediction is None:
        fields["error"] = error_of(record, prediction)
    else:
        fields |= _json_labels(prediction, layout)
        fields["truncated"] = prediction.truncated
        if layout.abstains and isinstance(prediction, Prediction):
            fields["abstained"] = prediction.abstained
        if layout.label_sets and not isinstance(prediction, NumberPrediction):
            fields["label_set"] = prediction.label_set
    if layout.keep_columns:
        fields["input"] = record.kept
    return fields


def _json_labels(prediction: AnyPrediction, layout: Layout) -> dict[str, Any]:
    if isinstance(prediction, NumberPrediction):
        interval = prediction.interval
        return {"value": _number(prediction.value)} | (
            {} if interval is None else {"interval": list(map(_number, interval))}
        )
    if isinstance(prediction, Prediction):
        labels: dict[str, Any] = {"label": prediction.label, "probability": _rounded(prediction.probability)}
    elif layout.top_k == 1:
        return {"labels": _names(prediction), "probabilities": _probabilities(prediction, layout)}
    else:
        labels = {"labels": _names(prediction)}
    if layout.top_k > 1:
        best = ({"label": label, "probability": _rounded(probability)} for label, probability in prediction.top_k)
        labels["top_k"] = list(best)
    return labels


def _names(prediction: MultiLabelPrediction) -> list[str]:
    return [label for label, _ in prediction.labels]


def _probabilities(prediction: MultiLabelPrediction, layout: Layout) -> dict[str, float]:
    """Those of all classes, in their order."""
    known = dict(prediction.top_k)
    return {name: _rounded(known[name]) for name in layout.class_names}


def _columns(layout: Layout) -> list[str]:
    places = ("", *(f"_{place}" for place in range(2, layout.top_k + 1)))
    scores = [f"{name}{place}" for place in places for name in ("label", "probability")]
    if layout.class_names and layout.top_k == 1:
        scores = [f"probability.{name}" for name in layout.class_names]
    if layout.number:
        scores = ["value", *(["lower", "upper"] if layout.intervals else [])]
    return [
        "row",
        *(["labels"] if layout.class_names else []),
        *scores,
        "truncated",
        *(["abstained"] if layout.abstains else []),
        *(["label_set"] if layout.label_sets else []),
        "error",
        *(f"input.{name}" for name in layout.keep_columns),
    ]


def _csv_fields(record: Record, prediction: AnyPrediction | None, layout: Layout) -> list[Any]:
    fields: dict[str, Any] = {"row": record.row, "error": error_of(record, prediction)}
    if prediction is not None:
        fields |= _csv_labels(prediction, layout)
        fields["truncated"] = str(prediction.truncated).lower()
    fields |= {f"input.{name}": _csv_value(value) for name, value in record.kept.items()}
    return [fields.get(column, "") for column in _columns(layout)]


def _csv_labels(prediction: AnyPrediction, layout: Layout) -> dict[str, Any]:
    if isinstance(prediction, NumberPrediction):
        ends = zip(("lower", "upper"), prediction.interval or (), strict=False)
        return {"value": _number(prediction.value)} | {name: _number(end) for name, end in ends}
    sets = {"label_set": to_json(prediction.label_set)}
    if isinstance(prediction, MultiLabelPrediction):
        labels: dict[str, Any] = {**sets, "labels": to_json(_names(prediction))}
        if layout.top_k == 1:
            scores = _probabilities(prediction, layout)
            return labels | {f"probability.{name}": score for name, score in scores.items()}
    else:
        labels = {**sets, "abstained": str(prediction.abstained).lower()}
    for place, (label, probability) in enumerate(prediction.top_k, start=1):
        ending = "" if place == 1 else f"_{place}"
        labels |= {f"label{ending}": label, f"probability{ending}": _rounded(probability)}
    return labels


def _csv_value(value: Any) -> Any:
    if isinstance(value, (dict, list, tuple)):
        try:
            return to_json(value, default=_plain)
        except RecursionError:
            return "nested too deep"
    return _plain(value) if isinstance(value, (bytes, bytearray, memoryview)) else value


def _csv_line(fields: Sequence[Any]) -> bytes:
    return csv_line(fields).encode("utf-8", "backslashreplace")
