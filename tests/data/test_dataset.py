"""Datasets in memory: whatever is taken for texts and labels, and one line for the rest."""

from decimal import Decimal

import jax.numpy as jnp
import numpy as np
import pyarrow
import pytest

from amsdff_jax import UserError
from amsdff_jax.data.dataset import TextDataset, by_class, stratified_split
from amsdff_jax.data.folds import stratified_folds


class Column:
    """As a column of a data frame after a shuffle: `[0]` is what is labelled 0, wherever it stands."""

    def __init__(self, values, order):
        self._values = dict(zip(order, values, strict=True))

    def __len__(self):
        return len(self._values)

    def __iter__(self):
        return iter(self._values.values())

    def __getitem__(self, label):
        return self._values[label]

    def __array__(self, dtype=None, copy=None):
        return np.array(list(self), dtype)


@pytest.mark.parametrize("first", [0, 7])
def test_columns_of_a_shuffled_frame_are_taken_by_position(first):
    order = np.random.default_rng(0).permutation(41) + first
    labels = [number % 2 for number in order]
    columns = [Column([f"{what}{number}" for number in order], order) for what in ("text", "pair", "id")]
    dataset = TextDataset(columns[0], Column(labels, order), ("even", "odd"), columns[1], columns[2])
    parts = [dataset, *stratified_split(dataset, 0.3, seed=1), *stratified_folds(dataset, 3, seed=1)[0]]
    for part in (*parts, parts[1].join(parts[2])):
        numbers = [int(text.removeprefix("text")) for text in part.texts]
        assert [number % 2 for number in numbers] == part.labels.tolist()
        assert list(part.text_pairs) == [f"pair{number}" for number in numbers]
        assert list(part.ids) == [f"id{number}" for number in numbers]


@pytest.mark.parametrize(
    "labels",
    [
        [0, 1, 1], (0, 1, 1), np.array([0, 1, 1], np.uint8), np.array([0, 1, 1], object), jnp.array([0, 1, 1]),
        [np.int64(0), np.int16(1), jnp.int32(1)], [False, True, True], np.array([False, True, True]),
        [0.0, 1.0, np.float32(1)], np.array([0.0, 1.0, 1.0]), iter([0, 1, 1]),
        ["neg", "pos", "pos"], np.array(["neg", "pos", "pos"]), np.array(["neg", "pos", "pos"], object),
    ],
)  # fmt: skip
def test_labels_are_indices_or_class_names(labels):
    dataset = TextDataset(["a", "b", "c"], labels, ("neg", "pos"))
    assert dataset.labels.tolist() == [0, 1, 1]
    assert dataset.labels.dtype == np.int32


def test_names_of_digits_are_names_not_indices():
    assert TextDataset(["a", "b"], ["1", "0"], ("1", "0")).labels.tolist() == [0, 1]
    assert TextDataset(["a", "b"], [1, 0], ("1", "0")).labels.tolist() == [1, 0]


