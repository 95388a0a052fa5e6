"""Datasets of Hugging Face's library `datasets`; those of TFDS are in `test_sources`."""

import sys

import pytest

from amsdff_jax import UserError, load_data
from amsdff_jax.config import DataConfig
from amsdff_jax.data.files import read_file
from amsdff_jax.data.published import _HUB_ID

NAMES = ["neg", "pos", " neutral"]
SPLITS = {
    "train": {"text": ["a", "b", "c", "d"], "title": ["", "t", "u", "v"], "label": [1, 0, 2, 1]},
    "dev": {"text": ["e"], "title": ["w"], "label": [2]},
    "test": {"text": ["f", "g"], "title": ["x", "y"], "label": [0, 1]},
}


def made(columns, names=NAMES, label="label"):
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    features = {name: datasets.Value("string") for name in columns}
    kind = datasets.ClassLabel(names=names)
    features[label] = datasets.Sequence(kind) if isinstance(columns[label][0], list) else kind
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


def saved(folder, splits):
    datasets = pytest.importorskip("datasets")
    datasets.DatasetDict(splits).save_to_disk(folder)
    return DataConfig(source="huggingface", dataset=str(folder))


@pytest.fixture
def config(tmp_path):
    return saved(tmp_path / "saved", {name: made(columns) for name, columns in SPLITS.items()})


def changed(config, **changes):
    return DataConfig(**{**config.__dict__, **changes})


def test_splits_columns_and_label_names_are_as_there(config):
    splits = load_data(changed(config, validation_split="dev"))
    assert [split.texts for split in splits] == [["a", "b", "c", "d"], ["e"], ["f", "g"]]
    assert [split.labels.tolist() for split in splits] == [[1, 0, 2, 1], [2], [0, 1]]
    assert splits.train.class_names == ("neg", "pos", "neutral")
    assert splits.train.ids == ["row 0", "row 1", "row 2", "row 3"]
    splits = load_data(changed(config, validation_split="dev", text_features=("title", "text")))
    assert splits.train.texts == ["a", "t b", "u c", "v d"]
    pairs = load_data(changed(config, validation_split="dev", text_pair_feature="title", test_split=""))
    assert (pairs.validation.text_pairs, pairs.test) == (["w"], None)


def test_parquet_keeps_the_names_of_the_classes(tmp_path):
    for number, split in enumerate(SPLITS):
        made(SPLITS[split]).to_parquet(tmp_path / f"part-{number}.parquet")
    config = DataConfig(source="huggingface", test_split="", validation_fraction=0.3, data_dir=str(tmp_path / "cache"))
    for pattern, texts in (("part-1.parquet", "e"), ("part-*.parquet", "abcdefg")):
        config = changed(config, dataset=f"{tmp_path}/{pattern}")
        if len(texts) == 1:
            with pytest.raises(UserError, match=r"part-1\.parquet \(train\): holds a single class"):
                load_data(config)
        else:
            splits = load_data(config)
            assert sorted([*splits.train.texts, *splits.validation.texts]) == list(texts)
            assert splits.train.class_names == ("neg", "pos", "neutral")


def test_a_folder_of_one_split_has_that_alone(tmp_path):
    made(SPLITS["train"]).save_to_disk(tmp_path / "saved")
    config = DataConfig(source="huggingface", dataset=str(tmp_path / "saved"), validation_fraction=0.3)
    with pytest.raises(UserError, match=r"data\.test_split: .* no split 'test', only train"):
        load_data(config)
    assert len(load_data(changed(config, test_split="")).train) == 3


def test_a_folder_of_parquet_has_the_splits_that_its_names_say(tmp_path):
    (tmp_path / "parts").mkdir()
    for name in ("train", "test"):
        made(SPLITS[name]).to_parquet(tmp_path / "parts" / f"{name}-00000-of-00001.parquet")
    config = DataConfig(source="huggingface", dataset=str(tmp_path / "parts"), data_dir=str(tmp_path / "cache"))
    splits = load_data(changed(config, validation_fraction=0.3))
    assert (len(splits.train), splits.test.texts) == (3, SPLITS["test"]["text"])


def test_a_split_without_labels_is_refused_by_its_name(tmp_path):
    hidden = {**SPLITS["test"], "label": [-1, -1]}
    config = saved(tmp_path / "saved", {"train": made(SPLITS["train"]), "test": made(hidden)})
    with pytest.raises(UserError, match=r"saved \(test\): row 0 has no label \(the split is published without\); use"):
        load_data(config)
    assert load_data(changed(config, test_split="", validation_fraction=0.3)).test is None


