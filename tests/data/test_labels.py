"""Labels: the same classes from every format, and codes left as they are."""

import json
from decimal import Decimal

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from amsdff_jax import UserError
from amsdff_jax.config import DataConfig
from amsdff_jax.data.files import read_file


def write(path, labels):
    """The labels with texts t0, t1, ...: as they are in Parquet and JSONL, as Python prints them in CSV."""
    texts = [f"t{row}" for row in range(len(labels))]
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.table({"text": texts, "label": labels}), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps({"text": t, "label": v}) + "\n" for t, v in zip(texts, labels, strict=True)))
    else:
        path.write_text("text,label\n" + "".join(f"{t},{v}\n" for t, v in zip(texts, labels, strict=True)))
    return str(path)


@pytest.fixture
def read(tmp_path):
    def run(labels, ending="csv", class_names=(), **settings):
        return read_file(write(tmp_path / f"d.{ending}", labels), DataConfig(**settings), class_names)

    return run


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["1_1", "11", "1_2", "12", "2_0"], ["11", "12", "1_1", "1_2", "2_0"]),
        (["0101", "0102", "1101", "01", "1"], ["01", "0101", "0102", "1", "1101"]),
        (["1", "2", "3", "+1"], ["+1", "1", "2", "3"]),
        (["1", "2", "3", "-0"], ["-0", "1", "2", "3"]),
        (["1", "2", "3", "１", "１１"], ["1", "2", "3", "１", "１１"]),
        (["1", "2", "3", "٣"], ["1", "2", "3", "٣"]),
        (["11", "21", "22", "31-33"], ["11", "21", "22", "31-33"]),
        (["1.10", "1.9", "1.1", "2"], ["1.1", "1.10", "1.9", "2"]),  # digits are ordered as numbers all the same
        (["10.00", "9.50", "9.25"], ["9.25", "9.50", "10.00"]),
        (["1e3", "1000"], ["1000", "1e3"]),
        (["1", "2", ".5"], [".5", "1", "2"]),
    ],
)  # fmt: skip
def test_codes_of_digits_are_names_and_none_is_another(labels, expected, read):
    assert list(read(labels).class_names) == expected
    dataset = read(labels, label_type="name")
    assert [dataset.class_names[index] for index in dataset.labels] == labels


@pytest.mark.parametrize("label_type", ["auto", "name", "integer"])
@pytest.mark.parametrize("label", ["1_1", "011", "+11", "１１", "٠١١", "1e1", "11.5", "11;0"])
def test_an_unknown_code_is_not_taken_for_a_known_class(label, label_type, read):
    with pytest.raises(UserError, match=r"line 2, column 'label': training never saw the label .*, only 10, 11"):
        read([label], class_names=("10", "11"), label_type=label_type)


NUMBERS = {
    "whole": ([1, 0, 10, 9], ["0", "1", "9", "10"]),
    "negative": ([-1, 0, 1], ["-1", "0", "1"]),
    "half": ([0.5, 1, 10, 9.5], ["0.5", "1", "9.5", "10"]),
    "tenths": ([0.1, -0.3, 0.7], ["-0.3", "0.1", "0.7"]),
    "large": ([2**53, 123], ["123", "9007199254740992"]),
}


@pytest.mark.parametrize("case", NUMBERS)
def test_numbers_are_the_same_classes_from_every_format(case, read):
    values, expected = NUMBERS[case]
    floats = list(map(float, values))
    columns = [(labels, ending) for labels in (values, floats) for ending in ("csv", "jsonl")]
    columns += [(pyarrow.array(floats, kind), "parquet") for kind in (pyarrow.float64(), pyarrow.float32())]
    columns += [(pyarrow.array(floats).dictionary_encode(), "parquet")]
    if all(isinstance(value, int) for value in values):
        columns += [
            (pyarrow.array(values), "parquet"),
            (pyarrow.array([Decimal(f"{v}.00") for v in values]), "parquet"),
        ]
    for labels, ending in columns:
        dataset = read(labels, ending)
        assert list(dataset.class_names) == expected
        assert [float(dataset.class_names[index]) for index in dataset.labels] == floats


MIXED = ["0", "1.0", "1", "-0.0", "2.00"]