DEEP = eval("[" * 60 + "]" * 60)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"texts": [], "labels": []}, "holds no text"),
        ({"texts": None}, "texts: expected a list, got None"),
        ({"texts": "ab"}, "texts: expected a list, got 'ab'"),
        ({"texts": {"a": 1, "b": 2}}, "texts: expected a list, got "),
        ({"texts": {"a", "b"}}, "texts: expected a list, got "),
        ({"texts": ["a", None]}, r"texts\[1\]: expected a string, got None"),
        ({"texts": ["a", float("nan")]}, r"texts\[1\]: expected a string, got nan"),
        ({"texts": [b"a", "b"]}, r"texts\[0\]: expected a string, got b'a'"),
        ({"texts": np.array([["a", "b"], ["c", "d"]])}, r"texts\[0\]: expected a string, got \['a', 'b'\]"),
        ({"texts": ["a", DEEP]}, r"texts\[1\]: expected a string, got \[\[\[\[\.\.\."),
        ({"labels": [0]}, "1 labels for 2 texts"),
        ({"labels": None}, "labels: expected a list, got None"),
        ({"labels": 1}, "labels: expected a list, got 1"),
        ({"labels": [0, 2]}, r"labels\[1\]: expected 0 to 1, or one of the classes neg, pos, got 2$"),
        ({"labels": [0, -1]}, r"labels\[1\]: .* got -1"),
        ({"labels": np.array([0, 2**32 + 1])}, r"labels\[1\]: .* got 4294967297"),
        ({"labels": np.array([2**64 - 1, 0], np.uint64)}, r"labels\[0\]: .* got 18446744073709551615"),
        ({"labels": [0, 10**400]}, r"labels\[1\]: .* got 1000+\.\.\.0+$"),
        ({"labels": [0.5, 1.7]}, r"labels\[0\]: .* got 0\.5"),
        ({"labels": [0, float("nan")]}, r"labels\[1\]: .* got nan"),
        ({"labels": [0, float("inf")]}, r"labels\[1\]: .* got inf"),
        ({"labels": [0, None]}, r"labels\[1\]: .* got None"),
        ({"labels": [0, Decimal(1)]}, r"labels\[1\]: .* got Decimal"),
        ({"labels": ["neg", "poss"]}, r"labels\[1\]: .* got 'poss'; did you mean pos\?"),
        ({"labels": ["0", "1"]}, r"labels\[0\]: .* got '0'"),
        ({"labels": ["neg", 1j]}, r"labels\[1\]: .* got 1j"),
        ({"labels": [[0, 1], [1, 0]]}, r"labels\[0\]: .* got \[0, 1\]"),
        ({"labels": np.eye(2) * 2}, r"labels\[0\]\[0\]: expected 1 where .* got 2\.0"),
        ({"labels": np.eye(3)[:2]}, "labels: expected a column for each of the 2 classes, got 3"),
        ({"labels": [["neg"], "pos"]}, r"labels\[1\]: expected a list of names .* got 'pos'"),
        ({"labels": [["neg"], ["poss"]]}, r"labels\[1\]: .* got 'poss'; did you mean pos\?"),
        ({"labels": [[0], [1, 1]]}, r"labels\[0\]: .* got \[0\]"),
        ({"class_names": ("x", "x")}, "class_names: expected different names, got 'x' more than once"),
        ({"class_names": "ab"}, "class_names: expected a list, got 'ab'"),
        ({"class_names": ("x", None)}, r"class_names\[1\]: expected a string of Unicode, got None"),
        ({"class_names": ("x", "\ud83d")}, r"class_names\[1\]: expected a string of Unicode, got '.ud83d'"),
        ({"text_pairs": ["a"]}, "1 text_pairs for 2 texts"),
        ({"text_pairs": ["a", None]}, r"text_pairs\[1\]: expected a string, got None"),
        ({"ids": ["a", "b", "c"]}, "3 ids for 2 texts"),
        ({"ids": 7}, "ids: expected a list, got 7"),
    ],
)  # fmt: skip
def test_what_is_no_dataset_is_one_line_with_the_row(fields, message):
    with pytest.raises(UserError, match="^mine: " + message) as caught:
        TextDataset(**{"texts": ["a", "b"], "labels": [0, 1], "class_names": ("neg", "pos"), "name": "mine"} | fields)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


class Frame:
    """What data frames of pandas and Polars have in common: names of columns, and a column for a name in brackets."""

    def __init__(self, columns):
        self._columns = {name: Column(values, range(9, 9 - len(values), -1)) for name, values in columns.items()}
        self.columns = iter(columns)

    def __getitem__(self, name):
        return self._columns[name]


class NAType:
    """As pandas' sign of a missing value, which is neither equal to itself nor unequal."""


COLUMNS = {"text": ["a", "b", "c"], "more": ["d", None, "f"], "kind": ["pos", "neg", "pos"], "stars": [10, 9, 10]}


