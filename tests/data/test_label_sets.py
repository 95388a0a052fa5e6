"""Several labels a text: the same from every form in which files and tables have them."""

import json

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from amsdff_jax import TextDataset, UserError
from amsdff_jax.config import DataConfig
from amsdff_jax.data.files import read_file
from amsdff_jax.data.sources import load_data

LABELS = [["b", "a"], [], ["c"], ["a"]]
NAMES = ("a", "b", "c")
EXPECTED = [[1, 1, 0], [0, 0, 0], [0, 0, 1], [1, 0, 0]]
TEXTS = ["t0", "t1", "t2", "t3"]


def write_lines(path, labels):
    rows = (json.dumps({"text": f"t{row}", "label": label}) for row, label in enumerate(labels))
    path.write_text("\n".join(rows))
    return str(path)


def write_csv(path, header, *rows):
    path.write_text("\n".join([header, *rows]) + "\n")
    return str(path)


def test_every_form_gives_the_same(tmp_path):
    pyarrow.parquet.write_table(pyarrow.table({"text": TEXTS, "label": LABELS}), tmp_path / "d.parquet")
    columns = write_csv(
        tmp_path / "columns.csv", "text,c,a,b", "t0,0,1,true", "t1,0,0,0", "t2,1,0,0", "t3,0.0,1.0,False"
    )
    datasets = [
        read_file(write_lines(tmp_path / "d.jsonl", LABELS), DataConfig()),
        read_file(str(tmp_path / "d.parquet"), DataConfig()),
        read_file(
            write_csv(tmp_path / "d.csv", "text,label", "t0,b | a", "t1,", "t2,c", "t3,a"),
            DataConfig(label_separator="|"),
        ),
        read_file(columns, DataConfig(label_columns="a,b,c")),
        TextDataset.from_dict({"text": TEXTS, "label": LABELS}),
        TextDataset.from_csv(columns, label=["a", "b", "c"]),
        TextDataset(TEXTS, LABELS, NAMES),
        TextDataset(TEXTS, np.array(EXPECTED), NAMES),
    ]
    for dataset in datasets:
        assert (dataset.task, dataset.class_names) == ("multi_label", NAMES)
        assert dataset.labels.dtype == bool and dataset.labels.tolist() == np.array(EXPECTED, bool).tolist()
        assert dataset.class_counts.tolist() == [2, 1, 1]
        assert dataset.take(np.array([2, 0]), "part").labels.tolist() == dataset.labels[[2, 0]].tolist()
        assert len({other.fingerprint for other in datasets}) == 1


def test_names_alone_are_label_sets_where_the_task_says_so(tmp_path):
    path = write_lines(tmp_path / "d.jsonl", ["x", "y", "x"])
    assert read_file(path, DataConfig(), task="multi_label").labels.tolist() == [[1, 0], [0, 1], [1, 0]]
    assert read_file(path, DataConfig()).labels.tolist() == [0, 1, 0]
    with pytest.raises(UserError, match=r"task\.kind=multi_label: data\.source=bundled has one label a text"):
        load_data(DataConfig(source="bundled"), task="multi_label")


def test_a_hierarchy_gives_what_a_name_lies_under(tmp_path):
    path = write_lines(tmp_path / "d.jsonl", [["rec.sport.hockey"], ["sci", "rec.autos"], []])
    dataset = read_file(path, DataConfig(label_hierarchy="."))
    assert dataset.class_names == ("rec", "rec.autos", "rec.sport", "rec.sport.hockey", "sci")
    assert dataset.labels.tolist() == [[1, 0, 1, 1, 0], [1, 1, 0, 0, 1], [0, 0, 0, 0, 0]]
    one = write_lines(tmp_path / "one.jsonl", ["rec.autos", "sci"])
    assert read_file(one, DataConfig(label_hierarchy=".")).labels.tolist() == [[1, 1, 0], [0, 0, 1]]


def test_parts_of_a_hierarchy_are_names_though_they_look_like_numbers(tmp_path):
    path = write_lines(tmp_path / "d.jsonl", [["1.0"], ["1.1", "2.0"], ["1"]])
    dataset = read_file(path, DataConfig(label_hierarchy="."))
    assert dataset.class_names == ("1", "1.0", "1.1", "2", "2.0")
    assert dataset.labels.tolist() == [[1, 1, 0, 0, 0], [1, 0, 1, 1, 1], [1, 0, 0, 0, 0]]
    assert read_file(path, DataConfig(label_hierarchy="."), dataset.class_names, "multi_label").labels.sum() == 7


