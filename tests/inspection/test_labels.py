"""Labels that are wrong stand first, and a cleaned file lacks them and nothing else."""

import csv
import hashlib
import json
import random
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from amsdff_jax.base.errors import UserError
from amsdff_jax.config import Config, DataConfig
from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.data.files import read_file
from amsdff_jax.data.token_cache import tokenize_once
from amsdff_jax.data.tokenization import load_tokenizer
from amsdff_jax.evaluation.features import embed_once, encode_once
from amsdff_jax.inspection.confident_learning import (
    calibrated_counts,
    class_thresholds,
    confident_joint,
    noise_rates,
)
from amsdff_jax.inspection.inspect import inspect_data
from amsdff_jax.inspection.label_check import _warn_of_classes, load_model
from amsdff_jax.inspection.label_files import COLUMNS, check_new, source_rows, write_cleaned
from amsdff_jax.inspection.label_issues import rank_labels, summarize_labels
from amsdff_jax.inspection.label_words import find_words
from tests.conftest import WORDS, make_texts, write_csv


def test_confident_joint_equals_numbers_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.1, 0.9], [0.4, 0.6], [0.65, 0.35]])
    labels = np.array([0, 0, 0, 1, 1, 1])
    # Thresholds 1.8 / 3 and 1.85 / 3; the fifth text reaches neither, the sixth that of the other class.
    np.testing.assert_allclose(class_thresholds(probabilities, labels), [0.6, 1.85 / 3])
    counts = confident_joint(probabilities, labels)
    assert counts.tolist() == [[2, 1], [1, 1]]
    np.testing.assert_allclose(calibrated_counts(counts, labels), [[2, 1], [1.5, 1.5]])
    (first, interval), (second, _) = noise_rates(counts)
    assert (first, second) == (pytest.approx(1 / 3), 0.5)
    assert 0 < interval.low < first < interval.high < 1


def test_a_class_that_is_not_judged_is_nothing_that_a_text_is_rather_of():
    # The third class has a single text, and a threshold that all texts reach; of the others' thresholds none does.
    probabilities = np.array(
        [[0.6, 0.38, 0.02], [0.9, 0.08, 0.02], [0.3, 0.68, 0.02], [0.1, 0.88, 0.02], [0.6, 0.39, 0.01]]
    )
    labels = np.array([0, 0, 1, 1, 2])
    assert confident_joint(probabilities, labels).tolist() == [[1, 0, 1], [0, 1, 1], [0, 0, 1]]
    judged = np.array([True, True, False])
    assert confident_joint(probabilities, labels, judged).tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_a_label_of_which_no_text_is_confident_is_taken_for_right():
    counts = np.array([[0, 0], [1, 3]])
    np.testing.assert_allclose(calibrated_counts(counts, np.array([0, 0, 1])), [[2, 0], [0.25, 0.75]])
    assert noise_rates(counts)[0] == (0.0, (0.0, 1.0))


def random_opinions(classes=5, number=400):
    generator = np.random.default_rng(3)
    labels = generator.integers(0, classes, number)
    logits = generator.standard_normal((number, classes)) + 1.5 * np.eye(classes)[labels]
    return labels, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def test_confident_joint_equals_cleanlab():
    count = pytest.importorskip("cleanlab.count", reason="cleanlab is not installed")
    labels, probabilities = random_opinions()
    expected = count.compute_confident_joint(labels, probabilities, calibrate=False)
    np.testing.assert_array_equal(confident_joint(probabilities, labels), expected)
    calibrated = count.compute_confident_joint(labels, probabilities, calibrate=True)
    np.testing.assert_allclose(calibrated_counts(expected, labels), calibrated, atol=1)  # in whole texts there


