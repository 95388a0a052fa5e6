"""Labels that are not certain: probabilities in columns and arrays, and the votes of several raters."""

import dataclasses
import json

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from amsdff_jax import TextDataset, UserError, load_data
from amsdff_jax.config import DataConfig
from amsdff_jax.data.batches import FILLER, PlannedBatch, make_batch
from amsdff_jax.data.dataset import stratified_split
from amsdff_jax.data.files import read_file
from amsdff_jax.data.folds import stratified_folds
from amsdff_jax.data.tokens import TokenizedDataset

NAMES = ("b", "a", "c")
TEXTS = ["t0", "t1", "t2", "t3"]
EXPECTED = np.array([[0.25, 0.25, 0.5], [1, 0, 0], [0.4, 0.4, 0.2], [0.333, 0.333, 0.333]], np.float32)
CLASSES = [2, 0, 0, 0]  # of equals the first
COLUMNS = DataConfig(label_columns="b,a,c")

RATERS = ("x", "y", "z")
VOTES = [("pos", "neg", "pos"), ("neg", "", "neg"), ("", "neu", "pos"), ("neu", "", "")]
VOTED = DataConfig(rater_columns="x,y,z")


def write_csv(path, header, *rows):
    path.write_text("\n".join([header, *rows]) + "\n")
    return str(path)


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def columns():
    return {"text": TEXTS} | {name: EXPECTED[:, place].astype(float).tolist() for place, name in enumerate(NAMES)}


def test_probabilities_of_every_form_are_one_label_a_text(tmp_path, columns):
    table = write_csv(tmp_path / "d.csv", "text,c,a,b", "t0,.5,0.25,2.5e-1", "t1,0,0.0,1", "t2,0.2,.4,.4",
                      "t3,.333,.333,.333")  # fmt: skip
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "d.parquet")
    rows = [{name: values[row] for name, values in columns.items()} for row in range(4)]
    datasets = [
        read_file(table, COLUMNS),
        read_file(str(tmp_path / "d.parquet"), COLUMNS),
        read_file(write_lines(tmp_path / "d.jsonl", rows), COLUMNS, task="single"),
        read_file(table, DataConfig(label_columns="a,c,b"), NAMES, "single"),
        TextDataset.from_dict(columns, label=NAMES),
        TextDataset.from_csv(table, label=NAMES),
        TextDataset(TEXTS, EXPECTED, NAMES),
        TextDataset(TEXTS, EXPECTED.astype(np.float64), NAMES),
    ]
    for dataset in datasets:
        assert (dataset.task, dataset.class_names, dataset.labels.dtype) == ("single", NAMES, np.float32)
        np.testing.assert_allclose(dataset.labels, EXPECTED, rtol=1e-6)
        assert dataset.classes.tolist() == CLASSES and dataset.classes.dtype == np.int32
        assert dataset.class_counts.tolist() == [3, 0, 1] and dataset.of_class(2).tolist() == [True, *[False] * 3]
        assert dataset.fingerprint == datasets[0].fingerprint
        np.testing.assert_array_equal(dataset.take([3, 0], "part").labels, dataset.labels[[3, 0]])


def test_zeros_and_ones_alone_stay_several_labels(tmp_path):
    file = write_csv(tmp_path / "d.csv", "text,a,b", "t,1,0", "u,0,1.0")
    for dataset in (
        read_file(file, DataConfig(label_columns="a,b")),
        read_file(file, DataConfig(label_columns="a,b"), ("a", "b")),
        TextDataset.from_csv(file, label=["a", "b"], class_names=("a", "b")),
        TextDataset(["t", "u"], np.eye(2, dtype=np.float32), ("a", "b")),
    ):
        assert dataset.task == "multi_label" and dataset.labels.tolist() == [[True, False], [False, True]]


