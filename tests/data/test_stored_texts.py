"""Texts and tokens that are stored are, in every respect but memory, those that lists and arrays hold."""

import dataclasses
import os
import shutil
import tempfile
import tracemalloc
from multiprocessing.util import get_temp_dir

import jax
import numpy as np
import pytest

from amsdff_jax import Config, TextDataset, Trainer, UserError, load_data
from amsdff_jax.base import cache
from amsdff_jax.base.cache import evict_oldest, filled_folder, remembered
from amsdff_jax.config import DataConfig
from amsdff_jax.data import files, labelled_rows, stored_datasets, token_cache
from amsdff_jax.data.dataset import stratified_split
from amsdff_jax.data.files import read_file
from amsdff_jax.data.folds import stratified_folds
from amsdff_jax.data.host_tokens import tokenize_on_hosts
from amsdff_jax.data.labelled_rows import label_rows
from amsdff_jax.data.rows import Row
from amsdff_jax.data.stored_datasets import TextStore
from amsdff_jax.data.stored_texts import StoredTexts
from amsdff_jax.data.stream import BatchStream
from amsdff_jax.data.token_cache import tokenize_once
from amsdff_jax.data.tokenization import load_tokenizer, make_windows
from amsdff_jax.evaluation.report import write_report
from amsdff_jax.models.registry import MODELS
from amsdff_jax.parallel.data_parallel import DataParallel
from tests.data.stored_files import assert_same, store_soon, tokens_of, work, write_rows
from tests.processes import context

