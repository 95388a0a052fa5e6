"""The ranking of labels as a table, and a dataset without its most suspicious rows as a file."""

import base64
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.escaping import csv_line, spreadsheet_cell
from amsdff_jax.base.files import user_errors, user_path, write_text
from amsdff_jax.base.validation import require
from amsdff_jax.config import DataConfig
from amsdff_jax.config.columns import split_columns
from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.data.files import scan_rows, wanted_columns
from amsdff_jax.data.labels import label_text
from amsdff_jax.data.rows import is_missing
from amsdff_jax.inspection.label_issues import LabelRanking

COLUMNS = ("row", "text", "given", "suggested", "score", "reason")


def removed_file(apply: Path) -> Path:
    """Where the rows are listed that a cleaned file lacks: `clean.removed.csv` beside `clean.csv`."""
    return apply.with_suffix(".removed.csv")


def check_new(apply: str) -> Path:
    """The cleaned file. Neither it nor the list of removed rows may be there yet.

    Raises:
      UserError: one of them is there, or no CSV file.
    """
    file = user_path(apply)
    require(file.suffix.lower() == ".csv", "--apply", apply, "the name of a new CSV file, such as clean.csv")
    with user_errors(f"--apply={apply}", "written", "name another file"):
        for each in (file, removed_file(file)):
            if each.exists() or each.is_symlink():
                raise UserError(f"--apply={apply}: {each} is there already; delete it, or choose another file")
    return file


def write_ranking(file: Path, ranking: LabelRanking, texts: Iterable[int], reasons: Iterable[str]) -> None:
    """Writes a row with `COLUMNS` for each of the texts; raises `OSError`."""
    dataset = ranking.dataset
    names, pairs = dataset.class_names, dataset.text_pairs

    def rows() -> Iterator[tuple[Any, ...]]:
        for text, reason in zip(texts, reasons, strict=True):
            content = dataset.texts[text] if pairs is None else f"{dataset.texts[text]}\n{pairs[text]}"
            given, suggested = names[dataset.labels[text]], names[ranking.suggested[text]]
            told = map(spreadsheet_cell, (dataset.ids[text], content, given, suggested))
            yield *told, f"{ranking.scores[text]:.6f}", reason

    _write(file, COLUMNS, rows())


def source_rows(config: DataConfig, dataset: TextDataset) -> list[dict[str, Any]]:
    """The rows of the training split that `config` names, in its order; of a file with all columns.

    Raises:
      UserError: the source is not what `dataset` was read from, or has two columns of one name.
    """
    if config.source != "files":
        content = {
            config.label_column: [dataset.class_names[n] for n in dataset.labels],
            _one_column(config.text_column, "text"): dataset.texts,
        }
        if dataset.text_pairs is not None:
            content[_one_column(config.text_pair_column, "text_pair")] = dataset.text_pairs
        return [{name: values[place] for name, values in content.items()} for place in range(len(dataset))]
    rows = list(scan_rows(config.train_file, wanted_columns(config), config, whole=True))
    if any(row.error for row in rows) or [row.place for row in rows] != list(dataset.ids):
        raise UserError(f"{config.train_file}: was changed while it was looked at; run the same command again")
    return [dict(row.values) for row in rows]


def _one_column(setting: str, joined: str) -> str:
    """The name of a column; of several, which have been joined and are not to be looked for again, `joined`."""
    names = split_columns(setting)
    return names[0] if len(names) == 1 else joined


def write_cleaned(file: Path, rows: Sequence[dict[str, Any]], removed: Iterable[int]) -> int:
    """Writes all rows but some, as CSV with a header; numbers and truth values as labels are, lists as JSON has them.

    Args:
      rows: of `source_rows`.
      removed: places in them.

    Returns:
      How many rows were written.

    Raises:
      OSError: the file cannot be written.
    """
    gone = set(removed)
    kept = [row for place, row in enumerate(rows) if place not in gone]
    names = list(dict.fromkeys(name for row in rows for name in row))
    _write(file, names, ([_cell(row.get(name)) for name in names] for row in kept))
    return len(kept)


def _cell(value: Any) -> str:
    if isinstance(value, bytes):
        try:
            return value.decode()  # as texts of older programs are
        except UnicodeDecodeError:
            return base64.b64encode(value).decode()
    if is_missing(value):
        return ""
    if isinstance(value, (list, tuple, dict)):
        return json.dumps(value, ensure_ascii=False, default=str)
    if isinstance(value, (int, float, Decimal)):
        return label_text(value) or str(value)  # the second of infinity
    return str(value)


def _write(file: Path, header: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    write_text(file, "".join(map(csv_line, itertools.chain([header], rows))))