def test_beside_probabilities_a_file_of_zeros_and_ones_is_certain(tmp_path):
    train = write_csv(tmp_path / "train.csv", "text,a,b", "t,.3,.7", "u,1,0")
    certain = write_csv(tmp_path / "test.csv", "text,b,a", "t,1,0", "u,0,1")
    data = load_data(DataConfig(train_file=train, validation_file=certain, test_file=train, label_columns="a,b"))
    assert data.validation.labels.tolist() == [1, 0] and data.validation.labels.dtype == np.int32
    assert data.test.labels.dtype == np.float32 and {split.task for split in data} == {"single"}
    both = write_csv(tmp_path / "both.csv", "text,a,b", "t,1,0", "u,1,1")
    with pytest.raises(UserError, match=r"both\.csv: line 3, columns a, b: expected .* got a sum of 2$"):
        read_file(both, DataConfig(label_columns="a,b"), ("a", "b"), "single")
    with pytest.raises(UserError, match=r"line 2, column 'a': expected 1 where the text has the label, else 0, got"):
        read_file(train, DataConfig(label_columns="a,b"), ("a", "b"), "multi_label")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["t,.5,.6", "u,1,0"], r"line 2, columns a, b: expected probabilities that add up to 1 .* got a sum of 1\.1$"),
        (["t,.5,.5", "u,.498,.5"], r"line 3, columns a, b: .* got a sum of 0\.998$"),
        (["t,1,1", "u,.5,.5"], r"d\.csv: line 2, columns a, b: .*zeros and ones alone.* got a sum of 2$"),
        (["t,0,0", "u,.5,.5"], r"d\.csv: line 2, columns a, b: .* got a sum of 0$"),
        (["t,1.5,-.5"], r"line 2, column 'a': expected 1 where .* or its probability, got '1\.5'$"),
        (["t,nan,1"], r"line 2, column 'a': .* got 'nan'$"),
        (["t,.5,"], r"line 2, column 'b': .* got ''$"),
        (["t,1_0,0"], r"line 2, column 'a': .* got '1_0'$"),
        (["t,.1,.2", "u,.3,.3"], r"2 of 2 rows cannot be read, the first of them: \(1\) line 2, .* a sum of 0\.3"),
    ],
)
def test_what_is_no_distribution_is_one_line_with_row_and_sum(tmp_path, rows, message):
    with pytest.raises(UserError, match=message) as caught:
        read_file(write_csv(tmp_path / "d.csv", "text,a,b", *rows), DataConfig(label_columns="a,b"))
    assert "\n" not in str(caught.value) and str(tmp_path / "d.csv") in str(caught.value)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([[0.5, 0.5], [0.5, 0.6]], r"labels\[1\]: expected probabilities that add up to 1 .* got a sum of 1\.1$"),
        ([[1.5, -0.5]] * 2, r"labels\[0\]\[0\]: expected 1 where .* or its probability, got 1\.5"),
        ([[0.5, 0.5], [np.nan, 1]], r"labels\[1\]\[0\]: .* got nan"),
    ],
)
def test_what_is_no_array_of_distributions_is_one_line(labels, message):
    with pytest.raises(UserError, match=f"^mine: {message}"):
        TextDataset(["t", "u"], np.array(labels), ("a", "b"), name="mine")


def soft(number=40):
    generator = np.random.default_rng(0)
    labels = generator.dirichlet([0.3, 0.5, 0.2], number)
    labels[::3] = np.eye(3)[generator.integers(0, 3, len(labels[::3]))]
    return TextDataset([f"t{row}" for row in range(number)], labels, NAMES)


def test_splits_and_folds_keep_the_shares_of_the_likeliest_classes():
    dataset = soft()
    by_class = TextDataset(dataset.texts, dataset.classes, NAMES)
    pairs = [(stratified_split(each, 0.25, 1), *stratified_folds(each, 3, 1)) for each in (dataset, by_class)]
    for parts, expected in zip(*pairs, strict=True):
        for part, other in zip(parts, expected, strict=True):
            assert part.texts == other.texts and part.classes.tolist() == other.labels.tolist()


