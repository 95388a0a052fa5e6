"""JSON: an object a line, or a list of objects that is never held whole."""

import json

import pytest

from amsdff_jax import UserError
from amsdff_jax.config import DataConfig
from amsdff_jax.data import json_rows
from amsdff_jax.data.files import read_file, scan_rows

ROWS = [
    {"text": "good \u2028 é", "label": "pos", "more": [{"a": None}, 1.5]},
    {"text": 'bad "\\" ]},', "label": "neg", "more": {}},
    {"text": "long " * 50, "label": "neg"},
]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("chunk", [1, 7, 1 << 16])
def test_a_list_is_read_part_by_part(indent, chunk, tmp_path, monkeypatch):
    monkeypatch.setattr(json_rows, "CHUNK", chunk)
    path = tmp_path / "d.json"
    path.write_text("\ufeff \n" + json.dumps(ROWS, indent=indent, ensure_ascii=False) + "\n", encoding="utf-8")
    rows = list(scan_rows(str(path)))
    assert [row.values for row in rows] == ROWS
    assert [row.place for row in rows] == ["row 1", "row 2", "row 3"]


@pytest.mark.parametrize("name", ["d.json", "d.ndjson", "d.jsonl"])
def test_an_object_a_line(name, tmp_path):
    path = tmp_path / name
    path.write_text("\n".join(map(json.dumps, ROWS)))
    assert [row.values for row in scan_rows(str(path))] == ROWS


def test_a_bad_item_does_not_hide_the_others(tmp_path):
    path = tmp_path / "d.json"
    path.write_bytes(b'[{"text": "a"}, 12, "b", null, {"text": "c\xe9"}, {"text": "d"}]')
    rows = list(scan_rows(str(path)))
    assert [row.values.get("text") for row in rows] == ["a", None, None, None, None, "d"]
    assert all(row.error.startswith(row.place) for row in rows[1:5])
    assert "not valid UTF-8" in rows[4].error


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("d.json", "", "is empty"),
        ("d.json", "[]", "holds no rows"),
        ("d.json", '[{"text": "a", "label": "x"}', r"line 1: not valid JSON \(expected ','\)"),
        ("d.json", '[{"text": "a", "label": "x"}\n {}]', r"line 2: not valid JSON \(expected ','\)"),
        ("d.json", '[\n{"text": "a",\n "label": x}]', r"line 3: not valid JSON \(Expecting value\)"),
        ("d.json", '[{"text": "a", "label": "x"}]\n[]', "line 2: .*more after the end of the list"),
        ("d.json", "text,label\n", r"line 1: not valid JSON \(expected '\['\); expected a list of objects"),
        ("d.json", '{\n "data": []\n}', "holds one object of many lines; expected a list of objects"),
        ("d.json", "[" * 100_000, "line 1: not valid JSON .*recursion"),
        ("d.json", "[1" + "0" * 5000 + "]", "line 1: not valid JSON .*digits"),
        ("d.jsonl", '[\n{"text": "a"}]', r"line 1: expected an object a line; .* list of objects ends in \.json"),
        (
            "d.jsonl",
            '{"text": ' + "[" * 300 + "]" * 300 + "}",
            r"line 1, column 'text': .*, got \[\[\[\[\.\.\.\]\]\]\]",
        ),
    ],
)
def test_what_is_no_list_is_told_with_its_line(name, content, message, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        read_file(str(tmp_path / name), DataConfig())
    assert len(str(caught.value)) < 500


def test_an_item_without_an_end_is_not_held(tmp_path, monkeypatch):
    monkeypatch.setattr(json_rows, "LONGEST_TEXT", 1000)
    monkeypatch.setattr(json_rows, "CHUNK", 10)
    (tmp_path / "d.json").write_text('[{"text": "' + "w" * 10_000)
    with pytest.raises(UserError, match="within 1,000 characters"):
        list(scan_rows(str(tmp_path / "d.json")))
