"""Datasets as the field publishes them, through TensorFlow Datasets or Hugging Face's `datasets`: one way of both."""

import dataclasses
import functools
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.files import user_path
from amsdff_jax.base.validation import first_of, nearest
from amsdff_jax.config import DataConfig
from amsdff_jax.config.columns import write_columns
from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.data.file_sets import find_files
from amsdff_jax.data.label_sets import label_columns
from amsdff_jax.data.labelled_rows import label_rows_once
from amsdff_jax.data.parquet import BATCH_BYTES, MOST_ROWS
from amsdff_jax.data.rows import Row, is_list, plain
from amsdff_jax.data.stored_datasets import dataset_folder

logger = logging.getLogger(__name__)

COLUMNS = ("label_columns", "rater_columns")  # settings that name features in the place of `label_feature`
_MIXED = re.compile(r"\[(-?[\d_.]+%:-?[\d_.]+|-?[\d_.]+:-?[\d_.]+%)\]")  # which both libraries take for percent
_HUB_ID = re.compile(r"(?P<id>[^:@]+)(:(?P<config>[^:@]+))?(@(?P<revision>.+))?")


class _Split(NamedTuple):
    """A split, or slices of some.

    Attributes:
      features: by name.
      examples: gives them, of which only some features are read.
      files: that they are in; none: they are in no file.
      part: which of the files' examples they are, ready for JSON.
    """

    features: Mapping[str, Any]
    examples: Callable[[Sequence[str]], Iterable[Mapping[str, Any]]]
    files: Sequence[str]
    part: Sequence[Any]


class _Published(NamedTuple):
    """A dataset.

    Attributes:
      splits: their names.
      open: opens one, or slices of some; raises KeyError for a name that there is not, ValueError or
        NotImplementedError for slices that there are not.
    """

    splits: Iterable[str]
    open: Callable[[str], _Split]


def read_published(config: DataConfig, task: str) -> tuple[TextDataset, TextDataset | None, TextDataset | None]:
    """The training, validation and test split that the settings name; None for one that they do not.

    Args:
      config: of the source "tfds" or "huggingface"; names of the dataset, its splits and features.
      task: the kind of task, as for `read_file`.

    Raises:
      UserError: a library that is not installed, a dataset that is nowhere, no such split or feature, a text or label
        that is not as it should be, or a split that is published without labels.
    """
    if not config.dataset:
        example = "ag_news_subset" if config.source == "tfds" else "ag_news"
        raise UserError(f"data.dataset: not given; expected a dataset's name (--config.data.dataset={example})")
    published = {"tfds": _tfds, "huggingface": _huggingface}[config.source](config, task)
    train = _read_split(published, config, "train_split", (), task)

    def other(field: str) -> TextDataset | None:
        if not getattr(config, field):
            return None
        return _read_split(published, config, field, train.class_names, train.task)

    return train, other("validation_split"), other("test_split")


def _read_split(
    published: _Published, config: DataConfig, field: str, class_names: Sequence[str], task: str
) -> TextDataset:
    split = getattr(config, field)
    try:
        if _MIXED.search(split):
            raise ValueError("percent and rows in one slice; expected one of them")
        features, examples, files, part = published.open(split)
    except (KeyError, NotImplementedError, ValueError) as error:
        reason = "" if isinstance(error, KeyError) else f" ({_reason(error).removeprefix('ValueError: ')})"
        splits = first_of(list(published.splits))
        raise UserError(f"data.{field}: {config.dataset} has no split {split!r}, only {splits}{reason}") from None
    columns = dataclasses.replace(
        config,
        text_column=write_columns(config.text_features),
        text_pair_column=write_columns([config.text_pair_feature]) if config.text_pair_feature else "",
        label_column=config.label_feature,
    )
    labels = label_columns(columns)
    wanted = {
        **dict.fromkeys(labels, next((name for name in COLUMNS if getattr(config, name)), "label_feature")),
        **({config.text_pair_feature: "text_pair_feature"} if config.text_pair_feature else {}),
        **dict.fromkeys(config.text_features, "text_features"),
    }
    for feature, setting in reversed(wanted.items()):
        if feature not in features:
            raise UserError(
                f"data.{setting}: {config.dataset} has no feature {feature!r}, only {', '.join(features)}"
                f"{nearest(feature, features)}"
            )
    name = f"{config.dataset} ({split})"
    named = {} if config.label_columns else {feature: _label_names(features[feature]) for feature in labels}
    names = next(iter(named.values()), ())
    # Names that are others, or in another order; raters may have different ones.
    if config.label_hierarchy or config.label_order or len(set(named.values())) > 1 or task == "regression":
        names = ()
    dataset = label_rows_once(
        lambda: _rows(examples(list(wanted)), named, name, none="" if config.rater_columns else None),
        lambda: dataset_folder(dict.fromkeys(files, ""), columns, class_names or names, task, [named, part]),
        columns,
        class_names or names,
        name,
        task,
    )
    if task == "regression" and (np.asarray(dataset.labels) == -1).all():
        raise UserError(f"{name}: every label is -1 (the split is published without); use another split")
    return dataset