@pytest.fixture(scope="module")
def flipped():
    """Three clusters of 80 vectors, every tenth of which has the label of the next one; a class of three texts."""
    generator, truth = np.random.default_rng(0), np.repeat([0, 1, 2], 80)
    vectors = 3 * np.eye(7)[truth] + generator.standard_normal((240, 7)) / 3
    wrong = np.arange(240) % 10 == 4
    labels = np.concatenate([np.where(wrong, (truth + 1) % 3, truth), [3, 3, 3]]).astype(np.int32)
    vectors = np.concatenate([vectors, generator.standard_normal((3, 7))]).astype(np.float32)
    dataset = TextDataset([f"text {place}" for place in range(243)], labels, ("a", "b", "c", "rare"))
    return truth, np.flatnonzero(wrong), rank_labels(dataset, vectors)


def test_flipped_labels_stand_first_with_the_true_one_suggested(flipped):
    truth, wrong, ranking = flipped
    assert sorted(ranking.suspects.tolist()) == wrong.tolist()
    assert sorted(ranking.order[: len(wrong)].tolist()) == wrong.tolist()
    assert (ranking.suggested[wrong] == truth[wrong]).all()
    assert (np.diff(ranking.scores[ranking.order]) <= 0).all()
    assert ((ranking.scores >= 0) & (ranking.scores <= 1)).all()
    assert len(ranking.select(0.5)) == 122


def test_estimated_noise_covers_what_was_flipped_and_rare_classes_are_not_judged(flipped):
    _, wrong, ranking = flipped
    summary = summarize_labels(ranking, "x.labels.csv", [ranking.reason(text) for text in ranking.suspects])
    assert summary.not_judged == ("rare",)
    assert [one.name for one in summary.classes] == ["a", "b", "c"]
    for one in summary.classes:
        assert one.interval.low <= 0.1 <= one.interval.high
    assert [one.mistaken_for for one in summary.classes] == ["c", "a", "b"]
    assert sum(one.suspected for one in summary.classes) == summary.suspected == len(wrong)
    assert (ranking.scores[240:] == 0).all() and ranking.reason(241) == "not judged: rare has fewer than 5 texts"


def test_the_probabilities_of_a_text_do_not_depend_on_its_own_label(flipped):
    _, wrong, ranking = flipped
    assert ranking.probe.held_out.sum(axis=1) == pytest.approx(np.ones(243), abs=1e-5)
    labels = ranking.dataset.labels
    assert (ranking.probe.held_out[wrong, labels[wrong]] < ranking.probe.trained[wrong, labels[wrong]]).mean() > 0.9


def test_too_few_texts_are_one_line():
    dataset = TextDataset(["x"] * 12, [0] * 9 + [1] * 3, ("a", "b"))
    with pytest.raises(UserError, match=r"too few texts to judge labels; .* at least 5, got classes of 9, 3$"):
        rank_labels(dataset, np.ones((12, 4), np.float32))


def test_vectors_that_are_all_the_same_say_nothing_and_break_nothing(flipped):
    ranking = rank_labels(flipped[2].dataset, np.zeros((243, 7), np.float32))
    assert np.isfinite(ranking.scores).all()


def short_texts(number=160):
    """Texts of four words, which all take one padded length; the first is low."""
    choice = random.Random(2)
    labels = ["low", *choice.choices(["high", "low"], k=number - 1)]
    return [" ".join(choice.choices(WORDS[20:] if each == "high" else WORDS[:20], k=4)) for each in labels], labels


def test_words_add_up_to_what_the_classifiers_say(tiny_config):
    config = tiny_config
    tokenizer = load_tokenizer(config.model.encoder)
    model = load_model(config, tokenizer)
    texts, labels = short_texts()
    labels[0] = "high"
    dataset = TextDataset(texts, labels, ("high", "low"))
    tokens = tokenize_once(dataset, tokenizer, 24)
    ranking = rank_labels(dataset, embed_once(model, tokens))
    assert ranking.suggested[0] == 1
    (words,) = find_words(ranking, np.array([0]), model, tokenizer, config)
    assert words and set(words) <= set(WORDS[:20])
    direction = ranking.probe.direction(0, 1, 0)
    features = encode_once(model, tokens.select(np.array([0]))).features.astype(np.float32)
    of_tokens = (features / ranking.inputs.lengths[0] - ranking.inputs.mean) @ direction / ranking.inputs.scale
    assert of_tokens.mean() == pytest.approx(float(ranking.inputs.vectors[0] @ direction), abs=0.02)


