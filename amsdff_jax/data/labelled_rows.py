"""Rows with texts and labels, of files or of tables in memory, become a dataset; what is wrong names its row."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.validation import shown
from amsdff_jax.config import DataConfig
from amsdff_jax.config.columns import split_columns
from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.data.label_sets import choose_reader
from amsdff_jax.data.rows import Row, listed, plain, require_columns, table_columns, text_of
from amsdff_jax.data.stored_datasets import LARGEST_IN_MEMORY, PIECE, ROW, TextStore, read_dataset
from amsdff_jax.data.suspect_labels import repeated_headers, suspect_classes

logger = logging.getLogger(__name__)

ROWS_AFTER_ERROR = 20_000  # are read after the first bad one, to count others
ERRORS_SHOWN = 3


def label_rows_once(
    rows: Callable[[], Iterable[Row]],
    folder: Callable[[], Path | None],
    config: DataConfig,
    class_names: Sequence[str],
    name: str,
    task: str = "single",
) -> TextDataset:
    """What `label_rows` gives. Texts that are too many for memory are stored, and the next start finds them again.

    Args:
      rows: opens them; it is not called where the dataset is found.
      folder: tells where in the cache a dataset of what is there now belongs; None: nowhere.
      config, class_names, name, task: as for `label_rows`.

    Raises:
      UserError: as `label_rows`.
    """
    place = folder()
    dataset = read_dataset(place, name)
    if dataset is not None:
        logger.info("%s: %d texts, read by an earlier run", name, len(dataset))
        if not len(class_names):
            warn_of_labels(dataset, config)
        return dataset
    with TextStore(place) as store:
        dataset = label_rows(rows(), config, class_names, name, task, store)
        if store.begun and folder() == place:  # nobody wrote to the files meanwhile
            store.keep(dataset)
    return dataset


def label_rows(
    rows: Iterable[Row],
    config: DataConfig,
    class_names: Sequence[str],
    name: str,
    task: str = "",
    store: TextStore | None = None,
) -> TextDataset:
    """The dataset that rows are.

    Args:
      rows: that hold the columns which `config` names.
      config: names of the columns, and the kind of labels.
      class_names: the classes that training knows; (): take them from the labels, names sorted as text and integers as
        numbers.
      name: of the dataset, such as a file's path.
      task: the kind that the labels are read for, as for `read_file`; a first label that is a list makes it
        "multi_label".
      store: takes the texts once they are too many for memory; None: they stay there.

    Raises:
      UserError: names the dataset, the row and the column, and what was expected there; of several bad rows how many
        there are, and the first.
    """
    text_columns, pair_columns = split_columns(config.text_column), split_columns(config.text_pair_column)
    texts, pairs, labels, places, problems, number, first_bad = [], [], [], [], [], 0, 0
    columns = {"texts": texts, "ids": places} | ({"text_pairs": pairs} if pair_columns else {})
    reader, size, limit, known_labels = None, 0, LARGEST_IN_MEMORY, {}
    for row in rows:
        if problems and number == first_bad + ROWS_AFTER_ERROR:
            break
        number += 1
        try:
            if row.error:
                raise UserError(row.error)
            text = text_of(row, text_columns)
            pair = text_of(row, pair_columns) if pair_columns else ""
            reader = reader or choose_reader(config, task, row)
            label = reader.read(row)
        except UserError as problem:
            problems.append(str(problem))
            first_bad = first_bad or number
        else:
            # The same label is held once, but 0.0 is not -0.0, and probabilities are hardly ever the same.
            if not isinstance(label, (float, bytes)):
                label = known_labels.setdefault(tuple(label) if isinstance(label, list) else label, label)
            texts.append(text)
            if pair_columns:
                pairs.append(pair)
            labels.append(label)
            places.append(row.place)
            size += len(text) + len(pair) + ROW
            if size > limit and store is not None:
                store.append(columns)
                size, limit = 0, PIECE
    if len(problems) > 1 and len({*problems}) == 1:  # which names no row: the settings are wrong
        raise UserError(problems[0])
    if problems:
        raise UserError(f"{name}: {_summary(problems, number, number == first_bad + ROWS_AFTER_ERROR)}")
    if reader is None:
        raise UserError(f"{name}: holds no rows; expected at least one text")
    found: Mapping[str, Sequence[str]] = columns
    if store is not None and store.begun:
        store.append(columns)
        found = store.finish()
    encoded = reader.encode(name, labels, found["ids"], class_names)
    dataset = TextDataset(
        texts=found["texts"],
        labels=encoded.labels,
        class_names=encoded.class_names,
        text_pairs=found.get("text_pairs"),
        ids=found["ids"],
        name=name,
        ratings=encoded.ratings,
    )
    if not len(class_names):  # which else have been looked at before
        warn_of_labels(dataset, config)
    return dataset


def warn_of_labels(dataset: TextDataset, config: DataConfig) -> None:
    """Tells in the log of classes and rows that look like slips."""
    if dataset.task != "regression":
        for sentence in (*suspect_classes(dataset), *repeated_headers(dataset, config)):
            logger.warning("%s: %s", dataset.name, sentence)


def column_rows(table: Any, columns: Iterable[str], name: str) -> Iterator[Row]:
    """The rows of a dict of columns or a data frame, each called by its position, from 0.

    Args:
      table: what gives a column for its name in brackets.
      columns: those that rows hold.
      name: of the table, for messages.

    Raises:
      UserError: no such table, no such column or more than one, or columns of different lengths.
    """
    found = table_columns(table)
    if found is None:
        raise UserError(f"{name}: expected a dict of columns or a data frame, got {shown(table)}")
    columns = list(dict.fromkeys(columns))
    require_columns(name, columns, found)
    values = {column: listed(table[column], f"{name}: column {column!r}") for column in columns}
    first, *others = values
    for column in others:
        if len(values[column]) != len(values[first]):
            lengths = f"{len(values[column])} values, but column {first!r} has {len(values[first])}"
            raise UserError(f"{name}: column {column!r} has {lengths}")
    for number, row in enumerate(zip(*values.values(), strict=True)):
        yield Row(f"row {number}", dict(zip(columns, map(plain, row), strict=True)))


def _summary(problems: Sequence[str], rows: int, stopped: bool) -> str:
    if len(problems) == 1:
        return problems[0]
    first = " ".join(f"({place}) {problem}" for place, problem in enumerate(problems[:ERRORS_SHOWN], start=1))
    of = f"the first {rows:,}" if stopped else f"{rows:,}"
    return f"{len(problems):,} of {of} rows cannot be read, the first of them: {first}"
