"""Files: what is accepted, and one clear line for everything else."""

import gzip
import json

import pyarrow
import pyarrow.parquet
import pytest

from amsdff_jax import UserError
from amsdff_jax.config import DataConfig
from amsdff_jax.data.files import read_file, scan_rows

ROWS = [("a, b", "x"), ("", "y"), ('say "hi"\nthere', "x"), ("emoji 😀 \u2028 end", "y"), ("nul\x00byte", "x")]


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def delimited(delimiter: str) -> bytes:
    lines = [("text", "label"), *ROWS]
    return "".join(f"{quoted(text)}{delimiter}{label}\n" for text, label in lines).encode()


def zstd(content: bytes) -> bytes:
    return pyarrow.compress(content, codec="zstd", asbytes=True)


def parquet(path) -> None:
    columns = {"text": [text for text, _ in ROWS], "label": [label for _, label in ROWS]}
    pyarrow.parquet.write_table(pyarrow.table(columns), path)


NAMES = "d.csv d.tsv d.jsonl d.parquet d.csv.gz d.jsonl.gz d.csv.zst d.jsonl.ZST D.CSV bom.csv"


@pytest.mark.parametrize("name", NAMES.split())
def test_all_formats_hold_the_same(name, tmp_path):
    path = tmp_path / name
    if "parquet" in name:
        parquet(path)
    else:
        lines = (json.dumps({"text": text, "label": label}, ensure_ascii=False) + "\n" for text, label in ROWS)
        content = "".join(lines).encode() if "jsonl" in name else delimited("\t" if "tsv" in name else ",")
        content = b"\xef\xbb\xbf" + content if "bom" in name else content
        pack = {"gz": gzip.compress, "zst": zstd}.get(name.lower().split(".")[-1], bytes)
        path.write_bytes(pack(content))
    dataset = read_file(str(path), DataConfig())
    assert list(dataset.texts) == [text for text, _ in ROWS]
    assert dataset.class_names == ("x", "y")
    assert dataset.labels.tolist() == [0, 1, 0, 1, 0]


def test_very_long_texts_are_data(tmp_path):
    path = tmp_path / "long.csv"
    path.write_text("text,label\n" + "word " * 100_000 + ",a\nb,b\n")
    assert len(read_file(str(path), DataConfig()).texts[0]) == 500_000


def test_integers_sort_as_numbers(tmp_path):
    path = tmp_path / "d.csv"
    path.write_text("text,label\na,10\nb,9\nc,-1\nd,10\n")
    dataset = read_file(str(path), DataConfig())
    assert dataset.class_names == ("-1", "9", "10")
    assert dataset.labels.tolist() == [2, 1, 0, 2]


def test_names_that_look_like_numbers_on_request(tmp_path):
    path = tmp_path / "d.csv"
    path.write_text("text,label\na,10\nb,9\nc,none\n")
    assert read_file(str(path), DataConfig(label_type="name")).class_names == ("10", "9", "none")


def test_pairs_and_column_names(tmp_path):
    path = tmp_path / "d.tsv"
    path.write_text("one\ttwo\tkind\np\tq\tyes\nr\ts\tno\n")
    config = DataConfig(text_column="one", text_pair_column="two", label_column="kind")
    dataset = read_file(str(path), config)
    assert (dataset.texts, dataset.text_pairs) == (["p", "r"], ["q", "s"])
    assert dataset.ids == ["line 2", "line 3"]


PARTS = [
    {"title": "one", "body": "two", "more, or less": "three", "label": "x"},
    {"title": "", "body": "  ", "more, or less": " four\n", "label": "y"},
    {"title": "five", "body": "", "more, or less": "six", "label": "x"},
]


@pytest.mark.parametrize("name", ["d.csv", "d.tsv", "d.json", "d.jsonl", "d.parquet"])
def test_several_columns_make_one_text_of_what_is_not_empty(name, tmp_path):
    path, table = tmp_path / name, pyarrow.Table.from_pylist(PARTS)
    nulls = [{key: value if value.strip() else None for key, value in row.items()} for row in PARTS]
    if "parquet" in name:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(nulls), path)
    elif "json" in name:
        path.write_text(json.dumps(nulls) if name == "d.json" else "\n".join(map(json.dumps, nulls)))
    else:
        delimiter = "\t" if "tsv" in name else ","
        rows = [table.column_names, *(row.values() for row in PARTS)]
        path.write_text("".join(delimiter.join(map(quoted, row)) + "\n" for row in rows))
    config = DataConfig(text_column='title,body,"more, or less"')
    assert read_file(str(path), config).texts == ["one two three", " four\n", "five six"]
    pairs = read_file(str(path), DataConfig(text_column='"more, or less"', text_pair_column='title,"more, or less"'))
    assert pairs.texts == ["three", " four\n", "six"]  # a single one as it is
    assert pairs.text_pairs == ["one three", " four\n", "five six"]
    with pytest.raises(UserError, match=r"no column 'bodi', only .*; did you mean body\?") as caught:
        read_file(str(path), DataConfig(text_column="title,bodi"))
    assert "\n" not in str(caught.value)


