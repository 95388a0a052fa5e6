"""The order of classes: of numbers by size, of names as the settings give it."""

import pytest

from amsdff_jax import Config, TextDataset, UserError, load_data
from amsdff_jax.config import DataConfig
from amsdff_jax.data.files import read_file
from tests.conftest import write_json_lines

STARS = [("a", 10), ("b", 2), ("c", 9), ("d", 2)]
WORDS = [("a", "good"), ("b", "bad"), ("c", "fair"), ("d", "good")]


def test_numbers_have_the_order_of_their_size(tmp_path):
    data = read_file(write_json_lines(tmp_path / "x.jsonl", STARS), DataConfig(), task="ordinal")
    assert data.class_names == ("2", "9", "10") and data.labels.tolist() == [2, 0, 1, 0]
    halves = write_json_lines(tmp_path / "y.jsonl", [("a", 0.5), ("b", -1), ("c", 3.0)])
    assert read_file(halves, DataConfig(), task="ordinal").class_names == ("-1", "0.5", "3")


def test_names_have_the_order_that_is_given(tmp_path):
    file = write_json_lines(tmp_path / "x.jsonl", WORDS)
    config = DataConfig(label_order="bad,fair,good,best")
    for task in ("ordinal", "single"):
        data = read_file(file, config, task=task)
        assert data.class_names == ("bad", "fair", "good", "best") and data.labels.tolist() == [2, 0, 1, 2]
    assert read_file(file, DataConfig(), data.class_names, "ordinal").labels.tolist() == data.labels.tolist()
    assert TextDataset.from_csv(file, label_order="good, fair, bad").class_names == ("good", "fair", "bad")
    for wrong in ("bad, bad", "bad, ,good"):
        with pytest.raises(UserError, match=r"^data\.label_order: expected two or more different names"):
            DataConfig(label_order=wrong)
    stars = write_json_lines(tmp_path / "y.jsonl", STARS)
    given = read_file(stars, DataConfig(label_order="10,9,2.0"), task="ordinal")
    assert given.class_names == ("10", "9", "2.0") and given.labels.tolist() == [0, 2, 1, 2]


@pytest.mark.parametrize(
    ("rows", "settings", "expected"),
    [
        (WORDS, {}, r"x\.jsonl: column 'label' holds bad, fair, good, whose order names do not tell.*label_order=bad"),
        (STARS, {"label_type": "name"}, "column 'label' holds 10, 2, 9, whose order"),
        (
            WORDS,
            {"label_order": "bad,good"},
            r"line 3, column 'label': data\.label_order does not name the label 'fair'",
        ),
        ([("a", ["x"]), ("b", ["y"])], {}, "line 1, column 'label': expected a class name or a number"),
        (WORDS, {"label_separator": "|"}, r"data\.label_separator: expected nothing with task\.kind=ordinal"),
        (
            WORDS,
            {"label_columns": "a,b", "label_order": "b,a"},
            r"data\.label_order: expected nothing beside data\.label_columns",
        ),
        (WORDS, {"label_hierarchy": "."}, r"data\.label_hierarchy: expected nothing with task\.kind=ordinal"),
    ],
)
def test_what_has_no_order_says_so_in_a_line(tmp_path, rows, settings, expected):
    file = write_json_lines(tmp_path / "x.jsonl", rows)
    with pytest.raises(UserError, match=expected) as error:
        read_file(file, DataConfig(text_column="text", **settings), task="ordinal")
    assert "\n" not in str(error.value)


def test_settings_that_fit_no_row_are_told_once(tmp_path):
    file = write_json_lines(tmp_path / "x.jsonl", WORDS)
    with pytest.raises(UserError, match=r"^data\.label_order: expected nothing beside data\.label_columns") as error:
        read_file(file, DataConfig(label_columns="a,b", label_order="b,a"), task="ordinal")
    assert str(error.value).count("label_order: expected") == 1


def test_an_order_goes_with_one_label_a_text(tmp_path):
    for task, rows in (("multi_label", [("a", ["x"]), ("b", ["y"])]), ("regression", [("a", 1.5), ("b", 2)])):
        file = write_json_lines(tmp_path / f"{task}.jsonl", rows)
        with pytest.raises(UserError, match=r"data\.label_order: expected nothing"):
            read_file(file, DataConfig(label_order="x,y"), task=task)
    for wrong in ("one", "a,a", "a,,b"):
        with pytest.raises(UserError, match=r"data\.label_order"):
            DataConfig(label_order=wrong)
    for source in ("bundled", "newsgroups20"):
        with pytest.raises(UserError, match=f"task.kind=ordinal: data.source={source} has classes without an order"):
            load_data(Config.from_dict({"data": {"source": source}}).data, task="ordinal")


def test_a_class_label_has_the_order_of_its_names_unless_another_is_given(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["poor", "fair", "best"])}
    )
    rows = {"text": ["a", "b", "c"], "label": [2, 0, 1]}
    splits = {name: datasets.Dataset.from_dict(rows, features=features) for name in ("train", "test")}
    datasets.DatasetDict(splits).save_to_disk(str(tmp_path / "saved"))
    settings = {"source": "huggingface", "dataset": str(tmp_path / "saved"), "validation_split": "test"}
    for order, labels in (("", [2, 0, 1]), ("best,fair,poor", [0, 2, 1])):
        data = load_data(Config.from_dict({"data": settings | {"label_order": order}}).data, task="ordinal")
        assert data.train.labels.tolist() == data.test.labels.tolist() == labels
        assert data.test.class_names == (tuple(order.split(",")) if order else ("poor", "fair", "best"))
