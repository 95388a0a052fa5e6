"""What is kept of one run: enough for every table, curve and test of significance."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.files import user_errors, user_path, write_json
from amsdff_jax.base.records import read_record, set_aside
from amsdff_jax.base.validation import build, flatten, require
from amsdff_jax.config import Config, TrainConfig
from amsdff_jax.config.field_roles import DATA_PATHS, NEWER_THAN_RECORDS, TRACKING_FIELDS
from amsdff_jax.config.renamed import FORMER_NAMES
from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.data.sources import DataSplits
from amsdff_jax.evaluation.evaluator import Evaluation
from amsdff_jax.evaluation.metrics import best_metric
from amsdff_jax.experiments.settings import RunKey
from amsdff_jax.interop.hub import sha256, with_encoder

# What may name files of weights or of a tokenizer, and the files of a folder that decide what it computes.
MODEL_PATHS = ("model.encoder", "model.encoder_config", "data.tokenizer", "train.init_from", "encoder")
MODEL_FILES = (
    *("*.safetensors", "pytorch_model*.bin", "config.json"),
    *("tokenizer*", "vocab*", "merges.txt", "*.model", "added_tokens.json", "special_tokens_map.json"),
)
METRICS = ("accuracy", "macro_f1", "weighted_f1", "mae", "rmse", "log_loss", "ece")
ORDINAL_METRICS = ("quadratic_weighted_kappa", "off_by_one_accuracy")  # beside them, of ordered classes
# In their place where a text may have several labels; by the first one, models are compared.
MULTI_LABEL_METRICS = (
    *("micro_f1", "macro_f1", "weighted_f1", "average_precision"),
    *("accuracy", "hamming_loss", "log_loss", "ece"),
)
TITLES = {"accuracy": "accuracy", "micro_f1": "micro F1"}  # of what models are compared by, as a column has it
HEADINGS = {"accuracy": "Accuracy", "micro_f1": "Micro F1"}  # the same above a table or a picture
COUNTS = r"\d{1,9},\d{1,9},\d{1,9}"  # of one text in `RunRecord.confusion`


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a run gives, whoever made it."""

    evaluation: Evaluation  # of the texts that are reported
    metrics: Mapping[str, Any]  # all of `compute_metrics`
    parameters: int  # trainable numbers, the encoder's included where it is trained
    train_seconds: float  # wall-clock time of training, its evaluations included
    # for every evaluation on the validation split a `curve_point`
    curve: tuple[Mapping[str, float], ...] = ()
    learning_rate: float = 0.0  # the one that was chosen on the validation split; 0 where there was nothing to choose


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """One run in a JSON file; fields without a comment are those of `RunKey` and `Outcome`."""

    dataset: str
    variant: str
    seed: int
    fold: int
    settings: str  # digest of everything that the result depends on; a record of other settings is made again
    error: str = ""  # one line where the run failed, in which case there is nothing else
    # a 1 or 0 for each reported text, in the order of the dataset; of several labels all must be right
    correct: str = ""
    # where texts may have several labels, of each its true positives, false positives and false negatives, such as
    # "2,0,1 1,1,0"
    confusion: str = ""
    # of the reported texts those of `MULTI_LABEL_METRICS` there, elsewhere those of `METRICS`, and of `ORDINAL_METRICS`
    # those that there are
    metrics: dict = dataclasses.field(default_factory=dict)
    parameters: int = 0
    train_seconds: float = 0.0
    texts_per_second: float = 0.0  # through the trained model
    learning_rate: float = 0.0
    curve: tuple[dict, ...] = ()

    @classmethod
    def of(cls, key: RunKey, settings: str, outcome: Outcome) -> Self:
        """The record of a run that came to its end."""
        truth, predictions = outcome.evaluation.classes, outcome.evaluation.predictions
        hits, confusion = truth == predictions, ""
        names = (*METRICS, *(name for name in ORDINAL_METRICS if outcome.metrics.get(name) is not None))
        if outcome.evaluation.task == "multi_label":
            hits, names = hits.all(axis=1), MULTI_LABEL_METRICS
            counts = np.stack([predictions & truth, predictions & ~truth, ~predictions & truth]).sum(axis=2)
            confusion = " ".join(",".join(map(str, text)) for text in counts.T.tolist())
        return cls(
            **dataclasses.asdict(key),
            settings=settings,
            correct="".join("1" if hit else "0" for hit in hits),
            confusion=confusion,
            metrics={name: outcome.metrics[name] for name in names},
            parameters=outcome.parameters,
            train_seconds=round(outcome.train_seconds, 2),
            texts_per_second=round(outcome.metrics["examples_per_second"], 2),
            learning_rate=outcome.learning_rate,
            curve=tuple(map(dict, outcome.curve)),
        )

    @classmethod
    def read(cls, file: Path) -> Self | None:
        """The record in `file`, or None if there is none, or a damaged one has been set aside."""
        content = read_record(file, "the record of a run")
        if not content:
            return None
        try:
            record = build(cls, content, "")
            _check(record)
        except (TypeError, UserError) as error:
            set_aside(file, UserError(f"{file}: not the record of a run ({error})"))
            return None
        return record

    def write(self, file: Path) -> None:
        """Writes the record, whole or not at all.

        Raises:
          UserError: it cannot be written.
        """
        with user_errors(file, "written", "make room and run the same command again"):
            file.parent.mkdir(parents=True, exist_ok=True)
            write_json(file, dataclasses.asdict(self))

    @property
    def hits(self) -> np.ndarray:
        """[N] bool, whether each reported text got its class."""
        return np.frombuffer(self.correct.encode("ascii"), np.uint8) == ord("1")

    @property
    def counts(self) -> np.ndarray:
        """[N,3] int, of each reported text the labels rightly given, wrongly given, and missed."""
        return np.array([text.split(",") for text in self.confusion.split()], np.int64).reshape(-1, 3)


