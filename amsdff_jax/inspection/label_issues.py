"""Which labels of a dataset are probably wrong: one score for every text, and what it rests on."""

import dataclasses
import logging
from collections.abc import Sequence

import numpy as np
from sklearn.neighbors import NearestNeighbors

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.escaping import printable
from amsdff_jax.base.validation import first_of
from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.evaluation.significance import Interval
from amsdff_jax.inspection.confident_learning import calibrated_counts, confident_joint, noise_rates
from amsdff_jax.inspection.corpus import Sample, excerpt
from amsdff_jax.inspection.label_probe import FOLDS, Inputs, Probe, cross_validate, normalize

logger = logging.getLogger(__name__)

NEIGHBORS = 20
SHOWN = 100  # of the suspects, on a page and in JSON


@dataclasses.dataclass(frozen=True)
class ClassNoise:
    """The labels of one class."""

    name: str
    texts: int  # that have this label
    suspected: int  # of them, those that are probably of another class
    rate: float  # estimated share of wrong labels among them
    interval: Interval  # of the rate, 95 %
    mistaken_for: str  # the class that most of the wrong ones are of, by the estimate; "" if there is none


@dataclasses.dataclass(frozen=True)
class Suspect:
    """A text whose label is probably wrong; its sample has the given one."""

    sample: Sample
    suggested: str
    score: float
    reason: str


@dataclasses.dataclass(frozen=True)
class LabelIssues:
    """What a page shows of the labels of the training texts."""

    texts: int  # how many were looked at
    suspected: int  # how many labels are probably wrong
    ranking: str  # the file with all texts
    classes: tuple[ClassNoise, ...]
    not_judged: tuple[str, ...]  # classes with too few texts to learn them without the one in question
    suspects: tuple[Suspect, ...]  # the first of the ranking


@dataclasses.dataclass(frozen=True)
class LabelRanking:
    """The labels of N texts, C classes.

    Attributes:
      dataset: the texts.
      opinion: [N,C] float64, the mean of three distributions: the probabilities by classifiers that were not trained
        on the text, those by classifiers that were, over their epochs, and the labels of the nearest texts.
      scores: [N] float64, 0 to 1: 1 minus the opinion of the given label; 0 for labels that are not judged.
      suggested: [N] int, the class of the highest opinion.
      order: [N] int, all texts, the highest score first.
      suspects: [M] int, those of `order` whose label is probably wrong: the first ones for which another class is
        suggested, as many as confident learning counts.
      counts: [C,C] int, of `confident_joint`.
      judged: [C] bool, whether a class has enough texts.
      neighbors: [N,C] float64, the share of each label among the nearest texts.
      probe: of the classifiers.
      inputs: what they read.
    """

    dataset: TextDataset
    opinion: np.ndarray
    scores: np.ndarray
    suggested: np.ndarray
    order: np.ndarray
    suspects: np.ndarray
    counts: np.ndarray
    judged: np.ndarray
    neighbors: np.ndarray
    probe: Probe
    inputs: Inputs

    def select(self, fraction: float = 0) -> np.ndarray:
        """The most suspicious texts: that share of all, or with 0 those that are suspected."""
        return self.order[: round(fraction * len(self.order))] if fraction else self.suspects

    def reason(self, text: int, words: Sequence[str] = ()) -> str:
        """In words, what the score of a text rests on.

        Args:
          words: of the text, those that speak most for the suggested class.
        """
        names, given, other = self.dataset.class_names, int(self.dataset.labels[text]), int(self.suggested[text])
        if not self.judged[given]:
            return f"not judged: {names[given]} has fewer than {FOLDS} texts"
        probe = self.probe
        if other == given:
            held_out = f"classifiers without this text: {names[given]} {probe.held_out[text, given]:.2f}"
        else:
            held_out = (
                f"classifiers without this text: {names[other]} {probe.held_out[text, other]:.2f}, "
                f"{names[given]} {probe.held_out[text, given]:.2f}"
            )
        trained = f"with it, over the epochs: {names[given]} {probe.trained[text, given]:.2f}"
        near = f"nearest texts: {100 * self.neighbors[text, given]:.0f} % {names[given]}"
        if other != given:
            near += f", {100 * self.neighbors[text, other]:.0f} % {names[other]}"
        parts = [held_out, f"{trained} ± {probe.variability[text]:.2f}", near]
        if words:
            parts.append(f"words for {names[other]}: {', '.join(words)}")
        return "; ".join(parts)