def test_two_spellings_of_a_number_are_one_class_and_both_are_named(read, caplog):
    dataset = read(MIXED)
    assert (dataset.class_names, dataset.labels.tolist()) == (("0", "1", "2"), [0, 1, 1, 0, 2])
    assert "one class: -0.0 and 0; 1 and 1.0; label_type=name keeps them apart" in caplog.text
    assert read(MIXED, label_type="integer").class_names == ("0", "1", "2")
    assert read(MIXED, label_type="name").class_names == tuple(sorted(MIXED))


@pytest.mark.parametrize(
    ("labels", "class_names"),
    [
        (["1.0", "0.0"], ["0", "1"]),
        ([1.0, 0.0], ["0", "1"]),
        ([1, 0], ["0.0", "1.0"]),  # classes that an earlier version made of such a file
        (["1.0", "0.5"], ["0.5", "1"]),
        (["true", "FALSE"], ["False", "True"]),
        ([True, False], ["false", "true"]),
    ],
)
def test_a_model_knows_its_classes_in_other_formats(labels, class_names, read):
    assert read(labels, "jsonl", class_names=np.array(class_names)).labels.tolist() == [1, 0]
    assert read(labels, "jsonl", class_names=class_names).labels.tolist() == [1, 0]
    assert read(labels[:1], "jsonl", class_names=class_names).labels.tolist() == [1]
    with pytest.raises(UserError, match="training never saw the label"):
        read(labels, "jsonl", class_names=class_names, label_type="name")


@pytest.mark.parametrize(
    ("label", "class_names"),
    [
        ("1.0", ["1", "0101"]),  # codes
        ("1.0", ["1", "1.00"]),  # not the only one
        ("1.0", ["1", "x"]),
        ("1.50", ["1.5", "2"]),
        ("true", ["True", "true ", "False"]),
        ("true", ["True", "maybe"]),
        ("1", ["True", "False"]),
        ("label", ["neg", "pos"]),
    ],
)
def test_what_may_be_another_class_is_not_guessed(label, class_names, read):
    with pytest.raises(UserError, match="training never saw the label") as caught:
        read([label], class_names=class_names)
    assert ("header" in str(caught.value)) == (label == "label")


def test_truth_values_are_the_same_from_every_format(read):
    for ending in ("csv", "jsonl", "parquet"):
        dataset = read([True, False, True], ending)
        assert (dataset.class_names, dataset.labels.tolist()) == (("False", "True"), [1, 0, 1])


def test_names_of_numbers_are_the_same_from_every_format(read):
    for ending in ("csv", "jsonl", "parquet"):
        assert read([0.5, 1.0, 10.0], ending, label_type="name").class_names == ("0.5", "1.0", "10.0")


@pytest.mark.parametrize(
    ("labels", "settings", "message"),
    [
        (["1", "2", "x"], {}, "line 4, .*: 'x' is not a number, as other labels are; fix it, or .*label_type=name"),
        (["0.5", "1.5", "nan"], {}, "line 4, .*: 'nan' is not a number, as other labels are"),
        (["1", "2.5"], {"label_type": "integer"}, r"line 3, .*: '2\.5' is not a whole number such as 1, -2 or 1\.0"),
        (["1", "02"], {"label_type": "integer"}, "line 3, .*: '02' is not a whole number such as"),
        (["1.0", "1"], {}, "holds a single class, '1'"),
        (["1" * 51, "2"], {}, "line 2, .*at most 50 digits, got '1+...1+'; is this the column of the labels"),
        (["x" * 1001, "2"], {}, "line 2, .*at most 1,000 characters or a number .*, got 'x+...x+'"),
    ],
)  # fmt: skip
def test_labels_of_mixed_kinds_are_told(labels, settings, message, read):
    with pytest.raises(UserError, match=message) as caught:
        read(labels, **settings)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "value", ["1e300", "1" + "0" * 4000, "NaN", "-Infinity", "null", '{"a": 1}', '" \\t"', "[" * 900 + "]" * 900]
)
def test_values_that_are_no_label_are_told_in_short(value, tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_text(f'{{"text": "a", "label": {value}}}\n')
    with pytest.raises(UserError, match="line 1, column 'label': expected a class name") as caught:
        read_file(str(path), DataConfig())
    assert len(str(caught.value)) < 300 + len(str(path))
