"""The sources of data."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from amsdff_jax import UserError, load_data
from amsdff_jax.config import DataConfig
from tests.conftest import make_texts, write_csv


def test_bundled_snippets_are_split_once_and_for_all():
    splits = load_data(DataConfig(source="bundled"))
    assert [len(split) for split in splits] == [8455, 1056, 1057]
    texts = [{text.strip().lower() for text in split.texts} for split in splits]
    assert not (texts[0] & texts[1] or texts[0] & texts[2] or texts[1] & texts[2])
    shares = [split.labels.mean() for split in splits]
    assert max(shares) - min(shares) < 0.005
    assert splits.train.class_names == ("negative", "positive")


def make_tfds(folder: Path, make_features: Callable[[Any], dict], *rows: Mapping) -> DataConfig:
    """A dataset of TFDS whose splits "train" and "test" both have `rows`, as its library writes it."""
    tfds = pytest.importorskip("tensorflow_datasets")

    class Letters(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")
        url_infos: ClassVar = {}  # nothing is downloaded; else the library wants importlib_resources

        @classmethod
        def _get_pkg_dir_path(cls) -> Path:  # where the library looks for what is told of a dataset
            return folder

        def _info(self):
            features = tfds.features.FeaturesDict(make_features(tfds.features))
            return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

        def _split_generators(self, _):
            return {split: enumerate(rows) for split in ("train", "test")}

        def _generate_examples(self):
            raise NotImplementedError

    tfds.disable_progress_bar()
    Letters(data_dir=str(folder / "made"), file_format="array_record").download_and_prepare()
    return DataConfig(
        source="tfds",
        dataset="letters",
        data_dir=str(folder / "made"),
        text_features=("text",),
        validation_split="test",
    )


def test_tfds_needs_no_tensorflow(tmp_path):
    config = make_tfds(
        tmp_path,
        lambda kind: {"title": kind.Text(), "text": kind.Text(), "label": kind.ClassLabel(names=["World", "Sci/Tech"])},
        {"title": "t", "text": "a", "label": 1},
        {"title": "", "text": "b\n", "label": 0},
        {"title": "v", "text": "c", "label": "Sci/Tech"},
    )
    splits = load_data(config)
    assert "tensorflow" not in sys.modules
    assert [split.texts for split in splits] == [["a", "b\n", "c"]] * 3
    assert splits.train.class_names == ("World", "Sci/Tech") and splits.test.labels.tolist() == [1, 0, 1]
    both = load_data(DataConfig(**{**config.__dict__, "text_features": ("title", "text"), "validation_split": ""}))
    assert both.test.texts == ["t a", "b\n", "v c"] and len(both.train) + len(both.validation) == 3
    for changes, message in [
        ({"text_features": ("titel",)}, r"data\.text_features: .* no feature 'titel'.*did you mean title\?"),
        ({"label_feature": "title"}, r"data\.label_feature: 'title' .* is not a class label"),
        ({"test_split": "tset"}, r"data\.test_split: .* no split 'tset', only"),
    ]:
        with pytest.raises(UserError, match=message):
            load_data(DataConfig(**{**config.__dict__, **changes}))


def test_probabilities_label_sets_and_votes_of_tfds(tmp_path):
    config = make_tfds(
        tmp_path,
        lambda kind: {
            "text": kind.Text(),
            **{name: kind.Scalar(np.float32) for name in ("bad", "good", "other")},
            **{name: kind.ClassLabel(names=["bad", "good"]) for name in ("ann", "bob")},
            "topics": kind.Sequence(kind.ClassLabel(names=["x", "y", "z"])),
        },
        {"text": "a", "bad": 0.25, "good": 0.75, "other": 0.5, "ann": "bad", "bob": "good", "topics": ["z", "x"]},
        {"text": "b", "bad": 1.0, "good": 0.0, "other": 1.0, "ann": "good", "bob": "good", "topics": []},
        {"text": "c", "bad": 0.5, "good": 0.5, "other": 0.5, "ann": "bad", "bob": "bad", "topics": ["y"]},
    )

    def labels(**changes) -> list:
        train = load_data(DataConfig(**{**config.__dict__, **changes})).train
        assert train.class_names == (("x", "y", "z") if "label_feature" in changes else ("bad", "good"))
        return train.labels.tolist()

    assert labels(label_columns="bad,good") == [[0.25, 0.75], [1, 0], [0.5, 0.5]]
    assert labels(rater_columns="ann,bob") == [[0.5, 0.5], [0, 1], [1, 0]]
    assert labels(label_feature="topics") == [[True, False, True], [False] * 3, [False, True, False]]
    with pytest.raises(UserError, match=r"letters \(train\): row 0, columns good, other: .*sum of 1\.25$"):
        labels(label_columns="good,other")


def test_tfds_name_that_is_nowhere(tmp_path):
    with pytest.raises(UserError, match=r"data\.dataset: 'no_such_set' is neither prepared in .* nor could be"):
        load_data(DataConfig(source="tfds", dataset="no_such_set", data_dir=str(tmp_path)))


def test_without_tfds_the_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(UserError, match=r"data\.source=tfds: needs tensorflow-datasets, .*pip install"):
        load_data(DataConfig(source="tfds", dataset="ag_news_subset"))


def test_a_train_file_is_enough(tmp_path):
    file = write_csv(tmp_path / "t.csv", *make_texts(90, 0))
    splits = load_data(DataConfig(train_file=str(file), validation_fraction=0.2))
    assert (len(splits.train), len(splits.validation), splits.test) == (72, 18, None)
    assert set(splits.train.ids).isdisjoint(splits.validation.ids)


def test_missing_train_file_setting():
    with pytest.raises(UserError, match=r"data\.train_file: not given"):
        load_data(DataConfig())


@pytest.mark.parametrize("field", ["train_file", "test_file"])
def test_files_that_would_not_be_read(field):
    with pytest.raises(UserError, match=rf"data\.{field}: given, but data\.source=bundled reads no files"):
        load_data(DataConfig(source="bundled", **{field: "mine.csv"}))
