"""Files behind URLs are read as those of a folder are, and what goes wrong there is one line."""

import functools
import http.server
import importlib.util
import shutil
import threading

import fsspec
import pyarrow
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from pyarrow import csv, parquet

from amsdff_jax import Classifier, UserError
from amsdff_jax.base.files import model_name, user_path
from amsdff_jax.config import DataConfig
from amsdff_jax.data.file_sets import find_files, name_of
from amsdff_jax.data.files import read_file, scan_rows
from amsdff_jax.evaluation.model_card import without_paths
from tests.conftest import write_csv

TEXTS, LABELS = ["good, really", "bad\n", "größer"], ["pos", "neg", "pos"]


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "parts"
    folder.mkdir()
    write_csv(folder / "b.csv", TEXTS, LABELS)
    write_csv(folder / "a.csv", ["one more"], ["neg"])
    write_csv(folder / "_old.csv", ["gone"], ["neg"])
    (folder / "README.md").write_text("no texts")
    (folder / "empty.csv").mkdir()
    return folder


@pytest.fixture
def bucket(folder):
    """The same files, in the memory that fsspec serves as a file system."""
    system = fsspec.filesystem("memory")
    system.put(f"{folder}/", "/bucket/parts", recursive=True)
    yield "memory://bucket/parts"
    system.rm("/bucket", recursive=True)


@pytest.mark.parametrize("path", ["", "/", "/*.csv", "/[ab].csv", "/../*/?.csv", "/b.csv"])
def test_urls_are_read_as_paths_are(path, folder, bucket):
    if ".." in path:
        path, bucket = path.removeprefix("/.."), bucket.removesuffix("/parts")
        folder = folder.parent
    there, here = read_file(f"{bucket}{path}", DataConfig()), read_file(f"{folder}{path}", DataConfig())
    assert (there.texts, there.ids, there.class_names) == (here.texts, here.ids, here.class_names)
    assert there.labels.tolist() == here.labels.tolist()


def test_a_list_may_mix_urls_and_paths(folder, bucket):
    dataset = read_file(f"{bucket}/b.csv, {folder}/a.csv,{bucket}/b.csv", DataConfig())
    assert dataset.texts == [*TEXTS, "one more"]
    assert list(find_files(f"{bucket}/b.csv,{bucket}/a.csv").values()) == ["b.csv", "a.csv"]
    assert name_of(f"{bucket}/b.csv") == "b.csv"


@pytest.mark.parametrize("name", ["t.csv.gz", "t.csv.zst", "t.parquet", "t.jsonl", "t.parquet.gz"])
def test_every_format_and_packing(name, tmp_path, bucket):
    table, file = pyarrow.table({"text": TEXTS, "label": LABELS}), tmp_path / name.removesuffix(".gz")
    if ".csv" in name:
        sink = pyarrow.output_stream(tmp_path / name)  # which packs as the ending says
        with sink:
            csv.write_csv(table, sink)
    elif ".parquet" in name:
        parquet.write_table(table, file)
    else:
        file.write_text("".join(f'{{"text": "row {n}", "label": "{label}"}}\n' for n, label in enumerate(LABELS)))
    if name == "t.parquet.gz":
        with file.open("rb") as plain, pyarrow.output_stream(tmp_path / name) as sink:
            shutil.copyfileobj(plain, sink)
    fsspec.filesystem("memory").put(str(tmp_path / name), f"/bucket/parts/{name}")
    there, here = (read_file(f"{place}/{name}", DataConfig()) for place in (bucket, tmp_path))
    assert len(there) == len(TEXTS)
    assert there.fingerprint == here.fingerprint


def test_what_is_wrong_is_one_line(bucket):
    expected = {
        f"{bucket}/none.csv": "memory://bucket/parts/none.csv: no such file; check the URL",
        f"{bucket}/*.parquet": "memory://bucket/parts/*.parquet: no file that fits this pattern; check the path",
        "unheard-of://b/t.csv": "unheard-of://b/t.csv: cannot be read (Protocol not known: unheard-of); check the URL, "
        "the network and your credentials",
        f"{bucket}/t.txt": "memory://bucket/parts/t.txt: unknown kind of file",
    }
    for url, message in expected.items():
        with pytest.raises(UserError) as error:
            read_file(url, DataConfig())
        assert str(error.value).startswith(message)
    system = fsspec.filesystem("memory")
    system.pipe("/bucket/parts/b.csv", b"text,label\ngood,pos\nbad,\n")
    with pytest.raises(UserError, match=r"parts/b\.csv: line 3, column 'label': "):
        read_file(f"{bucket}/b.csv", DataConfig())


@pytest.mark.skipif(importlib.util.find_spec("s3fs") is not None, reason="s3fs is installed")
def test_a_protocol_without_its_package_says_what_to_install():
    with pytest.raises(UserError, match=r"^s3://bucket/t\.csv: Install s3fs to access S3$"):
        read_file("s3://bucket/t.csv", DataConfig())


def test_a_connection_that_breaks_says_so_in_one_line(bucket):
    class Breaking(MemoryFileSystem):
        protocol = "breaking"

        @classmethod
        def _strip_protocol(cls, path):
            return super()._strip_protocol(path.removeprefix("breaking:/"))

        def _open(self, path, *args, **options):
            stream = super()._open(path, *args, **options)
            stream.read = stream.readinto = self._break
            return stream

        def _break(self, *args):
            raise RuntimeError("connection reset\nby peer")

    fsspec.register_implementation("breaking", Breaking, clobber=True)
    with pytest.raises(UserError, match=r"b\.csv: cannot be read \(connection reset by peer\); check the URL"):
        list(scan_rows("breaking://bucket/parts/b.csv"))


@pytest.mark.skipif(importlib.util.find_spec("aiohttp") is None, reason="needs aiohttp")
def test_over_http(folder):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        assert read_file(f"{address}/b.csv", DataConfig()).texts == TEXTS
        with pytest.raises(UserError, match=r"none\.csv: no such file; check the URL"):
            read_file(f"{address}/none.csv", DataConfig())
        server.shutdown()


def test_a_url_where_a_path_belongs_is_one_line_and_makes_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for use in (user_path, Classifier.from_pretrained, model_name):
        with pytest.raises(UserError, match=r"^s3://bucket/run: expected a path of this machine, got a URL"):
            use("s3://bucket/run")
    assert not list(tmp_path.iterdir())


def test_a_published_model_keeps_the_name_alone():
    settings = {"data": {"train_file": "s3://user:secret@bucket/a.csv,b.csv", "text_column": "text"}}
    assert without_paths(settings) == {"data": {"train_file": "a.csv,b.csv", "text_column": "text"}}