def headline(metrics: Mapping[str, Any]) -> str:
    """The metric by which models are compared: "accuracy", or "micro_f1" where texts may have several labels.

    Args:
      metrics: of a record, or a point of its curve.
    """
    return "micro_f1" if "micro_f1" in metrics else "accuracy"


def curve_point(epoch: float, metrics: Mapping[str, Any], task: str) -> dict[str, float]:
    """What is kept of an evaluation on the validation split: epoch, accuracy, loss, and the micro F1 of label sets."""
    return {"epoch": epoch, **{name: metrics[name] for name in _curve_metrics(task)}}


def _curve_metrics(task: str) -> tuple[str, ...]:
    return ("accuracy", "loss", *(("micro_f1",) if task == "multi_label" else ()))


def _check(record: RunRecord) -> None:
    """Raises `UserError` unless the record has all that tables, curves and tests of significance need."""
    require(set(record.correct) <= {"0", "1"}, "correct", record.correct, "zeros and ones")
    named = (*METRICS, *(name for name in ORDINAL_METRICS if name in record.metrics))
    if record.confusion:
        named = MULTI_LABEL_METRICS
        pattern, texts = rf"({COUNTS} )*{COUNTS}", len(record.correct)
        whole = bool(re.fullmatch(pattern, record.confusion)) and len(record.counts) == texts
        require(whole, "confusion", record.confusion, f"three numbers for each of {texts} texts")
    curve = ("epoch", *_curve_metrics("multi_label" if record.confusion else "single"))
    for values, names in ((record.metrics, named), *((point, curve) for point in record.curve)):
        numbers = [values.get(name) for name in names]
        complete = all(type(number) in (int, float) for number in numbers)
        require(bool(record.error) or complete, "metrics and curve", numbers, f"numbers for {', '.join(names)}")


def settings_digest(settings: Mapping[str, Any], data: DataSplits) -> str:
    """A digest of a run's settings and texts, and of the weights that it begins with; where texts lie does not count.

    Args:
      settings: nested, ready for JSON; `data` holds the fields of `DataConfig`.

    Raises:
      UserError: a file of weights or of a tokenizer that cannot be read.
    """
    kind = settings["task"]["kind"] if "task" in settings else "single"
    counted = {name: _what_counts(name, values, kind) for name, values in settings.items()}
    kept = {name: values for name, values in counted.items() if values != {}}  # of sections newer than records, too
    if files := dict(_local_files(settings)):
        kept["files"] = files
    digest = hashlib.blake2b(json.dumps(kept, sort_keys=True).encode(), digest_size=12)
    for split in data:
        if split is not None:
            _add(digest, split)
    return digest.hexdigest()


def _local_files(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The files behind settings that name a file or folder here, which may be of other content the next time.

    A short name and a hub id stand for what they name.
    """
    for name, value in flatten(settings).items():
        place = user_path(value) if name in MODEL_PATHS and value else None
        if place is None or not place.exists():
            continue
        folder = with_encoder(place)
        files = [place] if place.is_file() else {file for pattern in MODEL_FILES for file in folder.glob(pattern)}
        for file in sorted(file for file in files if file.is_file()):
            with user_errors(file, "read", f"check {name}"):
                yield f"{name} {file.relative_to(place)}", sha256(file)


def _what_counts(section: str, values: Any, kind: str) -> Any:
    if not isinstance(values, Mapping):
        return values
    defaults, kept = getattr(Config(), section), {}
    for name, value in values.items():
        field = f"{section}.{name}"
        if field == "train.best_metric":
            value = _first_name(value, kind)
        is_as_before = field in NEWER_THAN_RECORDS and value == getattr(defaults, name)
        if field not in (*DATA_PATHS, *TRACKING_FIELDS) and not is_as_before:
            kept[FORMER_NAMES.get(field, field).split(".")[1]] = value  # as in the first records
    return kept


def _first_name(metric: str, kind: str) -> str:
    """`train.best_metric` as in the first records, where "macro_f1" was the default of every kind of task."""
    if metric == TrainConfig.best_metric:
        return "macro_f1"
    return f"{metric} itself" if metric == "macro_f1" != best_metric(TrainConfig.best_metric, kind) else metric


def _add(digest: Any, dataset: TextDataset) -> None:
    digest.update(dataset.labels.tobytes())
    for text in (*dataset.class_names, *dataset.texts, *(dataset.text_pairs or ())):
        digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
