"""Labelled texts, in memory or stored, and their stratified split."""

import dataclasses
import hashlib
import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from amsdff_jax.base.cache import remembered
from amsdff_jax.base.errors import UserError
from amsdff_jax.base.escaping import printable
from amsdff_jax.base.validation import build, first_of, require, shown
from amsdff_jax.config import DataConfig
from amsdff_jax.config.columns import write_columns
from amsdff_jax.data.encoded_labels import (
    count_classes,
    encode_labels,
    is_distribution,
    join_labels,
    label_kind,
    labels_in_order,
    likeliest_classes,
    task_of_labels,
    with_certainty,
)
from amsdff_jax.data.iterative import iterative_parts
from amsdff_jax.data.rows import listed
from amsdff_jax.data.stored_texts import StoredTexts, joined, take

MOST_LISTED = 20  # classes in a line of the log
RANGES = 10  # of numbers, with equally many texts each
LEAST_IN_RANGE = 5  # texts, or there are fewer ranges, for a split leaves one of each at least

KINDS = {
    **dict.fromkeys(("single", "ordinal"), "one label a text"),
    "multi_label": "any number of labels a text",
    "regression": "a number a text",
}


@dataclasses.dataclass(frozen=True)
class TextDataset:
    """Texts with their labels: a class each, a distribution over the classes, any number of classes, or a number.

    Lists, arrays and the columns of a data frame are taken by position; they are kept as lists. Texts, pairs and ids
    that are stored, because they are too many for memory, stay so.

    Attributes:
      texts: the N texts.
      labels: [N] int32, indices into `class_names`; class names are turned into these. Where a text may have several,
        [N,C] bool, true for its classes; lists of names, or an array of zeros and ones, are turned into these. Where
        labels are numbers, [N] float64, all finite; floating-point numbers beside a single name are such. Where the
        class of a text is not certain, [N,C] float32, the probability of each, such as the share of raters who chose
        it or what another model says; an array of numbers from 0 to 1, not all of them 0 or 1, is such. Its rows add up
        to 1 within 1/1000, and are kept as they are given. A part of the texts whose classes are all certain has [N].
      class_names: the C classes, all different, in the order of the logits, which is theirs if they have one; or what
        the numbers are called, alone.
      text_pairs: the N second texts, or None where a text stands alone.
      ids: N names of the texts for reports, such as their row in a file; by default 0, 1, ...
      name: what messages call the dataset, such as a file's path.
      ratings: [N,R] int32, the class that each of R raters gave, an index, or -1 where one gave none; None where labels
        are not those of raters. For reports alone: what is learnt from are the labels.

    Raises:
      UserError: a text that is no string, a label that is no class, fields of other lengths; names the dataset and the
        first row that is wrong, counted from 0.
    """

    texts: Sequence[str]
    labels: np.ndarray
    class_names: tuple[str, ...]
    text_pairs: Sequence[str] | None = None
    ids: Sequence[str] = ()
    name: str = "data"
    ratings: np.ndarray | None = None

    def __post_init__(self) -> None:
        texts, labels = _listed(self.texts, f"{self.name}: texts"), labels_in_order(self.labels, self.name)
        pairs = None if self.text_pairs is None else _listed(self.text_pairs, f"{self.name}: text_pairs")
        ids = [] if self.ids is None else _listed(self.ids, f"{self.name}: ids")
        ids = ids or range(len(texts))
        for what, values in (("labels", labels), ("text_pairs", pairs), ("ids", ids), ("ratings", self.ratings)):
            if values is not None and len(values) != len(texts):
                raise UserError(f"{self.name}: {len(values)} {what} for {len(texts)} texts")
        if not texts:
            raise UserError(f"{self.name}: holds no text; expected at least one")
        for what, values in (("texts", texts), ("text_pairs", pairs or [])):
            for row, text in enumerate(() if isinstance(values, StoredTexts) else values):
                if not isinstance(text, str):
                    raise UserError(f"{self.name}: {what}[{row}]: expected a string, got {shown(text)}")
        names = _class_names(listed(self.class_names, f"{self.name}: class_names"), self.name)
        fields = {
            "texts": texts,
            "labels": encode_labels(labels, names, self.name),
            "class_names": names,
            "text_pairs": pairs,
            "ids": ids if isinstance(ids, StoredTexts) else list(map(str, ids)),
            "name": str(self.name),
            "ratings": None if self.ratings is None else _ratings(self.ratings, len(names), self.name),
        }
        for field, value in fields.items():
            object.__setattr__(self, field, value)

    @classmethod
    def from_dict(
        cls,
        columns: Mapping[str, Iterable[Any]],
        text: str | Sequence[str] = "text",
        label: str | Sequence[str] = "label",
        *,
        text_pair: str | Sequence[str] = "",
        raters: Sequence[str] = (),
        class_names: Sequence[str] = (),
        label_type: str = "auto",
        name: str = "data",
    ) -> "TextDataset":
        """The dataset in a dict of columns. Texts and labels are read as those of files are.

        Args:
          columns: lists, arrays or columns of a data frame, by name.
          text: the column of the texts, or several, joined with a space without those that are empty.
          label: the column of the labels, which are names or numbers, or lists of them where a text may have several;
            or several columns, each 1 where a text has the label that the column is named after, else 0, or all of them
            the probabilities of these labels, of which a text has one.
          text_pair: the column, or columns, of second texts; "": texts stand alone.
          raters: columns in the place of `label`, one a rater, each with a class or nothing; the label is the share of
            the votes for each class.
          class_names: the classes that training knows; (): take them from the labels, names sorted as text and numbers
            as numbers. Labels that are places in a list of names are for `TextDataset(texts, labels, class_names)`.
          label_type: "name": labels as they are written; "integer": whole numbers; "auto": numbers if most are.
          name: what messages call the dataset.

        Returns:
          A text for every row; its id is "row 0" for the first.

        Raises:
          UserError: no such column, a value that is no text or no label; names the row, counted from 0, and the column.
        """
        from amsdff_jax.data.label_sets import label_columns
        from amsdff_jax.data.labelled_rows import column_rows, label_rows  # which make datasets

        texts, pairs = _several(text), _several(text_pair)
        config = _columns(texts, pairs, label, raters, label_type=label_type)
        rows = column_rows(columns, [*texts, *pairs, *label_columns(config)], name)
        return label_rows(rows, config, class_names, name)

    @classmethod
    def from_pandas(
        cls,
        frame: Any,
        text: str | Sequence[str] = "text",
        label: str | Sequence[str] = "label",
        **options: Any,
    ) -> "TextDataset":
        """The dataset in a data frame of pandas, or of Polars, PyArrow or Hugging Face's datasets.

        Args:
          frame: whatever gives a column for its name in brackets, and knows these names.
          text: the column of the texts, or several.
          label: the column of the labels, or several, as for `from_dict`.
          **options: as for `from_dict`.

        Returns:
          A text for every row; its id is "row 0" for the first, whatever the frame's index calls it.

        Raises:
          UserError: as for `from_dict`.
        """
        return cls.from_dict(frame, text, label, **options)

    @classmethod
    def from_csv(
        cls,
        path: str | Path,
        text: str | Sequence[str] = "text",
        label: str | Sequence[str] = "label",
        *,
        text_pair: str | Sequence[str] = "",
        raters: Sequence[str] = (),
        class_names: Sequence[str] = (),
        **settings: Any,
    ) -> "TextDataset":
        """The dataset in a file of CSV, or of any other kind that `read_file` reads, as its ending says.

        Args:
          path: of the file.
          text: the column of the texts, or several, as for `from_dict`.
          label: the column of the labels, or several, as for `from_dict`.
          text_pair: the column, or columns, of second texts; "": texts stand alone.
          raters: columns in the place of `label`, one a rater, as for `from_dict`.
          class_names: the classes that training knows; (): take them from the labels.
          **settings: of `DataConfig`, on how labels and tables are written: `label_type`, `label_separator`,
            `label_hierarchy`, `label_order`, `delimiter`, `quoting`, `column_names`.

        Returns:
          A text for every row; its id is its line, or its row where a file has no lines.

        Raises:
          UserError: a file that cannot be read, or anything wrong in it; names the line and the column.
        """
        from amsdff_jax.data.files import read_file  # which makes datasets

        config = _columns(_several(text), _several(text_pair), label, raters, **settings)
        return read_file(str(path), config, class_names)

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def task(self) -> str:
        """The kind of task that the labels are for, one of `TASKS`; an order of classes they do not tell: "single"."""
        return task_of_labels(self.labels)

    @property
    def classes(self) -> np.ndarray:
        """`labels`, with its likeliest class, [N] int32, in the place of each distribution; of equals the first."""
        return likeliest_classes(self.labels)

    @property
    def class_counts(self) -> np.ndarray:
        """[C] int64, how many texts there are of each class, by `classes`; where labels are numbers, of all."""
        return count_classes(self.labels, len(self.class_names))

    def of_class(self, index: int) -> np.ndarray:
        """[N] bool, which texts are of a class, by `classes`."""
        return self.labels[:, index] if self.task == "multi_label" else self.classes == index

    @property
    def strata(self) -> np.ndarray:
        """[N] int, whose shares a split keeps where a text has one label: the classes, or ten ranges of the numbers."""
        if self.task != "regression":
            return self.classes
        ranks = np.empty(len(self), np.int64)
        ranks[np.argsort(self.labels, kind="stable")] = np.arange(len(self))
        return ranks * min(RANGES, max(len(self) // LEAST_IN_RANGE, 1)) // len(self)

    @property
    def fingerprint(self) -> str:
        """A digest of texts and labels; names of classes, texts and dataset do not count."""
        texts = [texts for texts in (self.texts, self.text_pairs) if texts is not None]
        stored = [texts for texts in texts if isinstance(texts, StoredTexts)]
        if len(stored) < len(texts):
            return self._fingerprint()
        labels = hashlib.blake2b(self.labels.tobytes(), digest_size=16).hexdigest()
        question = " ".join(["fingerprint", labels, *(texts.digest for texts in stored)])
        return remembered(stored[0].folder, question, self._fingerprint)

    def _fingerprint(self) -> str:
        digest = hashlib.blake2b(self.labels.tobytes(), digest_size=16)
        for text in itertools.chain(self.texts, self.text_pairs or ()):
            encoded = text.encode("utf-8", "surrogatepass")
            digest.update(len(encoded).to_bytes(8, "little") + encoded)
        return digest.hexdigest()

    def require_single(self, what: str, certain: bool = True) -> None:
        """Raises `UserError` unless each text has one class, which is all that `what` knows.

        Args:
          certain: it is no distribution over the classes.
        """
        uncertain = certain and is_distribution(self.labels)
        if self.task != "single" or uncertain:
            has = "a distribution over the classes a text" if uncertain else KINDS[self.task]
            raise UserError(f"{self.name}: has {has}; {what} takes one class a text")

    def require_classes(self, class_names: Sequence[str], owner: str, task: str = "single") -> None:
        """Raises `UserError` unless the classes are `class_names`, which `owner` has, in that order, as its task is."""
        if self.task != label_kind(task):
            raise UserError(f"{self.name}: has {KINDS[self.task]}, but {owner} {KINDS[task]}; expected the same")
        if self.class_names != tuple(class_names):
            raise UserError(
                f"{self.name}: its {len(self.class_names)} classes ({first_of(self.class_names)}) are not the "
                f"{len(class_names)} of {owner} ({first_of(class_names)}); read it with these, as read_file does "
                "when it is given class_names"
            )

    def require_pairs(self, reads_pairs: bool | None, owner: str) -> None:
        """Raises `UserError` unless these are pairs of texts if `owner` reads such, else single texts; None: any."""
        if reads_pairs is not None and reads_pairs != (self.text_pairs is not None):
            expected, found = ("pairs of texts", "single texts")[:: 1 if reads_pairs else -1]
            raise UserError(f"{self.name}: has {found}, but {owner} has {expected}; expected the same")

    def take(self, indices: np.ndarray, name: str) -> "TextDataset":
        """The texts at `indices`, in that order, or those for which a mask of N truth values says so."""
        rows = np.arange(len(self))[indices]
        return TextDataset(
            texts=take(self.texts, rows),
            labels=with_certainty(self.labels[rows]),
            class_names=self.class_names,
            text_pairs=None if self.text_pairs is None else take(self.text_pairs, rows),
            ids=take(self.ids, rows),
            name=name,
            ratings=None if self.ratings is None else self.ratings[rows],
        )

    def join(self, other: "TextDataset") -> "TextDataset":
        """The texts of both, which have the same classes, and pairs of texts or none.

        Ratings are kept where both have those of equally many raters.

        Raises:
          UserError: they have not.
        """
        other.require_classes(self.class_names, self.name, self.task)
        other.require_pairs(self.text_pairs is not None, self.name)
        pairs = None if self.text_pairs is None else joined(self.text_pairs, other.text_pairs or ())
        ratings = [each for each in (self.ratings, other.ratings) if each is not None]
        rated_alike = len(ratings) == 2 and ratings[0].shape[1] == ratings[1].shape[1]
        return TextDataset(
            texts=joined(self.texts, other.texts),
            labels=join_labels(self.labels, other.labels, len(self.class_names)),
            class_names=self.class_names,
            text_pairs=pairs,
            ids=joined(self.ids, other.ids),
            name=self.name,
            ratings=np.concatenate(ratings) if rated_alike else None,
        )


def stratified_split(dataset: TextDataset, fraction: float, seed: int) -> tuple[TextDataset, TextDataset]:
    """Splits a part off in which every class, or every range of numbers, keeps its share.

    Every class keeps at least one text in the first part, so a class of one text is never split off. Where a text may
    have several classes that holds as far as their combinations allow it (`iterative_parts`).

    Args:
      fraction: share of the texts that go into the second part.
      seed: of the shuffle.

    Returns:
      The larger and the smaller part, each in the order of `dataset`.

    Raises:
      UserError: no class has the two texts that a split needs.
    """
    require(0 < fraction < 1, "fraction", fraction, "between 0 and 1")
    if dataset.task == "multi_label":
        number = max(round(len(dataset) * fraction), 1)
        part = iterative_parts(dataset.labels, [len(dataset) - number, number], seed)
        return _divide(dataset, part == 1)
    strata = dataset.strata
    counts = np.bincount(strata)
    wanted = counts * fraction
    taken = np.floor(wanted).astype(int)
    number = max(round(len(dataset) * fraction), 1)
    if dataset.task == "regression":  # small ranges of equal remainders take turns, or the lowest would be taken
        up_to = np.floor(np.cumsum(counts) * number / len(dataset) + 0.5).astype(int)
        taken = np.minimum(np.diff(up_to, prepend=0), counts - 1)
    # Largest remainders first, so that the parts add up to the fraction asked for.
    missing = number - taken.sum()
    for label in np.argsort(taken - wanted, kind="stable"):
        if missing <= 0:
            break
        if taken[label] + 1 < counts[label]:
            taken[label] += 1
            missing -= 1
    order = np.random.default_rng(seed).permutation(len(dataset))
    split_off = np.zeros(len(dataset), bool)
    for label, number in enumerate(taken):
        split_off[order[strata[order] == label][:number]] = True
    return _divide(dataset, split_off)


def _divide(dataset: TextDataset, split_off: np.ndarray) -> tuple[TextDataset, TextDataset]:
    if split_off.all() or not split_off.any():
        raise UserError(f"{dataset.name}: too few texts ({len(dataset)}) to take a validation split from; name one")
    return (
        dataset.take(np.flatnonzero(~split_off), f"{dataset.name} (training part)"),
        dataset.take(np.flatnonzero(split_off), f"{dataset.name} (validation part)"),
    )


def by_class(class_names: Sequence[str], values: Iterable[Any]) -> str:
    """A value of every class for the log, such as `neg 41, pos 42`."""
    listed = [f"{name} {value}" for name, value in zip(class_names, values, strict=True)]
    return printable(first_of(listed, most=MOST_LISTED))


def _listed(values: Iterable[Any], what: str) -> Sequence[Any]:
    return values if isinstance(values, StoredTexts) else listed(values, what)


def _several(names: str | Sequence[str]) -> list[str]:
    names = [names] * bool(names) if isinstance(names, str) else listed(names, "columns")
    for name in names:
        require(isinstance(name, str), "column", name, "its name, a string")
    return names


def _columns(
    texts: Sequence[str], pairs: Sequence[str], label: str | Sequence[str], raters: Sequence[str], **settings: Any
) -> DataConfig:
    """The settings of a dataset's columns; raises `UserError` for a label that is no name, or no such setting."""
    columns = {"text_column": write_columns(texts), "text_pair_column": write_columns(pairs)}
    columns["rater_columns"] = write_columns(_several(raters))
    several = isinstance(label, (list, tuple))
    columns |= {"label_columns": write_columns(_several(label))} if several else {"label_column": label}
    return build(DataConfig, settings | columns, "")


def _ratings(ratings: Any, classes: int, dataset: str) -> np.ndarray:
    ratings = np.asarray(ratings, np.int32)
    fits = ratings.ndim == 2 and bool(((ratings >= -1) & (ratings < classes)).all())
    require(fits, f"{dataset}: ratings", ratings.tolist(), f"a column a rater, of -1 or 0 to {classes - 1}")
    return ratings


def _class_names(names: list[Any], dataset: str) -> tuple[str, ...]:
    for place, name in enumerate(names):
        if not isinstance(name, (str, int)) or any("\ud800" <= letter <= "\udfff" for letter in str(name)):
            raise UserError(f"{dataset}: class_names[{place}]: expected a string of Unicode, got {shown(name)}")
    twice = [name for name, count in Counter(map(str, names)).items() if count > 1]
    if twice:
        raise UserError(f"{dataset}: class_names: expected different names, got {twice[0]!r} more than once")
    return tuple(map(str, names))