@pytest.mark.parametrize(
    "table", [COLUMNS, {name: np.array(values, object) for name, values in COLUMNS.items()}, pyarrow.table(COLUMNS)]
)
def test_tables_in_memory_are_read_as_files_are(table, tmp_path):
    dataset = TextDataset.from_pandas(table, ["text", "more"], "kind", text_pair="text")
    assert (dataset.texts, dataset.text_pairs, dataset.class_names) == (
        ["a d", "b", "c f"],
        list("abc"),
        ("neg", "pos"),
    )
    assert dataset.labels.tolist() == [1, 0, 1]
    assert dataset.ids == ["row 0", "row 1", "row 2"]
    numbers = TextDataset.from_dict(table, label="stars", name="mine")
    assert (numbers.class_names, numbers.labels.tolist(), numbers.name) == (("9", "10"), [1, 0, 1], "mine")
    part = TextDataset.from_dict({"text": ["x"], "label": ["pos"]}, class_names=dataset.class_names)
    assert part.labels.tolist() == [1]
    path = tmp_path / "d.csv"
    path.write_text("text;more;kind;stars\na;d;pos;10\nb;;neg;9\nc;f;pos;10\n")
    file = TextDataset.from_csv(path, ["text", "more"], "kind", text_pair="text", delimiter=";")
    assert file.fingerprint == dataset.fingerprint
    assert (file.class_names, file.ids) == (dataset.class_names, ["line 2", "line 3", "line 4"])


