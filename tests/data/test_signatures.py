"""A file under a wrong name is named for what it is."""

import bz2
import gzip
import io
import lzma
import pickle
import sqlite3
import tarfile
import zipfile

import numpy as np
import pyarrow
import pyarrow.feather
import pyarrow.parquet
import pytest

from amsdff_jax import UserError
from amsdff_jax.data.files import scan_rows

TABLE = b"text,label\ngood,pos\nbad,neg\n"


def archive(*names):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        for name in names:
            file.writestr(name, TABLE)
    return stream.getvalue()


def written(write):
    stream = io.BytesIO()
    write(stream)
    return stream.getvalue()


def database():
    connection = sqlite3.connect(":memory:")
    connection.execute("create table t (text)")
    return connection.serialize()


def tar(stream):
    with tarfile.open(fileobj=stream, mode="w") as file:
        file.addfile(tarfile.TarInfo("d.csv"))


FILES = {
    "UTF-16": [TABLE.decode().encode(name) for name in ("utf-16", "utf-16-le", "utf-16-be")],
    "UTF-32": [TABLE.decode().encode("utf-32")],
    "gzip": [gzip.compress(TABLE)],
    "a zip archive": [archive("d.csv"), archive()],
    "an Excel workbook": [archive("[Content_Types].xml", "xl/workbook.xml"), archive("_rels/.rels")],
    "an old Excel workbook": [b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504)],
    "Parquet": [written(lambda stream: pyarrow.parquet.write_table(pyarrow.table({"text": ["a"]}), stream))],
    "Arrow": [written(lambda stream: pyarrow.feather.write_feather(pyarrow.table({"text": ["a"]}), stream))],
    "an SQLite database": [database()],
    "a PDF document": [b"%PDF-1.7\n%\xe2\xe3"],
    "bzip2": [bz2.compress(TABLE)],
    "zstd": [pyarrow.compress(TABLE, codec="zstd", asbytes=True)],
    "xz": [lzma.compress(TABLE)],
    "a tar archive": [written(tar)],
    "a Python pickle": [pickle.dumps({"text": ["a"]}, protocol) for protocol in (2, 3, 4, 5)],
    "a NumPy": [written(lambda stream: np.save(stream, np.zeros(3)))],
    "a picture": [b"\x89PNG\r\n\x1a\n"],
    "a Git LFS pointer": [b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"],
    "HTML or XML": [b"\n<!DOCTYPE html><html>", b"<HTML>", b'<?xml version="1.0"?>'],
}


@pytest.mark.parametrize("what", FILES)
@pytest.mark.parametrize("ending", [".csv", ".tsv.gz", ".json", ".jsonl", ".parquet"])
def test_what_it_is_is_told(what, ending, tmp_path):
    if what == "Parquet" and ending == ".parquet":
        return
    path = tmp_path / f"d{ending}"
    for content in FILES[what]:
        path.write_bytes(gzip.compress(content) if ending.endswith("gz") else content)
        with pytest.raises(UserError, match=f"d{ending}: is {what}"):
            list(scan_rows(str(path)))


@pytest.mark.parametrize("header", ["PK", "PAR1", "BZh", "ORC", "Obj", "version", "x<html>", "p\x00q"])
def test_a_header_may_begin_like_another_format(header, tmp_path):
    path = tmp_path / "d.csv"
    path.write_text(f"{header},text\n1,a\n")
    assert [row.values["text"] for row in scan_rows(str(path))] == ["a"]


def test_a_text_may_have_the_letters_of_an_archive_where_that_has_them(tmp_path):
    path = tmp_path / "d.csv"
    text = "m".rjust(257 - len("text\n")) + "ustard and custard"
    path.write_text(f"text\n{text}\n")
    assert path.read_bytes()[257:262] == b"ustar"
    assert [row.values["text"] for row in scan_rows(str(path))] == [text]


@pytest.mark.parametrize(
    ("ending", "name", "other"), [("gz", "gzip", "zstd; .* in .zst"), ("zst", "zstd", "gzip; .*gz")]
)
def test_what_is_named_packed_and_is_not(ending, name, other, tmp_path):
    path = tmp_path / f"d.csv.{ending}"
    contents = {
        TABLE: f"perhaps plain text; name it without .{ending}",
        archive("d.csv"): "a zip archive",
        FILES["gzip" if ending == "zst" else "zstd"][0]: other,
    }
    for content, message in contents.items():
        path.write_bytes(content)
        with pytest.raises(UserError, match=f"not a readable {name} file .*{message}"):
            list(scan_rows(str(path)))