def _rows(
    examples: Iterable[Mapping[str, Any]], names: Mapping[str, Sequence[str]], split: str, none: str | None
) -> Iterator[Row]:
    """The examples as rows, labels with their names.

    Args:
      names: of the classes of each feature that holds labels; (): its labels stay as they are.
      none: what stands for a label that is not there; None: it must be.
    """

    def named(value: Any, label: str, place: str) -> Any:
        value = plain(value)
        if is_list(value):
            return [named(each, label, place) for each in value]
        if value == -1 and none is None:
            raise UserError(f"{split}: {place} has no label (the split is published without); use another split")
        if value == -1:
            return none
        if isinstance(value, int) and not 0 <= value < len(names[label]):
            there = f"{value} is no label of the {len(names[label])} there are"
            raise UserError(f"{split}: {place}, feature {label!r}: {there}")
        return names[label][value] if isinstance(value, int) else value

    labels = [label for label in names if names[label]]
    for number, example in enumerate(examples):
        place = f"row {number}"
        yield Row(place, {**example, **{label: named(example[label], label, place) for label in labels}})


def _label_names(feature: Any) -> tuple[str, ...]:
    """The names of the classes of a feature that is a class label, or a list of them; (): it is neither."""
    if isinstance(feature, list) and len(feature) == 1:
        feature = feature[0]
    names = getattr(feature, "names", None) or getattr(getattr(feature, "feature", None), "names", None)
    return tuple(name.strip() for name in names or ())


def _tfds(config: DataConfig, task: str) -> _Published:
    """A dataset of TensorFlow Datasets, read as a random-access source, without TensorFlow."""
    try:
        import tensorflow_datasets as tfds
    except ImportError:
        raise UserError(
            "data.source=tfds: needs tensorflow-datasets, which comes along on Linux alone and is not installed; "
            "`pip install tensorflow-datasets array-record`, or read a file (--config.data.source=files)"
        ) from None

    options: dict[str, Any] = {"data_dir": str(user_path(config.data_dir))} if config.data_dir else {}
    try:
        builder: Any = tfds.builder(config.dataset, **options)
        if not builder.is_prepared():
            logger.info("downloading %s with TFDS", config.dataset)
            builder.download_and_prepare(file_format="array_record")
    except Exception as error:  # TFDS lets through whatever its many download paths raise.
        raise UserError(
            f"data.dataset: {config.dataset!r} is neither prepared in data_dir={config.data_dir or 'the default'!r}"
            f" nor could be downloaded ({_reason(error)}); check the name, or point "
            "--config.data.data_dir at a TFDS data directory that holds it"
        ) from None
    features = builder.info.features
    given = config.label_feature in features and not any(getattr(config, name) for name in COLUMNS)
    if given and task != "regression" and not _label_names(features[config.label_feature]):
        raise UserError(f"data.label_feature: {config.label_feature!r} of {config.dataset} is not a class label")

    def split(name: str) -> _Split:
        source = builder.as_data_source(split=name)
        pieces = builder.info.splits[name].file_instructions
        return _Split(
            features,
            lambda wanted: ({each: _decoded(example[each]) for each in wanted} for example in source),
            [str(piece.filename) for piece in pieces],
            [[os.path.basename(piece.filename), piece.skip, piece.take] for piece in pieces],
        )

    return _Published(builder.info.splits, split)


