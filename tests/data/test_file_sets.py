"""Several files are read as the one that they would be put together."""

import json
import struct
from pathlib import Path

import pyarrow
import pytest

from amsdff_jax import UserError
from amsdff_jax.config import DataConfig
from amsdff_jax.data import lines
from amsdff_jax.data.file_sets import find_files, name_of, would_read
from amsdff_jax.data.files import read_file, read_rows, scan_rows
from tests.conftest import write_csv

PARTS = {"part-2.csv": (["c", "d"], ["x", "z"]), "part-1.csv": (["a", "b"], ["x", "y"]), "part-10.csv": (["e"], ["y"])}
ORDER = ["part-1.csv", "part-10.csv", "part-2.csv"]


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "reviews, all"
    folder.mkdir()
    for name, rows in PARTS.items():
        write_csv(folder / name, *rows)
    for other in ("README.md", "_SUCCESS", ".part-0.csv", "_temporary.csv"):
        (folder / other).write_text("no texts")
    (folder / "old.csv").mkdir()
    return folder


@pytest.mark.parametrize("path", ["", "/", "/part-*.csv", "/part-[12]*.csv", "/../*/part-?*.csv"])
def test_folders_and_patterns_are_one_dataset_in_sorted_order(path, folder):
    dataset = read_file(f"{folder}{path}", DataConfig())
    assert dataset.texts == ["a", "b", "e", "c", "d"]
    assert (dataset.class_names, dataset.labels.tolist()) == (("x", "y", "z"), [0, 1, 1, 0, 2])
    places = [(name, 2 + row) for name in ORDER for row in range(len(PARTS[name][0]))]
    assert dataset.ids == [f"{name}: line {line}" for name, line in places]


def test_a_list_keeps_its_order_and_reads_no_file_twice(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert [row.values["text"] for row in read_rows("part-2.csv, ./part-1.csv,part-*.csv")] == ["c", "d", "a", "b", "e"]
    write_csv(folder / "part-1.csv,part-2.csv", ["own"], ["x"])
    write_csv(folder / "[pa]*.csv", ["brackets"], ["x"])
    for name, text in (("part-1.csv,part-2.csv", "own"), ("[pa]*.csv", "brackets")):
        (row,) = read_rows(name)
        assert (row.place, row.values["text"]) == ("line 2", text)


def test_files_of_one_name_in_several_folders_are_told_apart(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_csv(tmp_path / name / "d.csv", ["a"], ["x"])
    assert [row.place for row in scan_rows(f"{tmp_path}/*/d.csv")] == ["one/d.csv: line 2", "two/d.csv: line 2"]
    assert [row.place for row in scan_rows(f"{tmp_path}/one")] == ["d.csv: line 2"]


def test_what_is_wrong_names_file_and_row(folder):
    write_csv(folder / "part-2.csv", ["c", "d"], ["x", ""])
    with pytest.raises(UserError, match=r"reviews, all: part-2.csv: line 3, column 'label': expected a class name"):
        read_file(str(folder), DataConfig())
    (folder / "part-2.csv").write_text("text,label\nc,x\nd\n")
    with pytest.raises(UserError, match=r"reviews, all: part-2.csv: line 3: 1 fields, but there are 2 columns"):
        read_file(str(folder), DataConfig())
    (folder / "part-2.csv").write_text("text,kind\nc,x\n")
    with pytest.raises(UserError, match=r"reviews, all/part-2.csv: line 1: no column 'label', only 'text', 'kind'"):
        read_file(str(folder), DataConfig())


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/none-*.csv", r"none-\*\.csv: no file that fits this pattern; check the path"),
        ("/old.csv", r"old\.csv: no file ending in \.csv, \.tsv, .*; check the path"),
        ("/old*", r"old\*: no file that fits"),
        ("/part-1.csv,,b.csv", "nothing between two commas"),
        ("/none/a.csv", "none/a.csv: cannot be read .*No such file"),
        ("/*", "README.md: unknown kind of file"),
        (
            "/part-1.csv,part-2.jsonl",
            r"part-2\.jsonl: files of several formats \(part-1\.csv, part-2\.jsonl\); expected",
        ),
    ],
)
def test_what_names_no_set_of_files_is_one_line(path, message, folder):
    folder = folder.rename(folder.with_name("reviews"))
    with pytest.raises(UserError, match=message) as caught:
        list(scan_rows(f"{folder}{path}".replace(",part", f",{folder}/part")))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "reads"),
    [
        ("", ["part-1.csv", "out.jsonl", "new.csv", "new.csv.gz"]),
        ("/part-1.csv", ["part-1.csv"]),
        ("/*.csv", ["part-1.csv", "new.csv", "_new.csv"]),
        ("/**/o*.jsonl", ["out.jsonl", "old.csv/out.jsonl", "a/b/out.jsonl"]),
        ("/../*/o*.jsonl", ["out.jsonl"]),
    ],
)
def test_what_would_be_read_is_known_before_it_is_there(path, reads, folder, monkeypatch):
    candidates = {"part-1.csv", "out.jsonl", "new.csv", "new.csv.gz", "_new.csv", "old.csv/out.jsonl", "a/b/out.jsonl"}
    candidates |= {"out.txt", "../out.jsonl"}
    found = {name for name in candidates if would_read(f"{folder}{path}", folder / name)}
    assert found == {*reads}
    monkeypatch.chdir(folder)
    assert would_read("other.csv, part-1.csv", Path("part-1.csv")) and not would_read("other.csv", Path("part-1.csv"))
    assert not would_read("s3://bucket/*.csv", folder / "new.csv")
    assert would_read("s3://bucket/*.csv,part-1.csv", folder / "part-1.csv")
    assert not would_read(",".join(["a.csv"] * 100), folder / "part-1.csv")  # longer than a name may be


