"""The sources of data."""

import sys
from pathlib import Path

import numpy as np
import pytest

from amsdff_jax import UserError, load_data
from amsdff_jax.config import DataConfig
from tests.conftest import make_texts, write_csv

AG_NEWS = Path(__file__).parents[3] / "shared" / "data" / "tfds"


def test_bundled_snippets_are_split_once_and_for_all():
    splits = load_data(DataConfig(source="bundled"))
    assert [len(split) for split in splits] == [8455, 1056, 1057]
    texts = [{text.strip().lower() for text in split.texts} for split in splits]
    assert not (texts[0] & texts[1] or texts[0] & texts[2] or texts[1] & texts[2])
    shares = [split.labels.mean() for split in splits]
    assert max(shares) - min(shares) < 0.005
    assert splits.train.class_names == ("negative", "positive")


@pytest.mark.skipif(not AG_NEWS.exists(), reason="the TFDS sample of AG News is not beside the project")
def test_tfds_without_tensorflow():
    config = DataConfig(source="tfds", dataset="ag_news_subset", data_dir=str(AG_NEWS),
                        text_features=("title", "description"))  # fmt: skip
    splits = load_data(config)
    assert [len(split) for split in splits] == [9000, 1000, 7600]
    assert splits.test.class_names == ("World", "Sports", "Business", "Sci/Tech")
    assert np.bincount(splits.validation.labels).tolist() == pytest.approx([250] * 4, abs=12)
    for changes, message in [
        ({"text_features": ("titel",)}, r"data\.text_features: .* no feature 'titel'.*did you mean title\?"),
        ({"label_feature": "title"}, r"data\.label_feature: 'title' .* is not a class label"),
        ({"test_split": "tset"}, r"data\.test_split: .* no split 'tset', only"),
    ]:
        with pytest.raises(UserError, match=message):
            load_data(DataConfig(**{**config.__dict__, **changes}))


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
