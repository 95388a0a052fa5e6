"""How well wrong labels are found: a seed flips some, all are ranked, and training is repeated without the suspects."""

import dataclasses
import itertools
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.files import read_json, user_errors, write_json, write_text
from amsdff_jax.base.records import free_name
from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.data.sources import DataSplits, load_source
from amsdff_jax.data.token_cache import tokenize_once
from amsdff_jax.data.tokenization import load_tokenizer
from amsdff_jax.evaluation.features import embed_once
from amsdff_jax.evaluation.significance import paired_bootstrap
from amsdff_jax.experiments.record import settings_digest
from amsdff_jax.experiments.settings import ExperimentConfig
from amsdff_jax.inspection.label_check import load_model
from amsdff_jax.inspection.label_issues import LabelRanking, rank_labels
from amsdff_jax.interop.hub import find_tokenizer
from amsdff_jax.reporting.table import Table, columns, to_markdown

logger = logging.getLogger(__name__)

KINDS = ("uniform", "likeliest")  # another class: any, or the likeliest by classifiers that did not see the text
RATES = (0.05, 0.1)
SEEDS = (0, 1, 2)
RESAMPLES = 2000  # of the test texts, for the interval of the regained share
CLEANLAB = ("self_confidence", "normalized_margin")
HEAD: Mapping[str, Any] = {"C": 0.1, "max_iter": 200, "tol": 1e-3}


@dataclasses.dataclass(frozen=True)
class Condition:
    """Labels of a dataset that are flipped."""

    kind: str
    rate: float
    seed: int

    def __str__(self) -> str:
        return f"{self.kind} {self.rate:g} seed {self.seed}"


def measure_label_noise(config: ExperimentConfig, output: Path) -> None:
    """Measures every dataset and condition that `output` does not hold yet, and writes tables of all that it holds.

    Args:
      config: its datasets, with test splits; the encoders stay frozen.
      output: folder of a JSON file for each dataset, and of `README.md`.

    Raises:
      UserError: data or an encoder that is not as it should be, or a file that cannot be written.
    """
    with user_errors(output, "written", "choose another --output"):
        output.mkdir(parents=True, exist_ok=True)
        for name in config.datasets:
            file = output / f"{name}.json"
            data, digest = _load(config, name)
            measured: dict[str, Any] = read_json(file, "what this command writes") if file.exists() else {}
            if measured.setdefault("settings", digest) != digest:  # which files of earlier versions do not tell
                outdated = free_name(output / "outdated" / file.name)
                outdated.parent.mkdir(exist_ok=True)
                file.replace(outdated)
                logger.info("%s: is not of these settings and data; moved to %s", file, outdated)
                measured = {"settings": digest}
            for condition, numbers in _measure(config, name, data, measured):
                measured[condition] = numbers
                write_json(file, measured)
        write_text(output / "README.md", _report(output))
    logger.info("report: %s", output / "README.md")


def _load(config: ExperimentConfig, name: str) -> tuple[DataSplits, str]:
    """A dataset, and the digest of it and of the settings that count."""
    settings = config.datasets[name]
    train, _, test = load_source(settings.data, settings.task.kind)
    train.require_single("amsdff noise")
    if test is None:
        raise UserError(f"datasets.{name}.data: has no test split, on which the cleaned labels are judged; name one")
    data = DataSplits(train, train, test)  # nothing is validated
    parts = dataclasses.asdict(settings)
    # All that the encoder's vectors depend on, its random weights too.
    counted = {name: parts[name] for name in ("data", "model", "seed")} | {"command": "noise"}
    return data, settings_digest(counted, data)