def test_columns_of_zeros_and_ones_are_read_alike_before_and_after_the_task_is_known(tmp_path):
    path = write_csv(tmp_path / "d.csv", "text,a,b", "t,1.00,0.00", "u,0,1.0", "v,0.00,0.0")
    first = read_file(path, DataConfig(label_columns="a,b"))
    again = read_file(path, DataConfig(label_columns="a,b"), first.class_names, first.task)
    assert first.labels.tolist() == again.labels.tolist() == [[1, 0], [0, 1], [0, 0]]
    path = write_csv(tmp_path / "d.csv", "text,a,b", "t,0.5,0.5")
    with pytest.raises(UserError, match=r"expected 1 where the text has the label, else 0, got '0\.5'"):
        read_file(path, DataConfig(label_columns="a,b"), ("a", "b"), "multi_label")


def test_a_missing_value_between_separators_is_no_label(tmp_path):
    path = write_lines(tmp_path / "d.jsonl", ["a|b", None, ""])
    assert read_file(path, DataConfig(label_separator="|")).labels.tolist() == [[1, 1], [0, 0], [0, 0]]


def test_separators_around_a_name_make_no_class_without_one(tmp_path):
    path = write_lines(tmp_path / "d.jsonl", [["/arts/music", "news/"], ["arts / music"]])
    dataset = read_file(path, DataConfig(label_hierarchy="/"))
    assert dataset.class_names == ("arts", "arts/music", "news")
    assert dataset.labels.tolist() == [[1, 1, 1], [1, 1, 0]]
    for name in ("a//b", "/"):
        path = write_lines(tmp_path / "d.jsonl", [["a"], [name]])
        with pytest.raises(UserError, match=f"line 2, column 'label': label_hierarchy: expected .* got '{name}'"):
            read_file(path, DataConfig(label_hierarchy="/"))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([["a"], "b"], "line 2, column 'label': expected a list of labels, as in other rows, got 'b'"),
        ([["a"], None], "line 2, column 'label': expected a list of labels, as in other rows, got None"),
        ([["a"], ["b", None]], "line 2, column 'label': expected a class name or a number, got None"),
        ([["a"], ["b", [1]]], r"line 2, column 'label': expected a class name or a number, got \[1\]"),
        (["a", ["b"]], r"line 2, column 'label': expected a class name or a number, got \['b'\]"),
        ([[], []], "column 'label': no row has a label"),
        ([["a"], ["a"]], "column 'label' holds a single class, 'a'"),
    ],
)
def test_what_is_no_label_set_is_one_line_with_its_row(tmp_path, labels, message):
    with pytest.raises(UserError, match=message) as caught:
        read_file(write_lines(tmp_path / "d.jsonl", labels), DataConfig())
    assert "\n" not in str(caught.value) and str(tmp_path / "d.jsonl") in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "rows", "message"),
    [
        ({"label_separator": "|"}, ["t0,a||b"], "line 2, column 'label': expected a class name"),
        ({"label_columns": "label,no"}, ["t0,1"], "no column 'no', only 'text', 'label'"),
        ({"label_columns": "label,text"}, ["1,yes"], "line 2, column 'label': expected 1 where .* got 'yes'"),
        ({"label_columns": "label"}, ["t0,1"], "label_columns: names a single class, label"),
    ],
)
def test_a_table_with_a_wrong_label_is_one_line(tmp_path, settings, rows, message):
    with pytest.raises(UserError, match=message):
        read_file(write_csv(tmp_path / "d.csv", "text,label", *rows), DataConfig(**settings))


def test_a_file_is_read_with_the_classes_and_the_task_of_a_model(tmp_path):
    path = write_lines(tmp_path / "d.jsonl", [["c"], []])
    assert read_file(path, DataConfig(), NAMES, "multi_label").labels.tolist() == [[0, 0, 1], [0, 0, 0]]
    with pytest.raises(UserError, match="line 1, column 'label': training never saw the label 'c'"):
        read_file(path, DataConfig(), ("a", "b"), "multi_label")
    found = TextDataset.from_dict({"text": ["t"], "label": [["c", "a"]]}, class_names=NAMES)
    assert found.labels.tolist() == [[1, 0, 1]]
    with pytest.raises(UserError, match="label_columns: expected a column for each of the classes a, b, c, got a, b"):
        read_file(write_csv(tmp_path / "d.csv", "text,a,b", "t,1,0"), DataConfig(label_columns="a,b"), NAMES)
    with pytest.raises(UserError, match=r"data\.label_separator: expected nothing beside data\.label_columns"):
        DataConfig(label_columns="a,b", label_separator="|")


def test_other_tasks_are_not_joined():
    one, several = TextDataset(["t"], [0], NAMES), TextDataset(["t"], [["a"]], NAMES)
    with pytest.raises(UserError, match="has any number of labels a text, but data one label a text"):
        one.join(several)
    assert several.join(several).labels.tolist() == [[1, 0, 0], [1, 0, 0]]
