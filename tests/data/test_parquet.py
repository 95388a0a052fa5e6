"""Parquet: only what is asked for counts, and every value there is becomes one that can be written."""

import gzip
import json

import pyarrow
import pyarrow.parquet
import pytest

from amsdff_jax import UserError
from amsdff_jax.config import DataConfig
from amsdff_jax.data import parquet
from amsdff_jax.data.files import read_file, scan_rows
from amsdff_jax.data.rows import text_of

TEXTS = ["good", "bad"]
LABELS = ["pos", "neg"]
ODD = {
    "nanoseconds": pyarrow.array([1_000, 1_001], pyarrow.timestamp("ns")),
    "zone": pyarrow.array([1_000, 1_001], pyarrow.timestamp("ns", tz="UTC")),
    "time": pyarrow.array([1, 2], pyarrow.time64("ns")),
    "duration": pyarrow.array([1, 2], pyarrow.duration("ns")),
    "far": pyarrow.array([1, 4_000_000], pyarrow.date32()),
    "very far": pyarrow.array([1, 2**60], pyarrow.timestamp("ms")),
    "broken": pyarrow.array([b"a", b"\xe9"]).view(pyarrow.string()),
    "bytes": pyarrow.array([b"a", b"\xe9"]),
    "nested": pyarrow.array([[1], [1, 1_001]], pyarrow.list_(pyarrow.timestamp("ns"))),
    "none": pyarrow.nulls(2),
    "category": pyarrow.array(["x", "y"]).dictionary_encode(),
    "a.b": pyarrow.array([1, 2]),
}


def write(path, **columns):
    names, arrays = zip(*columns.items(), strict=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_arrays(list(map(pyarrow.array, arrays)), names), path)
    return str(path)


@pytest.mark.parametrize("name", ODD)
def test_a_column_that_is_not_asked_for_is_no_matter(name, tmp_path):
    path = write(tmp_path / "d.parquet", text=TEXTS, label=LABELS, **{name: ODD[name]})
    assert read_file(path, DataConfig()).texts == TEXTS


@pytest.mark.parametrize("name", ODD)
def test_every_value_that_is_kept_can_be_written(name, tmp_path):
    path = write(tmp_path / "d.parquet", text=TEXTS, **{name: ODD[name]})
    rows = list(scan_rows(path, ["text", name]))
    assert [row.values["text"] for row in rows] == TEXTS
    json.dumps([row.values[name] for row in rows], default=str)


def test_points_in_time_are_text_of_all_their_digits(tmp_path):
    path = write(tmp_path / "d.parquet", **ODD)
    first, second = (row.values for row in scan_rows(path))
    assert second["nanoseconds"] == "1970-01-01 00:00:00.000001001"
    assert (first["far"], second["far"]) == ("1970-01-02", "12921-08-18")
    assert "1001" in str(second["nested"])  # of pandas' kind where it is installed


def test_columns_of_one_name(tmp_path):
    arrays = [pyarrow.array(values) for values in (TEXTS, LABELS, [1, 2], [3, 4])]
    path = tmp_path / "d.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_arrays(arrays, ["text", "label", "score", "score"]), path)
    assert read_file(str(path), DataConfig()).texts == TEXTS
    pyarrow.parquet.write_table(pyarrow.Table.from_arrays(arrays, ["text", "label", "text", "score"]), path)
    with pytest.raises(UserError, match="has more than one column 'text'"):
        read_file(str(path), DataConfig())


def test_text_as_bytes_is_text_and_what_is_not_utf8_is_one_bad_row(tmp_path):
    assert read_file(write(tmp_path / "d.parquet", text=[b"good", b"bad"], label=LABELS), DataConfig()).texts == TEXTS
    for name in ("broken", "bytes"):
        rows = list(scan_rows(write(tmp_path / "e.parquet", text=ODD[name]), ["text"]))
        assert text_of(rows[0], ["text"]) == "a"
        with pytest.raises(UserError, match="row 2, column 'text': not valid UTF-8"):
            text_of(rows[1], ["text"])


@pytest.mark.parametrize("value", ["w" * 2000, list(range(2000))])
def test_a_value_that_is_too_large_is_an_error_of_its_row(value, tmp_path, monkeypatch):
    texts = [str(number) for number in range(40)]
    path = write(tmp_path / "d.parquet", text=texts, kept=[value[:1]] * 20 + [value] + [value[:1]] * 19)
    monkeypatch.setattr(parquet, "LONGEST_TEXT", 1000)
    assert [row.values["text"] for row in scan_rows(path, ["text"])] == texts
    rows = list(scan_rows(path, ["text", "kept"]))
    assert [row.values.get("text") for row in rows] == [*texts[:20], None, *texts[21:]]
    assert rows[20].error.startswith("row 21, column 'kept': ")
    monkeypatch.setattr(parquet, "LONGEST_TEXT", 10)  # on average: nothing of these rows is decoded
    rows = list(scan_rows(path, ["text", "kept"]))
    assert [row.error.split(":")[0] for row in rows] == ["rows 1 to 40, column 'kept'"] * 40


def test_texts_that_share_a_dictionary_are_measured_one_by_one(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "LONGEST_TEXT", 1000)
    texts = pyarrow.array([f"{number} " + "w" * 100 for number in range(40)]).dictionary_encode()
    rows = list(scan_rows(write(tmp_path / "d.parquet", text=texts)))
    assert [row.values["text"] for row in rows] == texts.to_pylist()


def test_row_groups_are_counted_through(tmp_path):
    table = pyarrow.table({"text": [str(number) for number in range(7)]})
    pyarrow.parquet.write_table(table, tmp_path / "d.parquet", row_group_size=3)
    rows = list(scan_rows(str(tmp_path / "d.parquet")))
    assert [(row.place, row.values["text"]) for row in rows] == [(f"row {n + 1}", str(n)) for n in range(7)]


@pytest.mark.parametrize("ending", ["gz", "zst"])
def test_packed_as_a_whole(ending, tmp_path, monkeypatch):
    content = (tmp_path / "d.parquet", write(tmp_path / "d.parquet", text=TEXTS, label=LABELS))[0].read_bytes()
    path = tmp_path / f"d.parquet.{ending}"
    packed = gzip.compress(content) if ending == "gz" else pyarrow.compress(content, codec="zstd", asbytes=True)
    path.write_bytes(packed)
    assert read_file(str(path), DataConfig()).texts == TEXTS
    monkeypatch.setattr(parquet, "LARGEST_PACKED", len(content) - 1)
    with pytest.raises(UserError, match=rf"d.parquet.{ending}: holds more than .* unpack it"):
        list(scan_rows(str(path)))