def test_a_part_whose_classes_are_certain_has_classes_and_joins_the_others():
    dataset = soft()
    certain, rest = dataset.take(np.arange(40) % 3 == 0, "certain"), dataset.take(np.arange(40) % 3 > 0, "rest")
    assert certain.task == rest.task == "single" and certain.labels.dtype == np.int32
    assert rest.labels.dtype == np.float32
    for one, other in ((certain, rest), (rest, certain)):
        joined = one.join(other)
        assert joined.labels.dtype == np.float32
        order = [dataset.texts.index(text) for text in joined.texts]
        np.testing.assert_array_equal(joined.labels, dataset.labels[order])
    assert certain.join(certain).labels.dtype == np.int32


def test_a_batch_has_the_distributions_and_nothing_on_filler():
    offsets, labels = np.arange(5), EXPECTED
    tokens = TokenizedDataset(np.arange(4, dtype=np.int32), offsets, labels, np.zeros(4, bool), 0)
    batch = make_batch(tokens, PlannedBatch(8, np.array([2, FILLER, 0])))
    assert batch.labels.dtype == np.float32
    np.testing.assert_array_equal(batch.labels, [labels[2], [0, 0, 0], labels[0]])


@pytest.mark.parametrize("ordered", [False, True])
def test_columns_of_ordered_classes_have_their_order(tmp_path, ordered):
    rows = ("t,0,1", "u,1,0") if ordered else ("t,.1,.9", "u,1,0")
    file = write_csv(tmp_path / "d.csv", "text,low,high", *rows)
    dataset = read_file(file, DataConfig(label_columns="low,high"), task="ordinal")
    assert (dataset.task, dataset.class_names, dataset.classes.tolist()) == ("single", ("low", "high"), [1, 0])


SHARES = np.array([[1 / 3, 0, 2 / 3], [1, 0, 0], [0, 0.5, 0.5], [0, 1, 0]])  # neg, neu, pos
RATINGS = [[2, 0, 2], [0, -1, 0], [-1, 1, 2], [1, -1, -1]]


def test_votes_of_every_form_are_shares(tmp_path):
    named = {name: [row[place] for row in VOTES] for place, name in enumerate(RATERS)}
    missing = {name: [value or None for value in values] for name, values in named.items()}
    table = write_csv(tmp_path / "d.csv", "text,x,y,z", *(f"t{row}, {','.join(VOTES[row])}" for row in range(4)))
    pyarrow.parquet.write_table(pyarrow.table({"text": TEXTS} | missing), tmp_path / "d.parquet")
    lines = [{"text": TEXTS[row]} | {name: missing[name][row] for name in RATERS} for row in range(4)]
    nan = {name: [value or float("nan") for value in values] for name, values in named.items()}
    datasets = [
        read_file(table, VOTED),
        read_file(str(tmp_path / "d.parquet"), VOTED),
        read_file(write_lines(tmp_path / "d.jsonl", lines), VOTED, task="single"),
        read_file(table, VOTED, ("neg", "neu", "pos"), "single"),
        TextDataset.from_dict({"text": TEXTS} | nan, raters=RATERS),
        TextDataset.from_csv(table, raters=RATERS),
    ]
    for dataset in datasets:
        assert (dataset.task, dataset.class_names) == ("single", ("neg", "neu", "pos"))
        np.testing.assert_array_equal(dataset.labels, SHARES.astype(np.float32))
        assert dataset.ratings.tolist() == RATINGS and dataset.classes.tolist() == [2, 0, 1, 1]
        part = dataset.take([2, 0], "part")
        assert part.ratings.tolist() == [RATINGS[2], RATINGS[0]]
        assert dataset.join(part).ratings.tolist() == [*RATINGS, RATINGS[2], RATINGS[0]]
        assert dataset.join(dataclasses.replace(part, ratings=part.ratings[:, :1])).ratings is None


