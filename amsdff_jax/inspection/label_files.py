"""The ranking of labels as a table, and a dataset without its most suspicious rows as a file."""

import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.escaping import csv_line, spreadsheet_cell
from amsdff_jax.base.files import user_errors, user_path, write_text
from amsdff_jax.base.validation import require
from amsdff_jax.config import DataConfig
from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.data.files import scan_rows
from amsdff_jax.data.rows import value_of
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


def write_cleaned(file: Path, config: DataConfig, dataset: TextDataset, removed: Iterable[int]) -> int:
    """Writes all rows of the training split but some, as CSV with a header.

    Of a file all columns are kept, and values that are no text written as JSON has them.

    Args:
      dataset: the training split that `config` names.
      removed: places in it.

    Returns:
      How many rows were written.

    Raises:
      UserError: the source is not what it was.
      OSError: the file cannot be written.
    """
    gone = {dataset.ids[text] for text in removed}
    if config.source == "files":
        read = scan_rows(config.train_file, None, config)
        rows = [{name: value_of(row, name) for name in row.values} for row in read if row.place not in gone]
    else:
        content = {
            config.text_column: dataset.texts,
            config.label_column: [dataset.class_names[n] for n in dataset.labels],
        }
        if dataset.text_pairs is not None:
            content[config.text_pair_column or "text_pair"] = dataset.text_pairs
        kept = [place for place, name in enumerate(dataset.ids) if name not in gone]
        rows = [{name: values[place] for name, values in content.items()} for place in kept]
    if len(rows) + len(gone) != len(dataset):
        raise UserError(f"{config.train_file}: was changed while it was looked at; run the same command again")
    names = list(dict.fromkeys(name for row in rows for name in row))
    _write(file, names, ([_cell(row.get(name)) for name in names] for row in rows))
    return len(rows)


def _cell(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, ensure_ascii=False, default=str)


def _write(file: Path, header: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    write_text(file, "".join(map(csv_line, itertools.chain([header], rows))))