def _measure(
    config: ExperimentConfig, name: str, data: DataSplits, measured: Mapping[str, Any]
) -> Iterator[tuple[str, dict[str, Any]]]:
    settings, train, test = config.datasets[name], data.train, data.require_test()
    conditions = [Condition(*each) for each in itertools.product(KINDS, RATES, SEEDS)]
    if len(train.class_names) == 2:  # there is but one other class
        conditions = [each for each in conditions if each.kind == "uniform"]
    missing = [each for each in conditions if str(each) not in measured]
    if not missing:
        return
    tokenizer = load_tokenizer(find_tokenizer(settings.data.tokenizer, settings.model.encoder))
    model = load_model(settings, tokenizer)
    limits = settings.data.max_length, settings.data.long_texts
    vectors, held_out = (embed_once(model, tokenize_once(split, tokenizer, *limits)) for split in (train, test))
    clean = rank_labels(train, vectors)
    head = _Head(clean, held_out, test.classes)
    right = head.hits(train.labels)
    for condition in missing:
        flipped = flip_labels(train.labels, clean.probe.held_out, condition)
        ranking = rank_labels(dataclasses.replace(train, labels=flipped), vectors)
        wrong = flipped != train.labels
        kept = np.setdiff1d(np.arange(len(train)), ranking.suspects)
        numbers = detection(ranking, train, wrong)
        numbers |= {"clean": _bits(right), "flipped": _bits(head.hits(flipped))}
        yield str(condition), numbers | {"cleaned": _bits(head.hits(flipped[kept], kept))}
        logger.info("%s, %s: AUROC %.4f", name, condition, numbers["auroc"]["ours"])