TRICKY = ['say "so", they', "two\nlines", "", "ends in \\", "=sum(1)", "ü\u2028"]


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_a_cleaned_file_lacks_the_rows_and_keeps_every_column(tmp_path, ending):
    file, clean = tmp_path / f"all.{ending}", tmp_path / "clean.csv"
    rows = [{"id": str(place), "text": text, "label": "ab"[place % 2]} for place, text in enumerate(TRICKY)]
    if ending == "csv":
        with file.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, ["id", "text", "label"])
            writer.writeheader()
            writer.writerows(rows)
    else:
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = DataConfig(source="files", train_file=str(file))
    dataset = read_file(str(file), config)
    assert write_cleaned(clean, source_rows(config, dataset), [0, 4]) == 4
    kept = read_file(str(clean), config)
    assert list(kept.texts) == [TRICKY[place] for place in (1, 2, 3, 5)]
    assert kept.labels.tolist() == [1, 0, 1, 1]
    with clean.open(newline="", encoding="utf-8") as stream:
        assert [row["id"] for row in csv.DictReader(stream)] == ["1", "2", "3", "5"]


def test_a_source_that_changed_meanwhile_is_refused(tmp_path):
    file = write_csv(tmp_path / "all.csv", *make_texts(6, 0))
    config = DataConfig(source="files", train_file=str(file))
    dataset = read_file(str(file), config)
    write_csv(file, *make_texts(5, 0))
    with pytest.raises(UserError, match="was changed while it was looked at"):
        source_rows(config, dataset)


@pytest.mark.parametrize("delimiter", [";", "|", "\t"])
def test_a_cleaned_file_has_the_rows_that_were_read_whatever_separates_them(tmp_path, delimiter):
    """The usual separator stands in the texts, and quotes are needed for the one that there is."""
    file, clean = tmp_path / "all.csv", tmp_path / "clean.csv"
    texts = ["I liked it, really", f"a{delimiter} b", "no, not, at all", "fine"]
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, delimiter=delimiter).writerows(
            [("text", "stars", "label"), *((text, place, "ab"[place % 2]) for place, text in enumerate(texts))]
        )
    config = DataConfig(source="files", train_file=str(file))
    dataset = read_file(str(file), config)
    assert list(dataset.texts) == texts
    write_cleaned(clean, source_rows(config, dataset), [3])
    with clean.open(newline="", encoding="utf-8") as stream:
        assert [(row["text"], row["stars"]) for row in csv.DictReader(stream)] == list(
            zip(texts[:3], "012", strict=True)
        )