def test_raters_that_agree_give_classes_and_numbers_have_their_order(tmp_path):
    file = write_csv(tmp_path / "d.csv", "text,x,y", "t,10,10.0", "u,,9", "v,2,2")
    for task in ("single", "ordinal"):
        dataset = read_file(file, DataConfig(rater_columns="x,y"), task=task)
        assert dataset.class_names == ("2", "9", "10") and dataset.labels.tolist() == [2, 1, 0]
        assert dataset.labels.dtype == np.int32 and dataset.ratings.tolist() == [[2, 2], [-1, 1], [0, 0]]
    ordered = DataConfig(rater_columns="x,y,z", label_order="neg,neu,pos,best")
    votes = write_csv(tmp_path / "v.csv", "text,x,y,z", *(f"t,{','.join(row)}" for row in VOTES))
    assert read_file(votes, ordered, task="ordinal").class_names == ("neg", "neu", "pos", "best")


@pytest.mark.parametrize(
    ("rows", "settings", "task", "message"),
    [
        (["t,a,b", "u,, "], {}, "", r"d\.csv: line 3, columns x, y: expected a class in one of them, got none$"),
        (["t,a,b", "u,a,c"], {"label_order": "a,b"}, "", "line 3, column 'y': data.label_order does not name .* 'c'"),
        (["t,1,2", "u,1,oops", "v,1,2"], {}, "", "line 3, column 'x,y': 'oops' is not a number"),
        (["t,a,a"], {}, "", "column 'x,y' holds a single class, 'a'"),
        (["t,a,b"], {}, "ordinal", "column 'x,y' holds a, b, whose order names do not tell"),
        (["t,a,b"], {}, "multi_label", r"data\.rater_columns: expected nothing with several labels a text"),
        (["t,1,2"], {}, "regression", r"data\.rater_columns: expected nothing with task\.kind=regression"),
        (["t,a,b"], {"rater_columns": "x,who"}, "", "no column 'who', only 'text', 'x', 'y'"),
    ],
)
def test_what_is_no_vote_is_one_line(tmp_path, rows, settings, task, message):
    config = DataConfig(**{"rater_columns": "x,y"} | settings)
    with pytest.raises(UserError, match=message) as caught:
        read_file(write_csv(tmp_path / "d.csv", "text,x,y", *rows), config, task=task)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rater_columns": "x"}, r"data\.rater_columns: expected two or more different columns"),
        ({"rater_columns": "x,x"}, r"data\.rater_columns: expected two or more different columns"),
        ({"label_columns": "a,b"}, r"data\.label_columns: expected nothing beside data\.rater_columns"),
        ({"label_separator": "|"}, r"data\.label_separator: expected nothing beside data\.rater_columns"),
        ({"label_hierarchy": "."}, r"data\.label_hierarchy: expected nothing beside data\.rater_columns"),
    ],
)
def test_settings_that_do_not_go_together_are_one_line(settings, message):
    with pytest.raises(UserError, match=message):
        DataConfig(**{"rater_columns": "x,y"} | settings)


def test_a_hierarchy_takes_zeros_and_ones_alone(tmp_path):
    file = write_csv(tmp_path / "d.csv", "text,a,b", "t,.5,.5")
    with pytest.raises(UserError, match=r"column 'a': expected 1 where the text has the label, else 0, got '\.5'"):
        read_file(file, DataConfig(label_columns="a,b", label_hierarchy="."))


def test_published_votes_have_the_names_of_their_classes(tmp_path):
    datasets = pytest.importorskip("datasets")
    label = datasets.ClassLabel(names=["sad", "happy"])
    features = datasets.Features({"text": datasets.Value("string"), "x": label, "y": label})
    rows = {"text": ["a", "b", "c"], "x": [1, -1, 0], "y": [0, 1, None]}
    made = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict({"train": made, "test": made}).save_to_disk(str(tmp_path / "saved"))
    config = DataConfig(
        source="huggingface", dataset=str(tmp_path / "saved"), validation_split="test", rater_columns="x,y"
    )
    train = load_data(config).train
    assert train.class_names == ("sad", "happy") and train.ratings.tolist() == [[1, 0], [-1, 1], [0, -1]]
    assert train.labels.tolist() == [[0.5, 0.5], [0, 1], [1, 0]]
