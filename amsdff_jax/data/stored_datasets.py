"""Datasets whose texts are too many for memory: kept in the cache, and found again by the files that they were in."""

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from amsdff_jax.base.cache import cache_folder, filled_folder, use_folder
from amsdff_jax.base.files import is_url, read_json, user_path, write_json
from amsdff_jax.config import DataConfig
from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.data.mapped_rows import map_rows
from amsdff_jax.data.stored_texts import StoredTexts, TextsWriter, storage_errors

VERSION = 2  # of what is kept; a reader of another finds nothing
LARGEST_IN_MEMORY = 1 << 28  # characters of the texts of a dataset, and `ROW` for each; beyond it they are stored
ROW = 100  # about what Python adds to a text in a list and its id
PIECE = 1 << 24  # characters that are written at once, counted likewise
FILE = "dataset.json"
LABELS, RATINGS = "labels.npy", "ratings.npy"

# What decides which texts and labels are read from files; of published datasets, under the names of columns.
_FIELDS = (
    *("text_column", "text_pair_column", "label_column", "label_separator", "label_columns", "label_hierarchy"),
    *("column_names", "delimiter", "quoting", "label_type", "label_order"),
    "rater_columns",
)
_NEWER = ("rater_columns",)  # than the first folders, which are found as before where these are empty


def dataset_folder(
    files: Mapping[str, str], config: DataConfig, class_names: Sequence[str], task: str, part: Sequence[Any] = ()
) -> Path | None:
    """The folder of the cache for what some files hold, which need not exist; None: there is no cache, or no such file.

    Args:
      files: what `find_files` gives.
      config, class_names, task: that they are read with, as for `read_file`.
      part: what else decides which of their rows are read, and how, ready for JSON.
    """
    root = cache_folder("texts")
    if root is None or not files or any(map(is_url, files)):  # nothing tells whether what is behind one has changed
        return None
    # Without a task zeros and ones in columns are several labels, and else what they are with "single".
    task = task or ("" if config.label_columns and len(class_names) else "single")
    facts: list[Any] = [VERSION, list(class_names), task]
    settings = dataclasses.asdict(config)
    facts.append([settings[field] for field in _FIELDS if settings[field] or field not in _NEWER])
    for file, name in files.items():
        path = os.path.abspath(user_path(file))
        try:
            status = os.stat(path)
        except OSError:  # which whoever reads it tells
            return None
        facts.append([path, name, status.st_size, status.st_mtime_ns])
    facts += [part] if part else []
    return root / hashlib.blake2b(json.dumps(facts).encode(), digest_size=20).hexdigest()


def read_dataset(folder: Path | None, name: str) -> TextDataset | None:
    """The dataset that lies in a folder of the cache; None: there is none, or it was damaged, and has been removed.

    Args:
      name: what messages call it.
    """
    if folder is None or not folder.exists():
        return None
    dataset = _read(folder, name)
    if dataset is None:
        shutil.rmtree(folder, ignore_errors=True)
        return None
    use_folder(folder)
    return dataset


def _read(folder: Path, name: str) -> TextDataset | None:
    try:
        facts = read_json(folder / FILE, "the record of stored texts")
        columns = {
            column: StoredTexts(map_rows(folder, column, np.uint8), digest, folder)
            for column, digest in facts["columns"].items()
        }
        labels = np.load(folder / LABELS, allow_pickle=False)
        ratings = np.load(folder / RATINGS, allow_pickle=False) if "ratings" in facts else None
        if _digest(labels) != facts["labels"] or (ratings is not None and _digest(ratings) != facts["ratings"]):
            return None
        pairs = columns.get("text_pairs")
        return TextDataset(columns["texts"], labels, facts["class_names"], pairs, columns["ids"], name, ratings)
    except Exception:  # numpy, JSON and the dataset itself raise many kinds for damaged files
        return None


class TextStore:
    """Takes the texts of a dataset over, once they are too many for memory. Use as a context manager.

    What is in a folder of the cache at the end, but has not been said to be a dataset by `keep`, nobody finds.
    """

    def __init__(self, folder: Path | None):
        """Nothing is written yet.

        Args:
          folder: of the cache, for `keep`; None: temporary files.
        """
        self._final, self._folder, self._writer = folder, None, None
        self._open = contextlib.ExitStack()

    @property
    def begun(self) -> bool:
        """Whether it has been given any."""
        return self._writer is not None

    def append(self, columns: Mapping[str, list[str]]) -> None:
        """Takes texts out of the lists of all columns, which are empty then.

        Raises:
          UserError: they cannot be written.
        """
        if self._writer is None:
            self._folder = self._open.enter_context(filled_folder(self._final))
            self._writer = self._open.enter_context(contextlib.closing(TextsWriter(self._folder, columns)))
        self._writer.append(columns)
        for texts in columns.values():
            texts.clear()

    def finish(self) -> dict[str, StoredTexts]:
        """The columns by name; raises `UserError` if they cannot be written."""
        assert self._writer is not None
        return self._writer.finish(self._final if self._folder else None)

    def keep(self, dataset: TextDataset) -> None:
        """Lets what was stored be found again as this dataset; raises `UserError` if it cannot be written."""
        if self._folder is None or not self._folder.exists():  # where no locks are known another may have removed it
            return
        with storage_errors(self._folder):
            np.save(self._folder / LABELS, dataset.labels)
            columns = {"texts": dataset.texts, "text_pairs": dataset.text_pairs, "ids": dataset.ids}
            digests = {name: texts.digest for name, texts in columns.items() if isinstance(texts, StoredTexts)}
            facts = {"class_names": dataset.class_names, "columns": digests, "labels": _digest(dataset.labels)}
            if dataset.ratings is not None:
                np.save(self._folder / RATINGS, dataset.ratings)
                facts["ratings"] = _digest(dataset.ratings)
            write_json(self._folder / FILE, facts)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: Any) -> bool | None:
        return self._open.__exit__(*exception)


def _digest(labels: np.ndarray) -> str:
    return hashlib.blake2b(np.ascontiguousarray(labels).data, digest_size=16).hexdigest()