def test_a_cleaned_file_of_parquet_has_the_same_labels(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    labels = [Decimal("1.00"), Decimal("2.00"), Decimal("1.00"), Decimal("2.00")]
    other = [b"\xff\x00", None, b"text", b""]
    parquet.write_table(pyarrow.table({"text": list("abcd"), "label": labels, "raw": other}), tmp_path / "all.parquet")
    config = DataConfig(source="files", train_file=str(tmp_path / "all.parquet"))
    dataset = read_file(config.train_file, config)
    write_cleaned(tmp_path / "clean.csv", source_rows(config, dataset), [0])
    kept = read_file(str(tmp_path / "clean.csv"), config)
    assert [kept.class_names[label] for label in kept.labels] == [dataset.class_names[n] for n in dataset.labels[1:]]


@pytest.mark.parametrize(
    "labels", [np.array([0.1, 0.2, 0.1, 0.2], np.float32), [True, False, True, False], [1.5, 2.0, 1.5, 2.0]]
)
def test_a_cleaned_file_has_the_classes_of_numbers_and_truth_values(tmp_path, labels):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = pyarrow.table({"text": list("abcd"), "label": labels, "score": [0.5, float("nan"), 1.0, None]})
    parquet.write_table(table, tmp_path / "all.parquet")
    config = DataConfig(source="files", train_file=str(tmp_path / "all.parquet"))
    dataset = read_file(config.train_file, config)
    write_cleaned(tmp_path / "clean.csv", source_rows(config, dataset), [])
    kept = read_file(str(tmp_path / "clean.csv"), config)
    assert kept.class_names == dataset.class_names and kept.labels.tolist() == dataset.labels.tolist()
    with (tmp_path / "clean.csv").open() as stream:
        assert [row["score"] for row in csv.DictReader(stream)] == ["0.5", "", "1.0", ""]


def test_columns_without_a_name_are_not_lost_in_silence(tmp_path):
    (tmp_path / "all.csv").write_text("text,label,,\na,x,1,2\nb,y,3,4\n")
    config = DataConfig(source="files", train_file=str(tmp_path / "all.csv"))
    dataset = read_file(config.train_file, config)
    with pytest.raises(UserError, match="has more than one column without a name; name them"):
        source_rows(config, dataset)


def test_joined_columns_have_one_name_in_a_cleaned_file():
    dataset = TextDataset(["t a", "u b"], [0, 1], ("x", "y"))
    rows = source_rows(DataConfig(source="huggingface", dataset="d", text_column="title,body"), dataset)
    assert rows[0] == {"text": "t a", "label": "x"}
    quoted = DataConfig(source="huggingface", dataset="d", text_column='"more, or less"')
    assert source_rows(quoted, dataset)[1] == {"more, or less": "u b", "label": "y"}


def test_a_class_of_which_most_goes_is_told(caplog):
    dataset = TextDataset(["w1"] * 9, [0] * 5 + [1] * 4, ("high", "low"))
    _warn_of_classes(dataset, [0, 1, 5, 6, 7], Path("clean.csv"))
    (message,) = caplog.messages
    assert message.startswith("clean.csv: lacks 3 of the 4 texts of 'low'") and "clean.removed.csv" in message


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("there.csv", "there.csv is there already"),
        ("new.csv", "new.removed.csv is there already"),
        ("new.txt", "--apply: expected the name of a new CSV file"),
    ],
)
def test_a_target_that_exists_is_refused(tmp_path, name, message):
    (tmp_path / "there.csv").touch()
    (tmp_path / "new.removed.csv").touch()
    with pytest.raises(UserError, match=message):
        check_new(str(tmp_path / name))


def test_an_inspection_ranks_and_cleans_and_touches_nothing_else(tiny_encoder, tmp_path):
    texts, labels = short_texts()
    labels[0] = "high"
    file = write_csv(tmp_path / "train.csv", texts, labels)
    before = hashlib.sha256(file.read_bytes()).hexdigest()
    page, clean = tmp_path / "out" / "page.html", tmp_path / "clean.csv"
    config = Config().replace(
        data__source="files", data__train_file=str(file), data__max_length=24, model__encoder=str(tiny_encoder)
    )
    inspect_data(config, "name", page, labels=True, apply=str(clean), fraction=0.05)
    with (page.parent / "page.labels.csv").open(newline="", encoding="utf-8") as stream:
        ranked = list(csv.DictReader(stream))
    assert tuple(ranked[0]) == COLUMNS and len(ranked) == 160
    assert 'id="labels"' in page.read_text(encoding="utf-8")
    with (tmp_path / "clean.removed.csv").open(newline="", encoding="utf-8") as stream:
        removed = list(csv.DictReader(stream))
    assert removed == ranked[:8] and "line 2" in [row["row"] for row in removed]
    gone = {int(row["row"].removeprefix("line ")) - 2 for row in removed}
    kept = read_file(str(clean), DataConfig())
    assert list(kept.texts) == [text for place, text in enumerate(texts) if place not in gone]
    assert hashlib.sha256(file.read_bytes()).hexdigest() == before
    with pytest.raises(UserError, match=r"clean.csv is there already; delete it, or choose another file$"):
        inspect_data(config, "name", page, labels=True, apply=str(clean))
