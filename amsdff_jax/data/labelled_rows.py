"""Rows with texts and labels, of files or of tables in memory, become a dataset; what is wrong names its row."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.validation import shown
from amsdff_jax.config import DataConfig
from amsdff_jax.config.columns import split_columns
from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.data.label_sets import choose_reader
from amsdff_jax.data.rows import Row, listed, plain, require_columns, table_columns, text_of
from amsdff_jax.data.suspect_labels import repeated_headers, suspect_classes

logger = logging.getLogger(__name__)

ROWS_AFTER_ERROR = 20_000  # are read after the first bad one, to count others
ERRORS_SHOWN = 3


def label_rows(
    rows: Iterable[Row], config: DataConfig, class_names: Sequence[str], name: str, task: str = "single"
) -> TextDataset:
    """The dataset that rows are.

    Args:
      rows: that hold the columns which `config` names.
      config: names of the columns, and the kind of labels.
      class_names: the classes that training knows; (): take them from the labels, names sorted as text and integers as
        numbers.
      name: of the dataset, such as a file's path.
      task: the kind that the labels are read for; a first label that is a list makes it "multi_label".

    Raises:
      UserError: names the dataset, the row and the column, and what was expected there; of several bad rows how many
        there are, and the first.
    """
    text_columns, pair_columns = split_columns(config.text_column), split_columns(config.text_pair_column)
    texts, pairs, labels, places, problems, number, first_bad = [], [], [], [], [], 0, 0
    reader = None
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
            texts.append(text)
            pairs.append(pair)
            labels.append(label)
            places.append(row.place)
    if problems:
        raise UserError(f"{name}: {_summary(problems, number, number == first_bad + ROWS_AFTER_ERROR)}")
    if not texts or reader is None:
        raise UserError(f"{name}: holds no rows; expected at least one text")
    encoded, known = reader.encode(name, labels, places, class_names)
    dataset = TextDataset(
        texts=texts,
        labels=encoded,
        class_names=known,
        text_pairs=pairs if pair_columns else None,
        ids=places,
        name=name,
    )
    if not len(class_names) and dataset.task != "regression":  # which else have been looked at before
        for sentence in (*suspect_classes(dataset), *repeated_headers(dataset, config)):
            logger.warning("%s: %s", name, sentence)
    return dataset


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