def test_rows_of_a_frame_are_counted_whatever_its_index():
    dataset = TextDataset.from_pandas(Frame({"text": ["a", "b", "c"], "label": ["x", "y", "x"], "other": [1, 2, 3]}))
    assert (dataset.texts, dataset.labels.tolist()) == (["a", "b", "c"], [0, 1, 0])
    scalars = {"text": ["a", "b", "c"], "label": [np.int64(3), np.float32(4), True]}
    assert TextDataset.from_dict(scalars, label_type="name").class_names == ("3", "4.0", "True")


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"label": ["x", None, "y"]}, {}, r"row 1, column 'label': expected a class name or a number, got None"),
        ({"label": ["x", NAType(), "y"]}, {}, r"row 1, column 'label': expected a class name or a number, got None"),
        ({"label": [0.0, float("nan"), 1.0]}, {}, r"row 1, column 'label': .* got nan"),
        ({"label": ["x"] * 3}, {}, "column 'label' holds a single class, 'x'"),
        ({"label": ["1", "2", "x"]}, {}, r"row 2, column 'label': 'x' is not a number, .* or set label_type=name$"),
        ({"label": ["x", "y", "z"]}, {"class_names": ("x", "y")}, r"row 2, column 'label': .* never saw the label 'z'"),
        ({"text": ["a", 3, "c"]}, {}, r"row 1, column 'text': expected a text, got 3"),
        ({"text": ["a", 3, None]}, {}, r"2 of 3 rows cannot be read, the first of them: \(1\) row 1, column 'text'"),
        ({"text": ["a"]}, {}, r"column 'label' has 3 values, but column 'text' has 1"),
        ({"text": "abc"}, {}, r"column 'text': expected a list, got 'abc'"),
        ({"text": [], "label": []}, {}, "holds no rows"),
        ({}, {"text": "txet"}, r"no column 'txet', only 'text', 'label'; did you mean text\?"),
        ({}, {"text": ["text", "labl"]}, r"no column 'labl', only 'text', 'label'; did you mean label\?"),
    ],
)
def test_what_is_wrong_with_a_table_names_row_and_column(columns, options, message):
    with pytest.raises(UserError, match="^mine: " + message) as caught:
        TextDataset.from_dict({"text": ["a", "b", "c"], "label": ["x", "y", "x"]} | columns, name="mine", **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TextDataset.from_pandas(["a"]), r"data: expected a dict of columns or a data frame, got \['a'\]"),
        (lambda: TextDataset.from_dict(COLUMNS, text=0), "columns: expected a list, got 0"),
        (lambda: TextDataset.from_dict(COLUMNS, text=[0]), "column: expected its name, a string, got 0"),
        (lambda: TextDataset.from_dict(COLUMNS, text=[]), "data.text_column: expected the name of a column"),
        (lambda: TextDataset.from_dict(COLUMNS, label=0), "label_column: expected a string, got 0"),
        (lambda: TextDataset.from_csv("d.csv", delimeter=";"), r"delimeter: no such field; did you mean delimiter\?"),
        (lambda: TextDataset.from_csv("/no/d.csv"), "/no/d.csv: cannot be read"),
    ],
)
def test_a_wrong_argument_is_one_line(make, message):
    with pytest.raises(UserError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_take_by_mask_and_by_index():
    dataset = TextDataset(["a", "b", "c"], [0, 1, 0], ("x", "y"))
    assert dataset.take(np.array([True, False, True]), "part").texts == ["a", "c"]
    assert dataset.take([True, True, True], "part").texts == ["a", "b", "c"]
    assert dataset.take([2, 0], "part").ids == ["2", "0"]


def test_only_what_is_alike_is_joined():
    one = TextDataset(["a"], [0], ("x", "y"))
    assert one.join(one).texts == ["a", "a"]
    for other in (TextDataset(["b"], [0], ("y", "x")), TextDataset(["b"], [0], ("x", "y"), ["c"])):
        with pytest.raises(UserError):
            one.join(other)


def test_names_for_the_log_are_printable_and_few():
    assert by_class(("neg", "a\x1b[31m"), [1, 2.5]) == r"neg 1, a\x1b[31m 2.5"
    assert by_class([f"c{number}" for number in range(30)], range(30)).endswith("c19 19 and 10 more")


def test_stratified_split_keeps_shares_and_singletons():
    labels = np.array([0] * 61 + [1] * 30 + [2] * 8 + [3])
    dataset = TextDataset([f"t{i}" for i in range(100)], labels, ("a", "b", "c", "d"))
    rest, part = stratified_split(dataset, 0.1, seed=1)
    assert np.bincount(part.labels, minlength=4).tolist() == [6, 3, 1, 0]
    assert sorted([*rest.texts, *part.texts]) == sorted(dataset.texts)
    again = stratified_split(dataset, 0.1, seed=1)[1]
    other = stratified_split(dataset, 0.1, seed=2)[1]
    assert part.texts == again.texts != other.texts


@pytest.mark.parametrize(("number", "fraction", "taken"), [(12, 0.4, 5), (10, 0.1, 1), (3, 0.5, 2), (200, 0.1, 20)])
def test_a_split_of_numbers_is_as_large_as_asked_for(number, fraction, taken):
    dataset = TextDataset([f"t{i}" for i in range(number)], np.arange(number) / 3, ("x",))
    assert len(stratified_split(dataset, fraction, seed=0)[1]) == taken


@pytest.mark.parametrize("number", [20, 50, 60, 150])
def test_a_split_of_few_numbers_has_high_ones_as_well(number):
    dataset = TextDataset([f"t{i}" for i in range(number)], np.arange(number) / 3, ("x",))
    rest, part = stratified_split(dataset, 0.1, seed=0)
    middle = np.median(dataset.labels)
    assert abs(np.count_nonzero(part.labels < middle) - np.count_nonzero(part.labels > middle)) <= 1
    assert len(part) == number // 10 and len(rest) + len(part) == number


def test_split_of_singletons_is_refused():
    dataset = TextDataset(["a", "b"], [0, 1], ("x", "y"))
    with pytest.raises(UserError, match="too few texts"):
        stratified_split(dataset, 0.5, seed=0)


@pytest.mark.parametrize("fraction", [0, 1, 1.5, float("nan")])
def test_a_fraction_is_a_share(fraction):
    with pytest.raises(UserError, match="fraction: expected between 0 and 1"):
        stratified_split(TextDataset(["a", "b"], [0, 1], ("x", "y")), fraction, seed=0)