def rank_labels(dataset: TextDataset, vectors: np.ndarray) -> LabelRanking:
    """Ranks all texts by how probably their label is wrong.

    Time: a few seconds for 10,000 texts, of which the nearest texts grow with their square.

    Args:
      dataset: N texts.
      vectors: [N,H] float32, of the texts, by a frozen encoder.

    Raises:
      UserError: no class, or a single one, has the texts that it takes to judge a label.
    """
    labels, classes = dataset.labels, len(dataset.class_names)
    own = np.bincount(labels, minlength=classes)
    judged = own >= FOLDS
    if judged.sum() < 2:
        raise UserError(
            f"{dataset.name}: too few texts to judge labels; expected two classes of at least {FOLDS}, "
            f"got classes of {first_of([str(count) for count in own])}"
        )
    inputs = normalize(vectors)
    probe = cross_validate(inputs.vectors, labels, classes)
    neighbors = _neighbors(inputs.vectors, labels, classes)
    opinion = (probe.held_out + probe.trained + neighbors) / 3
    counts = confident_joint(probe.held_out, labels, judged)
    rows = np.arange(len(labels))
    scores, suggested = np.where(judged[labels], 1 - opinion[rows, labels], 0), opinion.argmax(axis=1)
    order = np.argsort(-scores, kind="stable")
    wrong = calibrated_counts(counts, labels)
    wanted = round(float(wrong.sum() - wrong.trace()))
    differs = (suggested != labels) & judged[labels]
    suspects = order[differs[order]][:wanted]
    return LabelRanking(dataset, opinion, scores, suggested, order, suspects, counts, judged, neighbors, probe, inputs)


def _neighbors(vectors: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """[N,C]: the share of each label among the texts that are nearest by the cosine, the text itself left out."""
    number = min(NEIGHBORS, len(labels) - 1)
    units = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    # Without an argument the text itself is left out, and no other that is the same.
    nearest = NearestNeighbors(n_neighbors=number, algorithm="brute").fit(units).kneighbors(return_distance=False)
    shares = np.zeros((len(labels), classes))
    np.add.at(shares, (np.arange(len(labels))[:, None], labels[nearest]), 1 / number)
    return shares


def summarize_labels(ranking: LabelRanking, ranking_file: str, reasons: Sequence[str]) -> LabelIssues:
    """What a page shows.

    Args:
      ranking_file: what the page calls the file with all texts.
      reasons: of the first texts of the ranking.
    """
    dataset, labels = ranking.dataset, ranking.dataset.labels
    names = [printable(name) for name in dataset.class_names]
    chosen = ranking.suspects
    own, suspected = (np.bincount(some, minlength=len(names)) for some in (labels, labels[chosen]))
    off_diagonal = ranking.counts * ~np.eye(len(names), dtype=bool)
    classes = tuple(
        ClassNoise(
            name, int(own[place]), int(suspected[place]), rate, interval,
            names[int(off_diagonal[place].argmax())] if off_diagonal[place].any() else "",
        )
        for place, (name, (rate, interval)) in enumerate(zip(names, noise_rates(ranking.counts), strict=True))
        if ranking.judged[place]
    )  # fmt: skip
    suspects = tuple(
        Suspect(_sample(dataset, text), names[ranking.suggested[text]], round(float(ranking.scores[text]), 4), reason)
        for text, reason in zip(chosen[:SHOWN].tolist(), map(printable, reasons), strict=False)
    )
    few = tuple(name for name, enough, count in zip(names, ranking.judged, own, strict=True) if count and not enough)
    return LabelIssues(len(labels), len(chosen), printable(ranking_file), classes, few, suspects)


def _sample(dataset: TextDataset, text: int) -> Sample:
    parts = [dataset.texts[text]] + ([dataset.text_pairs[text]] if dataset.text_pairs is not None else [])
    label = printable(dataset.class_names[dataset.labels[text]])
    return Sample("train", printable(dataset.ids[text]), label, *map(excerpt, parts))