def test_two_names_of_a_format_are_one_format(tmp_path):
    for name in ("a.jsonl", "b.ndjson"):
        (tmp_path / name).write_text(json.dumps({"text": name, "label": name[0]}))
    assert read_file(str(tmp_path), DataConfig()).texts == ["a.jsonl", "b.ndjson"]


def test_files_may_be_packed_each_in_its_way(folder):
    content = b"text,label\nf,z\n"
    (folder / "part-3.csv.zst").write_bytes(pyarrow.compress(content, codec="zstd", asbytes=True))
    assert read_file(str(folder), DataConfig()).texts[-1] == "f"


def test_a_bomb_is_refused_before_it_is_held(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "LONGEST_TEXT", 1 << 16)
    path = tmp_path / "d.csv.zst"
    path.write_bytes(pyarrow.compress(b"text,label\n" + b"a" * (1 << 24), codec="zstd", asbytes=True))
    assert path.stat().st_size < 1 << 12
    with pytest.raises(UserError, match=r"line 2: longer than 65,536 characters"):
        list(scan_rows(str(path)))
    # A frame that asks for a window of 2 GiB: magic, descriptor, window descriptor, a block of one repeated byte.
    path.write_bytes(b"\x28\xb5\x2f\xfd\x00\xa8" + struct.pack("<I", 1 << 10 << 3 | 3)[:3] + b"a")
    with pytest.raises(UserError, match=r"not a readable zstd file .*too much memory"):
        list(scan_rows(str(path)))


def test_frames_that_hold_nothing_are_skipped(tmp_path):
    path = tmp_path / "d.jsonl.zst"
    packed = pyarrow.compress(json.dumps({"text": "a"}).encode(), codec="zstd", asbytes=True)
    path.write_bytes(b"\x50\x2a\x4d\x18" + struct.pack("<I", 3) + b"any" + packed)
    assert [row.values for row in scan_rows(str(path))] == [{"text": "a"}]


def test_names_of_sets_are_names_of_files():
    assert [name_of(path) for path in ("a/d.csv", "a/part-*.csv", "a/b/", "x/a.csv, y/b.csv", ".")] == [
        "d.csv",
        "part-_.csv",
        "b",
        "a.csv_b.csv",
        "data",
    ]
    assert find_files("d.csv") == {"d.csv": ""}
