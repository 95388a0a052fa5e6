"""From settings to texts: the sources of data, each giving the same three splits."""

from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.files import is_url, user_path
from amsdff_jax.config import DataConfig
from amsdff_jax.data.dataset import TextDataset, stratified_split
from amsdff_jax.data.files import read_file, read_rows
from amsdff_jax.data.prepare import DATASETS
from amsdff_jax.data.published import read_published
from amsdff_jax.data.shots import draw_shots


class DataSplits(NamedTuple):
    """The splits of one dataset, with the same classes throughout; `test` is None where there is none."""

    train: TextDataset
    validation: TextDataset
    test: TextDataset | None

    def require_test(self) -> TextDataset:
        """The test split.

        Raises:
          UserError: there is none.
        """
        if self.test is None:
            raise UserError(f"{self.train.name}: no test split; name one (data.test_file or data.test_split)")
        return self.test


Loaded = tuple[TextDataset, TextDataset | None, TextDataset | None]


def load_data(config: DataConfig, seed: int = 0, task: str = "single") -> DataSplits:
    """Reads all splits that `config` names.

    Where no validation split is named, a stratified part of the training split is taken.

    Args:
      seed: of that stratified part, and of `config.shots`.
      task: the kind of task, as for `read_file`.

    Raises:
      UserError: a file, split, column or label that is not as it should be.
    """
    return complete_splits(load_source(config, task), config, seed)


def load_source(config: DataConfig, task: str = "single") -> Loaded:
    """The training, validation and test split as the source has them; None for one that it does not.

    Args:
      task: as for `load_data`.

    Raises:
      UserError: as `load_data`.
    """
    if config.source in ("bundled", "tfds", "huggingface"):
        for field in ("train_file", "validation_file", "test_file"):
            if getattr(config, field):
                problem = f"data.{field}: given, but data.source={config.source} reads no files"
                raise UserError(f"{problem}; add --config.data.source=files")
    if config.source == "files":
        train, validation, test = _files(config, task)
    elif config.source in ("tfds", "huggingface"):
        train, validation, test = read_published(config, task)
    elif config.source == "bundled" and task == "regression":
        train, validation, test = _movie_snippets(ratings=True)
    elif task != "single":
        has = "classes without an order" if task == "ordinal" else "one label a text"
        expected = "expected files, tfds or huggingface"
        raise UserError(f"task.kind={task}: data.source={config.source} has {has}; {expected}")
    else:
        loaders = {"bundled": _movie_snippets, "newsgroups20": _newsgroups20}
        train, validation, test = loaders[config.source]()
    occurring = train.labels.any(axis=0) if train.labels.ndim == 2 else train.class_counts
    if train.task != "regression" and np.count_nonzero(occurring) < 2:
        raise UserError(f"{train.name}: holds a single class; expected at least two")
    return train, validation, test


def complete_splits(loaded: Loaded, config: DataConfig, seed: int) -> DataSplits:
    """The splits with a validation split, which is taken from the training split where there is none.

    Of what is left of the training split, `config.shots` of each class are kept.

    Raises:
      UserError: no class has the two texts that a validation split needs; shots of labels that are not classes.
    """
    train, validation, test = loaded
    if validation is None:
        train, validation = stratified_split(train, config.validation_fraction, seed)
    if config.shots:
        train = draw_shots(train, config.shots, seed)
    return DataSplits(train, validation, test)


def _files(config: DataConfig, task: str) -> Loaded:
    if not config.train_file:
        expected = "a CSV, TSV, JSON, JSONL or Parquet file (--config.data.train_file=FILE)"
        raise UserError(f"data.train_file: not given; expected {expected}")
    folder = Path(config.train_file).parent
    if folder.name in DATASETS and not is_url(config.train_file) and not user_path(folder).exists():
        raise UserError(
            f"data.train_file: no file {config.train_file}; make it with "
            f"`amsdff prepare {folder.name} --output={folder.parent}`"
        )
    train = read_file(config.train_file, config, task=task)

    def other(path: str) -> TextDataset | None:
        return read_file(path, config, train.class_names, train.task) if path else None

    return train, other(config.validation_file), other(config.test_file)


def _movie_snippets(ratings: bool = False) -> Loaded:
    """Hutto's 10,605 movie-review snippets; see the folder's README.

    Their labels are the sign of the mean rating, without those of 0; or it, from -4 to 4.
    """
    splits: dict[str, list[tuple[str, float, str]]] = {"train": [], "validation": [], "test": []}
    with resources.as_file(resources.files("amsdff_jax.data") / "movie_snippets" / "ratings.csv.gz") as path:
        for row in read_rows(str(path)):
            rating = float(row.values["rating"])
            if rating != 0 or ratings:
                splits[row.values["split"]].append((row.values["text"], rating, row.place))
    kind = np.float64 if ratings else np.int32
    train, validation, test = (
        TextDataset(
            texts=[text for text, _, _ in rows],
            labels=np.array([rating if ratings else rating > 0 for _, rating, _ in rows], kind),
            class_names=("rating",) if ratings else ("negative", "positive"),
            ids=[place for _, _, place in rows],
            name=f"movie snippets ({split})",
        )
        for split, rows in splits.items()
    )
    return train, validation, test


def _newsgroups20() -> Loaded:
    """The 20 Newsgroups by-date split without headers, footers and quotes, from scikit-learn's loader."""
    from sklearn.datasets import fetch_20newsgroups

    def subset(name: str) -> TextDataset:
        try:
            bunch: Any = fetch_20newsgroups(subset=name, remove=("headers", "footers", "quotes"))
        except OSError as error:
            raise UserError(
                f"newsgroups20: the download failed ({error}); connect to the network once, or use "
                "--config=configs/newsgroups20.py, which reads files that `amsdff prepare` makes"
            ) from None
        return TextDataset(bunch.data, bunch.target, tuple(bunch.target_names), name=f"newsgroups20 ({name})")

    return subset("train"), None, subset("test")