def test_splits_that_number_their_classes_otherwise_mean_the_same(tmp_path):
    other = made({**SPLITS["test"], "label": [2, 1]}, names=["neutral", "pos", "neg"])
    config = saved(tmp_path / "saved", {"train": made(SPLITS["train"]), "dev": other})
    train, validation, _ = load_data(changed(config, validation_split="dev", test_split=""))
    assert validation.class_names == train.class_names
    assert [validation.class_names[label] for label in validation.labels] == ["neg", "pos"]


def test_lists_of_labels_are_several_labels(tmp_path):
    lists = made({"text": ["a", "b", "c"], "topics": [[0, 2], [], [1]]}, label="topics")
    config = saved(tmp_path / "saved", {"train": lists, "test": lists})
    splits = load_data(changed(config, label_feature="topics", validation_split="train"))
    assert splits.test.task == "multi_label"
    assert splits.test.labels.tolist() == [[True, False, True], [False] * 3, [False, True, False]]


def test_a_hierarchy_has_more_classes_than_the_class_label(tmp_path):
    nested = made({"text": ["a", "b"], "label": [0, 1]}, names=["rec.sport", "sci"])
    config = changed(saved(tmp_path / "saved", {"train": nested, "test": nested}), label_hierarchy=".")
    splits = load_data(changed(config, validation_split="test"))
    assert splits.train.class_names == splits.test.class_names == ("rec", "rec.sport", "sci")


def test_labels_that_are_values_are_read_as_those_of_files(tmp_path):
    datasets = pytest.importorskip("datasets")
    values = datasets.Dataset.from_dict({"text": ["a", "b", "c"], "label": [-1, 10, 9], "x": [1, 0, 1], "y": [0, 0, 1]})
    config = saved(tmp_path / "saved", {"train": values, "test": values})
    splits = load_data(changed(config, validation_split="test"))
    assert (splits.train.class_names, splits.train.labels.tolist()) == (("-1", "9", "10"), [0, 2, 1])
    several = load_data(changed(config, validation_split="test", label_columns="x,y")).train
    assert several.labels.tolist() == [[True, False], [False, False], [True, True]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text_features": ("txet",)}, r"data\.text_features: .* no feature 'txet', only .*; did you mean text\?"),
        ({"text_pair_feature": "x"}, r"data\.text_pair_feature: .* no feature 'x'"),
        ({"label_feature": "lable"}, r"data\.label_feature: .* no feature 'lable'.*did you mean label\?"),
        ({"label_columns": "a,b"}, r"data\.label_columns: .* no feature"),
        (
            {"validation_split": "validation"},
            r"data\.validation_split: .* no split 'validation', only train, dev, t",
        ),
        ({"dataset": ""}, r"data\.dataset: not given"),
        ({"dataset": "no::id"}, r"data\.dataset: 'no::id' could not be read \(ValueError: expected the id of a data"),
    ],
)
def test_what_is_not_there_is_one_line(config, changes, message):
    with pytest.raises(UserError, match=message) as caught:
        load_data(changed(config, **changes))
    assert "\n" not in str(caught.value)


def test_a_damaged_folder_is_one_line(config, tmp_path):
    (data,) = (tmp_path / "saved" / "train").glob("*.arrow")
    data.write_bytes(data.read_bytes()[:40])
    with pytest.raises(UserError, match=r"data\.dataset: .*saved' could not be read \(\w+: "):
        load_data(config)
    with pytest.raises(UserError, match=r"saved: a dataset that .* save_to_disk wrote; read it with data\.source=hugg"):
        read_file(str(tmp_path / "saved"), DataConfig())


def test_without_the_library_the_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"data\.source=huggingface: needs the library datasets, .*pip install"):
        load_data(DataConfig(source="huggingface", dataset="ag_news"))


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("ag_news", ("ag_news", None, None)),
        ("nyu-mll/glue:sst2", ("nyu-mll/glue", "sst2", None)),
        ("org/name@main", ("org/name", None, "main")),
        ("org/name:plain text@refs/pr/1", ("org/name", "plain text", "refs/pr/1")),
    ],
)
def test_a_hub_id_may_name_configuration_and_revision(name, parts):
    found = _HUB_ID.fullmatch(name)
    assert (found["id"], found["config"], found["revision"]) == parts