KINDS = {
    "single": ({}, lambda row: "abc"[row % 7 % 3]),
    "pairs": ({"text_pair_column": "pair"}, lambda row: row % 3),
    "multi_label": ({}, lambda row: [name for place, name in enumerate("abc") if row >> place & 1]),
    "regression": ({}, lambda row: (row % 11 - 5) * -0.0 if row % 2 else row / 7),
    "soft": ({"label_columns": "a,b"}, lambda row: {"a": row % 7 / 6, "b": 1 - row % 7 / 6}),
    "raters": ({"rater_columns": "x,y,z"}, lambda row: {"x": "ab"[row % 2], "y": "abc"[row % 3], "z": None}),
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The cache, and no other temporary files than what lies in `tmp_path / "temporary"`."""
    monkeypatch.setenv("AMSDFF_CACHE", str(tmp_path / "cache"))
    (tmp_path / "temporary").mkdir()
    get_temp_dir()  # which a process has once: there the names of its sockets would be too long
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return tmp_path / "cache"


@pytest.fixture
def both(folder, tmp_path, monkeypatch):
    """A function that reads rows of a kind, first into lists and then into the cache."""

    def make(kind="single", number=101) -> tuple[TextDataset, TextDataset]:
        settings, label = KINDS[kind]
        path = write_rows(tmp_path / f"{kind}{number}.jsonl", number, label)
        read = path, DataConfig(**settings), (), "regression" if kind == "regression" else "single"
        lists = read_file(*read)
        with monkeypatch.context() as patch:
            store_soon(patch.setattr)
            stored = read_file(*read)
        assert isinstance(lists.texts, list)
        assert all(isinstance(texts, StoredTexts) for texts in (stored.texts, stored.ids))
        return lists, stored

    return make


@pytest.mark.parametrize("kind", KINDS)
def test_stored_datasets_and_their_parts_are_those_of_lists(both, kind):
    lists, stored = both(kind)
    assert_same(lists, stored)
    rows = np.random.default_rng(1).permutation(101)[:37]
    for indices in (rows, rows[:1], np.arange(101) % 3 == 1, [5, 5, 0], slice(90, None)):
        assert_same(lists.take(indices, "part"), stored.take(indices, "part"))
    assert_same(lists.take(rows, "a").take([3, 1], "b"), stored.take(rows, "a").take([3, 1], "b"))
    parts = zip(stratified_split(lists, 0.2, seed=3), stratified_split(stored, 0.2, seed=3), strict=True)
    folds = zip(stratified_folds(lists, 3, seed=3), stratified_folds(stored, 3, seed=3), strict=True)
    for expected, got in (*parts, *(pair for one, other in folds for pair in zip(one, other, strict=True))):
        assert_same(expected, got)
    for one, other in ((lists, stored), (stored, lists), (stored.take(rows, "part"), stored)):
        together = [lists.take(rows, "part") if one is not lists and one is not stored else lists, lists]
        assert_same(dataclass_named(together[0].join(together[1]), one.name), one.join(other))


def dataclass_named(dataset: TextDataset, name: str) -> TextDataset:
    return dataset.take(np.arange(len(dataset)), name)


def test_stored_texts_are_a_sequence(both):
    texts, stored = (dataset.texts for dataset in both())
    assert (stored[-1], stored[np.int64(3)], list(stored[7:2:-2])) == (texts[-1], texts[3], texts[7:2:-2])
    assert (len(stored), texts[5] in stored, "none of them" in stored) == (101, True, False)
    for index in (101, -102):
        with pytest.raises(IndexError):
            stored[index]
    assert stored.take(np.arange(0)).digest != stored.digest != stored[::-1].digest


def test_few_texts_stay_lists_and_leave_nothing(folder, tmp_path, monkeypatch):
    store_soon(monkeypatch.setattr)
    dataset = read_file(write_rows(tmp_path / "few.jsonl", 9), DataConfig())
    assert isinstance(dataset.texts, list)
    assert not folder.exists()


def no_reading(monkeypatch):
    monkeypatch.setattr(files, "_scan_files", lambda *_: pytest.fail("read again"))


def test_a_second_start_reads_no_file_until_one_changes(both, tmp_path, monkeypatch):
    lists, _ = both()
    path = tmp_path / "single101.jsonl"
    reading = files._scan_files
    no_reading(monkeypatch)
    assert_same(lists, read_file(str(path), DataConfig()))
    monkeypatch.chdir(tmp_path)
    assert list(read_file(path.name, DataConfig()).ids) == lists.ids
    store_soon(monkeypatch.setattr)
    for change in (
        lambda: os.utime(path, ns=(0, path.stat().st_mtime_ns + 1)),
        lambda: write_rows(path, 102, KINDS["single"][1]),
    ):
        change()
        calls = []
        monkeypatch.setattr(files, "_scan_files", lambda *given, calls=calls: calls.append(given) or reading(*given))
        assert len(read_file(str(path), DataConfig())) in (101, 102)
        assert len(calls) == 1
    for settings in ({"label_type": "name"}, {"text_column": "pair"}):
        read_file(str(path), DataConfig(**settings))
        calls.pop()
    assert len(read_file(str(path), DataConfig(), ("a", "b", "c", "d")).class_names) == 4
    calls.pop()


def test_every_setting_that_a_file_is_read_by_is_among_those_that_it_is_found_by():
    which = {"source", "train_file", "validation_file", "test_file", "dataset", "data_dir", "validation_fraction"}
    published = {"text_features", "text_pair_feature", "label_feature", "train_split", "validation_split", "test_split"}
    afterwards = {
        "shots",
        "tokenizer",
        "max_length",
        "long_texts",
        "window_overlap",
        "max_windows",
        "num_buckets",
        "buckets",
    }
    known = {field.name for field in dataclasses.fields(DataConfig)}
    assert known - which - published - afterwards == set(stored_datasets._FIELDS)


def test_several_files_are_found_again_by_all_of_them(folder, tmp_path, monkeypatch):
    store_soon(monkeypatch.setattr)
    for part in "ab":
        write_rows(tmp_path / f"{part}.jsonl", 30, seed=ord(part))
    pattern = str(tmp_path / "*.jsonl")
    dataset = read_file(pattern, DataConfig())
    assert (dataset.ids[0], dataset.ids[59]) == ("a.jsonl: line 1", "b.jsonl: line 30")
    with monkeypatch.context() as patch:
        no_reading(patch)
        assert read_file(pattern, DataConfig()).fingerprint == dataset.fingerprint
    write_rows(tmp_path / "c.jsonl", 5)
    assert len(read_file(pattern, DataConfig())) == 65


def test_a_file_that_changes_while_it_is_read_is_not_found_again(folder, tmp_path, monkeypatch):
    store_soon(monkeypatch.setattr)
    path = tmp_path / "data.jsonl"
    write_rows(path, 101)
    before = path.stat()
    reading = files._scan_files

    def disturbed(*given):
        yield from reading(*given)
        os.utime(path, ns=(0, before.st_mtime_ns + 5))

    with monkeypatch.context() as patch:
        patch.setattr(files, "_scan_files", disturbed)
        assert len(read_file(str(path), DataConfig())) == 101
    os.utime(path, ns=(0, before.st_mtime_ns))
    write_rows(path, 101, seed=9)
    os.utime(path, ns=(0, before.st_mtime_ns))
    expected = list(read_file(str(path), DataConfig()).texts)
    with monkeypatch.context() as patch:
        no_reading(patch)
        assert list(read_file(str(path), DataConfig()).texts) == expected


def test_a_folder_that_is_removed_while_it_is_filled_changes_nothing(folder, tmp_path, monkeypatch):
    path = write_rows(tmp_path / "data.jsonl", 101)
    expected = read_file(path, DataConfig())
    store_soon(monkeypatch.setattr)
    reading = files._scan_files

    def disturbed(*given):
        yield from reading(*given)
        shutil.rmtree(folder)

    monkeypatch.setattr(files, "_scan_files", disturbed)
    for _ in range(2):
        assert_same(expected, read_file(path, DataConfig()))


@pytest.mark.parametrize(
    ("length", "long_texts"), [(9, "truncate"), (9, "head_tail"), (11, "windows"), (500, "truncate")]
)
def test_stored_tokens_are_those_in_memory(both, tiny_encoder, monkeypatch, length, long_texts):
    tokenizer = load_tokenizer(tiny_encoder)
    monkeypatch.setattr(token_cache, "PIECE", 50)
    for kind in ("pairs", "single", "regression", "multi_label")[long_texts == "windows" :]:
        lists, stored = both(kind)
        part = np.random.default_rng(2).permutation(101)[:43]
        for one, other in ((lists, stored), (lists.take(part, "part"), stored.take(part, "part"))):
            expected = tokenize_once(one, tokenizer, length, long_texts)
            assert expected.truncated.any() == (length == 9)
            for _ in range(2):
                for got in (f(other, tokenizer, length, long_texts) for f in (tokenize_once, tokenize_on_hosts)):
                    assert got.fingerprint == expected.fingerprint
                    for name in ("lengths", "labels", "truncated", "pad_token_id"):
                        np.testing.assert_array_equal(getattr(got, name), getattr(expected, name))
                    for rows in (np.arange(len(one))[::-3], np.arange(0)):
                        assert got.select(rows).fingerprint == expected.select(rows).fingerprint
                with monkeypatch.context() as patch:
                    patch.setattr(token_cache, "token_pieces", lambda *_: pytest.fail("tokenized again"))
                    assert tokenize_once(other, tokenizer, length, long_texts).fingerprint == expected.fingerprint


@pytest.mark.parametrize("long_texts", ["truncate", "windows"])
def test_batches_of_three_epochs_are_the_same_from_any_step(both, tiny_encoder, long_texts):
    tokenizer = load_tokenizer(tiny_encoder)
    data = {"max_length": 13, "long_texts": long_texts, "window_overlap": 2, "max_windows": 2, "num_buckets": 2}
    config = Config.from_dict({"data": data, "train": {"batch_size": 8}, "seed": 5})
    windows, streams = make_windows(config.data, tokenizer), []
    for dataset in both():
        tokens = tokenize_on_hosts(stratified_split(dataset, 0.1, 5)[0], tokenizer, 13, long_texts)
        streams.append(BatchStream(tokens, config, DataParallel("auto", None), windows))
    lists, stored = streams
    assert (lists.buckets, lists.steps_per_epoch) == (stored.buckets, stored.steps_per_epoch)
    last = 3 * lists.steps_per_epoch
    for first in (0, lists.steps_per_epoch + 3):
        for expected, got in zip(lists.batches(first, last), stored.batches(first, last), strict=True):
            for one, other in zip(expected, got, strict=True):
                np.testing.assert_array_equal(np.asarray(other), np.asarray(one))


def start(folder, tmp_path, name, path, encoder, disturbance=""):
    arguments = (str(folder), path, str(encoder), str(tmp_path / name), disturbance)
    process = context.Process(target=work, args=arguments)
    process.start()
    return process


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["reading", "tokenizing"])
def test_what_a_killed_process_has_written_is_taken_for_what_it_is(folder, tmp_path, tiny_encoder, monkeypatch, phase):
    path = write_rows(tmp_path / "data.jsonl", 5101)
    lists = tokens_of(path, tiny_encoder)
    process = start(folder, tmp_path, "killed", path, tiny_encoder, phase)
    process.join(100)
    assert process.exitcode == -9
    assert list(folder.glob("*/*.partial"))
    store_soon(monkeypatch.setattr)
    firsts, pieces = [], token_cache.token_pieces
    monkeypatch.setattr(token_cache, "token_pieces", lambda *given: firsts.append(given[1].start) or pieces(*given))
    stored = tokens_of(path, tiny_encoder)
    assert_same(lists[0], stored[0])
    assert stored[1] == lists[1]
    assert [first > 0 for first in firsts] == [phase == "tokenizing"]  # those of the killed process are kept
    assert not list(folder.glob("*/*.partial"))


@pytest.mark.slow
def test_processes_at_the_same_time_get_the_same(folder, tmp_path, tiny_encoder, monkeypatch):
    path = write_rows(tmp_path / "data.jsonl", 1101)
    dataset, fingerprint = tokens_of(path, tiny_encoder)
    shutil.rmtree(folder)
    processes = [start(folder, tmp_path, f"answer{number}", path, tiny_encoder) for number in range(3)]
    for number, process in enumerate(processes):
        process.join(100)
        assert (tmp_path / f"answer{number}").read_text() == f"{dataset.fingerprint} {fingerprint}"
    for kind in ("texts", "tokens"):
        (entry,) = (folder / kind).iterdir()
        assert entry.suffix == ""
    no_reading(monkeypatch)
    monkeypatch.setattr(token_cache, "token_pieces", lambda *_: pytest.fail("tokenized again"))
    assert tokens_of(path, tiny_encoder)[1] == fingerprint


@pytest.mark.slow
def test_a_full_disk_is_one_line_that_names_the_folder(folder, tmp_path, tiny_encoder):
    path = write_rows(tmp_path / "data.jsonl", 1101)
    process = start(folder, tmp_path, "answer", path, tiny_encoder, "full")
    process.join(100)
    answer = (tmp_path / "answer").read_text()
    assert answer.startswith(f"UserError: {folder / 'texts'}: cannot be written (")
    assert answer.endswith("make room, or name another folder in the environment variable AMSDFF_CACHE")
    assert "\n" not in answer
    assert not list(folder.glob("*/*"))


DAMAGES = [
    lambda file: file.unlink(),
    lambda file: file.write_bytes(b""),
    lambda file: file.write_bytes(file.read_bytes()[:-9]),
    lambda file: file.write_bytes(file.read_bytes() + b"more"),
    lambda file: file.write_bytes(file.read_bytes()[:9] + b"\xff" * 8 + file.read_bytes()[17:]),
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_changes_nothing(folder, tmp_path, tiny_encoder, monkeypatch, damage):
    path = write_rows(tmp_path / "data.jsonl", 101)
    expected = tokens_of(path, tiny_encoder)
    store_soon(monkeypatch.setattr)
    tokens_of(path, tiny_encoder)
    names = [file.relative_to(folder) for file in sorted(folder.glob("*/*/*")) if file.name != "lock"]
    assert len(names) >= 9
    for name in names:
        if name.name in ("texts.values", "ids.values", "token_ids.values", "truncated") and damage is DAMAGES[-1]:
            continue  # whose content nobody reads before it is needed
        damage(folder / name)
        for _ in range(2):
            dataset, fingerprint = tokens_of(path, tiny_encoder)
            assert_same(expected[0], dataset)
            assert fingerprint == expected[1]


def test_a_damaged_text_is_one_line_that_names_the_folder(folder, tmp_path, monkeypatch):
    store_soon(monkeypatch.setattr)
    path = write_rows(tmp_path / "data.jsonl", 101)
    read_file(path, DataConfig())
    (file,) = folder.glob("texts/*/texts.values")
    file.write_bytes(b"\xff" * file.stat().st_size)
    with pytest.raises(UserError, match=r"is damaged; delete this folder") as caught:
        list(read_file(path, DataConfig()).texts)
    assert str(caught.value).startswith(str(file.parent))


@pytest.mark.parametrize("place", ["off", "in the way"])
def test_without_a_cache_the_files_are_temporary_and_have_no_name(folder, tmp_path, tiny_encoder, monkeypatch, place):
    path = write_rows(tmp_path / "data.jsonl", 101)
    expected = tokens_of(path, tiny_encoder)
    store_soon(monkeypatch.setattr)
    (tmp_path / "in the way").write_text("")
    monkeypatch.setenv("AMSDFF_CACHE", place if place == "off" else str(tmp_path / place))
    dataset, fingerprint = tokens_of(path, tiny_encoder)
    assert_same(expected[0], dataset)
    assert fingerprint == expected[1]
    assert not list((tmp_path / "temporary").iterdir())
    assert not (tmp_path / "off").exists()


def test_errors_name_the_same_rows(folder, tmp_path, monkeypatch):
    def messages() -> list[str]:
        found = []
        for label, names in (
            (lambda row: None if row == 77 else "ab"[row % 2], ()),
            (lambda row: "x" if row == 91 else row, ()),
            (lambda row: "c" if row == 83 else "ab"[row % 2], ("a", "b")),
            (lambda row: "a", ()),
        ):
            path = write_rows(tmp_path / "data.jsonl", 101, label)
            with pytest.raises(UserError) as caught:
                read_file(path, DataConfig(), names)
            found.append(str(caught.value))
        return found

    expected = messages()
    assert [f"line {row}" in message for row, message in zip((78, 92, 84), expected, strict=False)] == [True] * 3
    store_soon(monkeypatch.setattr)
    assert messages() == expected
    assert not list(folder.glob("*/*"))


def test_texts_that_are_no_files_are_stored_for_this_process_alone(folder, tmp_path, monkeypatch):
    store_soon(monkeypatch.setattr)
    rows = [Row(f"row {row}", {"text": f"text {row}", "label": "ab"[row % 2]}) for row in range(101)]
    with TextStore(None) as store:
        dataset = label_rows(rows, DataConfig(), (), "mine", "single", store)
    assert isinstance(dataset.texts, StoredTexts)
    assert (dataset.texts[77], dataset.ids[100], len(dataset)) == ("text 77", "row 100", 101)
    assert not folder.exists()
    assert not list((tmp_path / "temporary").iterdir())


@pytest.mark.slow
def test_memory_does_not_grow_with_the_texts(folder, tmp_path, tiny_encoder, monkeypatch):
    tokenizer = load_tokenizer(tiny_encoder)
    long = [f"{'w1 ' * 200}{row}" for row in range(9000)]
    store_soon(monkeypatch.setattr)
    monkeypatch.setattr(labelled_rows, "PIECE", 1 << 16)
    monkeypatch.setattr(token_cache, "PIECE", 5000)

    def peak(number: int) -> int:
        path = tmp_path / f"{number}.csv"
        path.write_text("text,label\n" + "".join(f"{text},{row % 2}\n" for row, text in enumerate(long[:number])))
        tracemalloc.start()
        try:
            dataset = read_file(str(path), DataConfig())
            tokens = tokenize_on_hosts(stratified_split(dataset, 0.1, 0)[0], tokenizer, 30)
            assert (len(dataset.fingerprint), len(tokens.fingerprint)) == (32, 32)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(2000)  # which imports what there is to import
    assert peak(9000) - peak(3000) < sum(map(len, long[3000:])) / 4


def test_what_was_not_used_for_the_longest_time_goes_but_nothing_in_use(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "_used", set())
    monkeypatch.setattr(cache, "LARGEST_FOLDERS", 250)

    def fill(name: str) -> None:
        with filled_folder(tmp_path / name) as partial:
            (partial / "data").write_bytes(bytes(100))

    for age, name in ((30, "a"), (20, "b")):
        fill(name)
        os.utime(tmp_path / name, (1e9 - age,) * 2)
    cache._used.clear()
    fill("c")
    assert {path.name for path in tmp_path.iterdir()} == {"b", "c"}
    os.utime(tmp_path / "c", (1e9 - 40,) * 2)
    fill("d")
    assert {path.name for path in tmp_path.iterdir()} == {"c", "d"}  # "c" is older than "b", and used
    (tmp_path / "file.npz").write_bytes(bytes(1000))
    evict_oldest(tmp_path, "*/", 250)
    assert {path.name for path in tmp_path.iterdir()} == {"c", "d", "file.npz"}


def test_what_another_has_finished_meanwhile_stays(tmp_path):
    ours, theirs = filled_folder(tmp_path / "a"), filled_folder(tmp_path / "a")
    with theirs as partial:
        (partial / "data").write_bytes(b"theirs")
    with ours as partial:  # begins once the other has ended, after it had looked
        assert (tmp_path / "a" / "data").read_bytes() == b"theirs"
        (partial / "data").write_bytes(b"ours")
    assert (tmp_path / "a" / "data").read_bytes() == b"theirs"
    assert {path.name for path in tmp_path.iterdir()} == {"a"}


def test_answers_are_remembered_by_their_question(tmp_path):
    calls = []

    def ask(folder, question):
        return remembered(folder, question, lambda: calls.append(question) or f"{question}!")

    assert [ask(tmp_path, question) for question in ("a", "b", "a", "b")] == ["a!", "b!", "a!", "b!"]
    assert calls == ["a", "b"]
    assert [ask(None, "a"), ask(tmp_path / "gone", "a")] == ["a!", "a!"]
    assert len(calls) == 4


@pytest.mark.slow
def test_a_run_and_its_report_are_those_on_lists(tiny_config, tiny_data, tmp_path, monkeypatch):
    monkeypatch.setenv("AMSDFF_CACHE", str(tmp_path / "cache"))
    config = tiny_config.replace(model__name="linear")
    store_soon(monkeypatch.setattr)
    stored = load_data(config.data)
    assert all(isinstance(dataset.texts, StoredTexts) for dataset in stored)

    def trainer(data, name):
        model = MODELS["linear"].from_pretrained(config.model.encoder, 2)
        return Trainer(model, config, data.train, data.validation, tmp_path / name, devices=jax.devices()[:1])

    expected = trainer(tiny_data, "lists")
    expected.train()
    trainer(stored, "stored").train(max_steps=11)
    resumed = trainer(stored, "stored")
    resumed.train()
    for name in ("model/model.safetensors", "inputs.json"):
        assert (tmp_path / "stored" / name).read_bytes() == (tmp_path / "lists" / name).read_bytes()
    for one, data, name in ((expected, tiny_data, "lists"), (resumed, stored, "stored")):
        evaluation = one.run_evaluation(data.test)
        write_report(tmp_path / "reports" / name, data.test, evaluation, one.evaluate(data.test))
    reports = [tmp_path / "reports" / name for name in ("lists", "stored")]
    for file in reports[0].iterdir():
        assert (reports[1] / file.name).read_bytes() == file.read_bytes()