def _huggingface(config: DataConfig, _: str) -> _Published:
    """A dataset of the hub, a folder that `save_to_disk` made, or Parquet files; no code of theirs is run."""
    try:
        import datasets
    except ImportError:
        raise UserError(
            "data.source=huggingface: needs the library datasets, which is not installed; pip install 'datasets>=4'"
        ) from None

    path = str(user_path(config.dataset))
    cache = str(user_path(config.data_dir)) if config.data_dir else None
    parquet = [] if os.path.isdir(path) or not config.dataset.endswith(".parquet") else list(find_files(config.dataset))
    try:
        if parquet:
            loaded = datasets.load_dataset(
                "parquet", data_files={"train": [str(user_path(file)) for file in parquet]}, cache_dir=cache
            )
        elif os.path.isfile(os.path.join(path, "dataset_info.json")) or os.path.isfile(f"{path}/dataset_dict.json"):
            loaded = datasets.load_from_disk(path)
        elif os.path.isdir(path):
            loaded = datasets.load_dataset(path, cache_dir=cache)
        else:
            name = _HUB_ID.fullmatch(config.dataset)
            if name is None:
                raise ValueError("expected the id of a dataset, such as ag_news or nyu-mll/glue:sst2@REVISION")
            loaded = datasets.load_dataset(name["id"], name["config"], revision=name["revision"], cache_dir=cache)
    except Exception as error:  # of network, hub, Arrow, JSON and the file system
        raise UserError(
            f"data.dataset: {config.dataset!r} could not be read ({_reason(error)}); expected the id of a dataset on "
            "the hub, a folder of save_to_disk, or Parquet files"
        ) from None
    splits: Any = loaded if isinstance(loaded, dict) else {str(loaded.split or "train"): loaded}

    def examples(name: str, rows: Any, wanted: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        batches = None
        while True:
            try:
                batches = batches or _batches(rows, wanted)
                batch = next(batches, None)
            except Exception as error:  # of Arrow: the files are read as they are needed
                raise UserError(f"{config.dataset} ({name}): could not be read ({_reason(error)})") from None
            if batch is None:
                return
            for values in zip(*(batch[each] for each in wanted), strict=True):
                yield dict(zip(wanted, values, strict=True))

    def open_split(name: str) -> _Split:
        slices = _slices(name, {each: len(split) for each, split in splits.items()})
        # Neither copies rows: they stay in the files, which are read through memory maps.
        rows = datasets.concatenate_datasets([splits[split].select(range(*ends)) for split, *ends in slices])
        files = [file["filename"] for split, *_ in slices for file in splits[split].cache_files]
        return _Split(rows.features, functools.partial(examples, name, rows), files, slices)

    return _Published(splits, open_split)


def _slices(spec: str, sizes: Mapping[str, int]) -> list[tuple[str, int, int]]:
    """The slices that `datasets` calls by a name such as train[:10%]+test: of each the split, its first row, its end.

    Args:
      sizes: rows by split.

    Raises:
      KeyError: no such split.
      ValueError: no such name, no rows, or rows beyond a split, which `datasets` would leave out in silence.
    """
    import datasets

    if spec in sizes:
        return [(spec, 0, sizes[spec])]
    instruction = datasets.ReadInstruction.from_spec(spec)
    for part in spec.split("+"):
        split, _, ends = part.strip().partition("[")
        if split not in sizes:
            raise KeyError(split)
        rows = [int(end) for end in re.findall(r"-?[\d_]+", ends)] if "%" not in ends else []
        if any(abs(row) > sizes[split] for row in rows):
            raise ValueError(f"{split} has {sizes[split]:,} rows")
    slices = [(each.splitname, each.from_, each.to) for each in instruction.to_absolute(sizes) if each.from_ < each.to]
    if not slices:
        raise ValueError("it holds no rows")
    return slices


def _batches(rows: Any, wanted: Sequence[str]) -> Iterator[Mapping[str, Sequence[Any]]]:
    """The columns of a `datasets.Dataset` in batches whose size does not grow with the texts."""
    chosen = rows.with_format(None).select_columns(list(wanted))
    number = min(MOST_ROWS, max(1, BATCH_BYTES * len(chosen) // max(1, chosen.data.nbytes)))
    return chosen.iter(number)


def _decoded(value: Any) -> Any:
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else plain(value)


def _reason(error: Exception) -> str:
    line = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {line}" if line else type(error).__name__
