"""Datasets of Hugging Face's library `datasets`; those of TFDS are in `test_sources`."""

import random
import sys

import pytest

from amsdff_jax import UserError, load_data
from amsdff_jax.config import DataConfig
from amsdff_jax.data import published
from amsdff_jax.data.files import read_file
from amsdff_jax.data.published import _HUB_ID
from amsdff_jax.data.token_cache import tokenize_once
from amsdff_jax.data.tokenization import load_tokenizer
from tests.data.stored_files import LETTERS, assert_same, store_soon

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


def rows(number, seed=0):
    choice = random.Random(seed)
    texts = [" ".join([*choice.choices(LETTERS, k=choice.randint(1, 3)), str(row)]) for row in range(number)]
    return {"text": texts, "title": texts[::-1], "label": [row % 7 % 3 for row in range(number)]}


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A folder with the same dataset twice: `saved` to disk in shards, and as `parts` of Parquet."""
    datasets, folder = pytest.importorskip("datasets"), tmp_path_factory.mktemp("large")
    splits = datasets.DatasetDict({name: made(rows(number)) for name, number in (("train", 127), ("test", 23))})
    splits.save_to_disk(folder / "saved", num_shards={"train": 3, "test": 1})
    (folder / "parts").mkdir()
    for name, split in splits.items():
        split.to_parquet(folder / "parts" / f"{name}-0.parquet")
    return folder


SLICES = [
    *("train", "train[:]", "train[:10]", "train[10%:20%]", "train[:5]+train[-5:]", "train[-90:-7]", "test+train[100:]"),
    *("train[:0%]+train[10%:]", "train[33%:66%](pct1_dropremainder)", "train[-1%:]+train[:1_0]", "train[9:3]+test"),
    *(f"train[{first}%:]+train[:{last}]" for first, last in zip(range(-71, 99, 19), range(126, 0, -17), strict=False)),
]


@pytest.mark.parametrize("spec", SLICES)
def test_slices_are_those_of_the_library(large, spec):
    datasets = pytest.importorskip("datasets")
    cache = str(large / "cache")  # of this test alone, as a hub's would be
    expected = datasets.load_dataset(str(large / "parts"), split=spec, cache_dir=cache)
    settings = {"source": "huggingface", "train_split": spec, "validation_split": "train", "test_split": ""}
    for dataset in ("saved", "parts", "parts/train-*.parquet")[: 2 if "test" in spec else 3]:
        found = load_data(DataConfig(**settings, dataset=f"{large}/{dataset}", data_dir=cache)).train
        assert found.texts == list(expected["text"])
        assert [NAMES[label].strip() for label in expected["label"]] == [found.class_names[n] for n in found.labels]


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("train[:128]", "train has 127 rows"), ("train[-128:]", "train has 127 rows"),
        ("train[:3]+test[24:]", "test has 23 rows"), ("train[5:5]", "it holds no rows"),
        ("train[10%:20]", "percent and rows in one slice; expected one of them"),
        ("train[:10", "Unrecognized instruction format: train[:10"), ("train[1:2:3]", "Unrecognized instruc"),
        ("train[_:]", "invalid literal for int() with base 10: '_'"), ("train[:200%]", "Percent slice boundaries must"),
        ("trian[:5]", ""), ("train+tset", ""), ("train[:3](closest)", "It is forbidden to specify rounding if not"),
    ],
)  # fmt: skip
def test_a_slice_that_there_is_not_is_one_line_with_the_splits_that_there_are(large, spec, reason):
    config = DataConfig(source="huggingface", dataset=f"{large}/saved", validation_split=spec, test_split="")
    with pytest.raises(UserError) as caught:
        load_data(config)
    line = f"data.validation_split: {large}/saved has no split {spec!r}, only train, test"
    assert str(caught.value).startswith(f"{line} ({reason}" if reason else line)
    assert "\n" not in str(caught.value)


def test_stored_datasets_are_those_in_memory_and_found_again(large, tiny_encoder, tmp_path, monkeypatch):
    monkeypatch.setenv("AMSDFF_CACHE", str(tmp_path / "cache"))
    tokenizer = load_tokenizer(tiny_encoder)
    config = DataConfig(source="huggingface", dataset=f"{large}/saved", validation_split="test", test_split="train[9:]")
    variants = [
        config,
        changed(config, train_split="train[:60]+train[-60:]", text_features=("title", "text")),
        changed(config, train_split="train[:60]+train[-61:-1]", text_pair_feature="title"),
        changed(config, train_split="train[:-7]", label_order="neutral,neg,pos"),
        changed(config, dataset=f"{large}/parts", data_dir=str(large / "cache")),
    ]
    for variant in variants:
        lists = load_data(variant)
        with monkeypatch.context() as patch:
            store_soon(patch.setattr)
            stored = load_data(variant)
            patch.setattr(published, "_rows", lambda *_: pytest.fail("read again"))
            again = load_data(changed(variant, validation_split="", validation_fraction=0.5))
        for name in ("train", "test"):  # the other is small enough for memory
            assert_same(getattr(lists, name), getattr(stored, name))
            tokens = [tokenize_once(getattr(each, name), tokenizer, 9).fingerprint for each in (lists, stored)]
            assert tokens[0] == tokens[1]
        assert_same(lists.test, again.test)
        assert sorted([*again.train.texts, *again.validation.texts]) == sorted(lists.train.texts)


def test_a_dataset_that_has_changed_is_read_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("AMSDFF_CACHE", str(tmp_path / "cache"))
    store_soon(monkeypatch.setattr)
    config = changed(saved(tmp_path / "saved", {"train": made(rows(101))}), validation_split="train", test_split="")
    assert load_data(config).train.class_names == ("neg", "pos", "neutral")
    info = tmp_path / "saved" / "train" / "dataset_info.json"
    info.write_text(info.read_text().replace("pos", "good"))
    assert load_data(config).train.class_names == ("neg", "good", "neutral")
    saved(tmp_path / "saved", {"train": made(rows(101, seed=3))})
    assert list(load_data(config).train.texts) == rows(101, seed=3)["text"]


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


def test_numbers_may_be_values_or_the_names_of_classes(tmp_path):
    datasets = pytest.importorskip("datasets")
    stars = made({"text": ["a", "b", "c"], "label": [0, 2, 1]}, names=["1", "2", "3"])
    values = datasets.Dataset.from_dict({"text": ["a", "b", "c"], "label": [1.0, 3.0, 2.0]})
    for name, split in (("stars", stars), ("values", values)):
        config = changed(saved(tmp_path / name, {"train": split, "test": split}), validation_split="test")
        assert load_data(config, task="regression").test.labels.tolist() == [1, 3, 2]
    hidden = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [-1.0, -1.0]})
    config = saved(tmp_path / "hidden", {"train": values, "test": hidden})
    with pytest.raises(
        UserError, match=r"hidden \(test\): every label is -1 \(the split is published without\); use an"
    ):
        load_data(changed(config, validation_split="train"), task="regression")


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