class _Head:
    """Logistic regression on the frozen vectors of a dataset, as many times as there are versions of its labels."""

    def __init__(self, ranking: LabelRanking, held_out: np.ndarray, labels: np.ndarray):
        inputs = ranking.inputs
        units = held_out / np.linalg.norm(held_out, axis=1, keepdims=True)
        self._train, self._test, self._labels = inputs.vectors, (units - inputs.mean) / inputs.scale, labels

    def hits(self, labels: np.ndarray, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """[N] bool: which test texts get their class after training on some rows with these labels."""
        return LogisticRegression(**HEAD).fit(self._train[rows], labels).predict(self._test) == self._labels


def flip_labels(labels: np.ndarray, probabilities: np.ndarray, condition: Condition) -> np.ndarray:
    """The labels [N], a share of which, drawn by the seed, are of another class.

    Args:
      labels: int, below C.
      probabilities: [N,C], of the classes, by which the likeliest other one is found.
    """
    generator, classes = np.random.default_rng(condition.seed), probabilities.shape[1]
    rows = generator.choice(len(labels), round(condition.rate * len(labels)), replace=False)
    flipped = labels.copy()
    if condition.kind == "uniform":
        flipped[rows] = (labels[rows] + generator.integers(1, classes, len(rows))) % classes
    else:
        others = probabilities[rows].copy()
        others[np.arange(len(rows)), labels[rows]] = -1
        flipped[rows] = others.argmax(axis=1)
    return flipped


def detection(ranking: LabelRanking, truth: TextDataset, wrong: np.ndarray) -> dict[str, Any]:
    """How well a ranking finds the labels that are `wrong` [N], beside cleanlab on the same probabilities."""
    labels, rows = ranking.dataset.labels, np.arange(len(wrong))
    probe = ranking.probe
    scores = {
        "ours": ranking.scores,
        "held out": 1 - probe.held_out[rows, labels],
        "trained": 1 - probe.trained[rows, labels],
        "neighbors": 1 - ranking.neighbors[rows, labels],
    }
    if find_spec("cleanlab"):
        from cleanlab.rank import get_label_quality_scores  # pyright: ignore[reportMissingImports]

        probabilities = probe.held_out / probe.held_out.sum(axis=1, keepdims=True)
        for method in CLEANLAB:
            scores[f"cleanlab {method}"] = -get_label_quality_scores(labels, probabilities, method=method)
    found, suggested_right = wrong[ranking.suspects], ranking.suggested == truth.labels
    sums = ranking.counts.sum()
    return {
        "texts": len(wrong),
        "auroc": {name: float(roc_auc_score(wrong, score)) for name, score in scores.items()},
        "average_precision": {name: float(average_precision_score(wrong, score)) for name, score in scores.items()},
        "suspected": len(found),
        "precision": float(found.mean()) if len(found) else None,
        "recall": float(found.sum() / wrong.sum()),
        "suggestions_right": float(suggested_right[ranking.suspects][found].mean()) if found.any() else None,
        "estimated_rate": float(1 - ranking.counts.trace() / sums) if sums else None,
    }


def _bits(hits: np.ndarray) -> str:
    return "".join("1" if hit else "0" for hit in hits)


def _hits(runs: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    """[seeds,N] bool, of several conditions that differ in the seed."""
    return np.array([list(run[name]) for run in runs]) == "1"


def _report(output: Path) -> str:
    """The tables of all that was measured, a row for the seeds of each condition."""
    found, gained = [], []
    for file in sorted(output.glob("*.json")):
        measured = read_json(file, "what this command writes")
        for kind, rate in itertools.product(KINDS, RATES):
            runs = [run for seed in SEEDS if (run := measured.get(str(Condition(kind, rate, seed))))]
            if runs:
                place = (file.stem, kind, f"{100 * rate:g} %")
                found.append((*place, *_detection_cells(runs)))
                gained.append((*place, *_training_cells(runs)))
    first = ("dataset", "flipped to", "share")
    detection_titles = ("AUROC", "AUROC of cleanlab", "average precision", "average precision of cleanlab")
    suspect_titles = ("suspected", "precision", "recall", "suggestion right", "estimated noise")
    training_titles = (
        "accuracy, no flips",
        "flipped",
        "cleaned",
        "regained, points",
        "95 % interval",
        "share of the cost",
    )
    tables = [
        (
            "Found: beside cleanlab on the same probabilities",
            Table(columns(*first, *detection_titles, *suspect_titles), found),
        ),
        ("Trained: again, without the suspects", Table(columns(*first, *training_titles, "its 95 % interval"), gained)),
    ]
    sections = (f"## {name}\n\n{to_markdown(table)}\n" for name, table in tables)
    return "# Labels flipped and found\n\n" + "\n".join(sections)


def _detection_cells(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    def mean(*names: str) -> float:
        values: list[Any] = list(runs)
        for name in names:
            values = [value[name] for value in values]
        known = [value for value in values if value is not None]  # a share of nothing is not defined
        return float(np.mean(known)) if known else math.nan

    cells = []
    for measure in ("auroc", "average_precision"):
        methods = [name for name in runs[0][measure] if name.startswith("cleanlab")]
        best = max((mean(measure, name) for name in methods), default=None)
        cells += [f"{mean(measure, 'ours'):.4f}", "" if best is None else f"{best:.4f}"]
    cells.append(f"{100 * mean('suspected') / mean('texts'):.1f} %")
    shares = ("precision", "recall", "suggestions_right", "estimated_rate")
    return cells + ["" if math.isnan(mean(name)) else f"{100 * mean(name):.1f} %" for name in shares]


def _training_cells(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    clean, flipped, cleaned = (_hits(runs, name) for name in ("clean", "flipped", "cleaned"))
    gain = paired_bootstrap(cleaned, flipped, seed=0)
    differences = [(one.astype(float) - flipped).mean(axis=0) for one in (cleaned, clean)]
    number = len(differences[0])
    drawn = np.random.default_rng(0).multinomial(number, np.full(number, 1 / number), RESAMPLES)
    gains, costs = (drawn @ difference for difference in differences)
    share = interval_of_share = ""
    if np.quantile(costs, 0.025) > 0:  # a share of nothing would say nothing
        low, high = np.quantile(gains / costs, [0.025, 0.975])
        share, interval_of_share = f"{gain.difference / differences[1].mean():.2f}", f"{low:.2f} to {high:.2f}"
    percent = [f"{100 * hits.mean():.2f}" for hits in (clean, flipped, cleaned)]
    interval = f"{100 * gain.low:+.2f} to {100 * gain.high:+.2f}"
    return [*percent, f"{100 * gain.difference:+.2f}", interval, share, interval_of_share]
