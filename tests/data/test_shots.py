"""Few-shot learning: so many texts of each class, drawn of the training split alone."""

import numpy as np
import pytest

from amsdff_jax import UserError
from amsdff_jax.config import DataConfig
from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.data.shots import draw_shots
from amsdff_jax.data.sources import load_data
from tests.conftest import write_json_lines

NAMES = ("a", "b", "c", "d")


@pytest.fixture
def data():
    labels = np.random.default_rng(3).permutation(np.repeat([0, 1, 2], [2, 13, 30])).astype(np.int32)
    return TextDataset([f"text {row}" for row in range(len(labels))], labels, NAMES)


@pytest.mark.parametrize("shots", [1, 5, 100])
def test_every_class_has_so_many_texts_or_all_of_its_own(shots, data):
    drawn = draw_shots(data, shots, seed=0)
    assert drawn.class_counts.tolist() == [min(shots, count) for count in (2, 13, 30, 0)]
    assert drawn.class_names == NAMES
    rows = [int(place) for place in drawn.ids]
    assert rows == sorted(set(rows))
    assert drawn.labels.tolist() == data.labels[rows].tolist()


def test_a_seed_draws_the_same_first_and_another_seed_others(data):
    few, more, others = (set(draw_shots(data, shots, seed).ids) for shots, seed in ((3, 7), (6, 7), (3, 8)))
    assert few < more
    assert few != others
    assert few == set(draw_shots(data, 3, seed=7).ids)


def test_of_distributions_the_likeliest_class_counts():
    labels = np.array([[0.6, 0.4], [0.7, 0.3], [0.1, 0.9], [0.5, 0.5]], np.float32)
    drawn = draw_shots(TextDataset(["one", "two", "three", "four"], labels, ("a", "b")), 2, seed=0)
    assert drawn.class_counts.tolist() == [2, 1]


def test_other_splits_are_what_they_are_without_shots():
    whole, few = (load_data(DataConfig(source="bundled", shots=shots)) for shots in (0, 4))
    assert few.validation.texts == whole.validation.texts
    assert few.test.texts == whole.test.texts
    assert few.train.class_counts.tolist() == [4, 4]


def test_texts_that_validate_are_never_among_those_that_are_drawn(tmp_path):
    rows = [(f"text {row}", NAMES[row % 2]) for row in range(40)]
    config = DataConfig(train_file=write_json_lines(tmp_path / "train.jsonl", rows), shots=16)
    splits = load_data(config, seed=2)
    assert len(splits.validation) == 4
    assert not set(splits.validation.texts) & set(splits.train.texts)


@pytest.mark.parametrize("labels", [np.eye(2, dtype=bool), [["a"], ["a", "b"]]])
def test_labels_that_are_not_one_class_a_text_are_refused(labels):
    several = TextDataset(["one", "two"], labels, ("a", "b"))
    with pytest.raises(UserError, match=r"^data\.shots: 8, but data has any number of labels a text"):
        draw_shots(several, 8, seed=0)