def test_a_row_of_nothing_but_missing_values_is_told(tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_text('{"title": null, "body": null, "label": "x"}\n{"title": "a", "body": 3, "label": "y"}\n')
    with pytest.raises(
        UserError, match=r"2 of 2 rows .*line 1, column 'title': expected a text, got None .*line 2, co"
    ):
        read_file(str(path), DataConfig(text_column="title,body"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("d.csv", None, "cannot be read .*No such file"),
        ("d.txt", b"a", r"unknown kind of file; expected a name ending in \.csv"),
        ("d.csv", b"", "is empty"),
        ("d.csv", b"\n\n", "is empty"),
        ("d.csv", b"text,label\n", "holds no rows"),
        ("d.csv", b"txet,label\na,b\n", r"line 1: no column 'text', only 'txet', 'label'; did you mean txet\?"),
        ("d.csv", b"text,label\na,b\nc\n", r"line 3: 1 fields, but there are 2 columns \(text, label\)"),
        ("d.csv", b'text,label\na,b\n"c,d\n', "line 3: "),
        ("d.csv", b"text,label\na,b\nc\xe9,d\n", r"line 3, byte 2: not valid UTF-8 \(0xe9\)"),
        ("d.csv", b"text,label\na,b\nc,\n", "line 3, column 'label': expected a class name or a number, got ''"),
        ("d.csv", b"text,label,text\na,b,c\n", "has more than one column 'text'"),
        ("d.csv", b"text,label\na,1\nb,2\nc,x\n", "line 4, column 'label': 'x' is not a number"),
        ("d.csv", b"text,label\na,b\nc,b\n", "column 'label' holds a single class, 'b'"),
        ("d.jsonl", b'{"text": "a", "label": "x"}\n{"text": \n', "line 2: not valid JSON"),
        ("d.jsonl", b'[1]\n', "line 1: expected an object"),
        ("d.jsonl", b'{"text": 3, "label": "x"}\n', "line 1, column 'text': expected a text, got 3"),
        ("d.jsonl", b'{"text": "a", "label": [[1]]}\n', r"line 1, column 'label': expected a class name .* got \[1\]"),
        ("d.jsonl", b'{"text": "a", "label": "\\ud83d"}\n', "line 1, column 'label': .* holds half of a character"),
        ("d.csv.gz", b"no gzip", "not a readable gzip file"),
        ("d.parquet", b"no parquet", "not a readable Parquet file"),
    ],
)  # fmt: skip
def test_bad_files_are_named_with_row_and_column(name, content, message, tmp_path):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_file(str(path), DataConfig())
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_label_that_training_never_saw(tmp_path):
    path = tmp_path / "d.csv"
    path.write_text("text,label\na,good\nb,goood\n")
    with pytest.raises(UserError, match=r"line 3, column 'label': training never saw the label 'goood'.*mean good\?"):
        read_file(str(path), DataConfig(), ("bad", "good"))


def test_row_numbers_count_lines_inside_quotes(tmp_path):
    path = tmp_path / "d.csv"
    path.write_text('text,label\n"two\nlines",a\nb,b\n')
    assert read_file(str(path), DataConfig()).ids == ["line 2", "line 4"]


BAD_ROWS = {
    "d.csv": b'text,label\na,x\nb\nc\xe9,x\n"d"e,x\nf,x\n',
    "d.tsv": b'text\tlabel\na\tx\nb\nc\xe9\tx\n"d\nf\tx\n',
    "d.jsonl": b'{"text": "a"}\n{"text": \n{"text": "c\xe9"}\n[]\n{"text": "f"}\n',
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_broken_record_does_not_hide_the_others(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(BAD_ROWS[name])
    rows = list(scan_rows(str(path)))
    assert [row.values.get("text") for row in rows] == ["a", None, None, None, "f"]
    first = 2 if name != "d.jsonl" else 1
    assert [row.place for row in rows] == [f"line {first + number}" for number in range(5)]
    for row in rows[1:4]:
        assert row.error.startswith(row.place)
        assert not row.values


def test_columns_without_a_name_may_be_many(tmp_path):
    path = tmp_path / "d.csv"
    path.write_text("text,label,,\na,x,,\nb,y,,\n")
    assert read_file(str(path), DataConfig()).texts == ["a", "b"]


@pytest.mark.parametrize(("ending", "pack", "name"), [("gz", gzip.compress, "gzip"), ("zst", zstd, "zstd")])
def test_what_comes_before_the_damage_is_read(ending, pack, name, tmp_path):
    path, rows = tmp_path / f"d.csv.{ending}", b"a,b\n" * 50_000
    halves = [pack(b"text,label\n" + rows), pack(b"c,d\n" + rows)]
    for content in (halves[0][:-10], halves[0] + halves[1][:-10], halves[0] + b"other"):
        path.write_bytes(content)
        scanned = scan_rows(str(path))
        if content != halves[0][:-10] or ending == "gz":  # zstd has it all in one block
            assert next(scanned).values == {"text": "a", "label": "b"}
        with pytest.raises(UserError, match=f"d.csv.{ending}: not a readable {name} file"):
            list(scanned)
    path.write_bytes(b"".join(halves))
    assert len(list(scan_rows(str(path)))) == 100_001
