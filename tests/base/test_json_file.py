"""Whatever a JSON file turns out to be, it is an object or one line."""

import json
import math
import os

import pytest

from amsdff_jax import UserError
from amsdff_jax.base.json_file import DEEPEST_NESTING, LARGEST_FILE, read_json, to_json, write_json


def nested(depth: int) -> bytes:
    return b'{"a": ' * (depth // 2) + b"[" * (depth - depth // 2) + b"]" * (depth - depth // 2) + b"}" * (depth // 2)


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
def test_an_object_is_read_as_it_was_written(start, tmp_path):
    content = {"a": [1, 2.5, None, "ä\n\ud83d"], "b": {}}
    write_json(tmp_path / "a.json", content)
    (tmp_path / "a.json").write_bytes(start + (tmp_path / "a.json").read_bytes())
    assert read_json(tmp_path / "a.json", "an object") == content
    (tmp_path / "deep.json").write_bytes(nested(DEEPEST_NESTING))
    assert len(json.dumps(read_json(tmp_path / "deep.json", "an object"))) > DEEPEST_NESTING


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"cannot be read \(No such file or directory\)"),
        (b"", "not valid JSON"),
        (b'{"a": ', "not valid JSON"),
        ('{"a": "ä"}'.encode("latin-1"), "not valid JSON .*utf-8"),
        ('{"a": 1}'.encode("utf-16"), "not valid JSON .*utf-8"),
        (b'{"a": ' + b"1" * 5000 + b"}", "not valid JSON .*digits"),
        (b"[1, 2]", "holds no JSON object"),
        (b"null", "holds no JSON object"),
        (nested(DEEPEST_NESTING + 1), f"nested more than {DEEPEST_NESTING} deep"),
        (nested(200_000), f"nested more than {DEEPEST_NESTING} deep"),
        (b" " * LARGEST_FILE + b"{}", r"cannot be read \(it has more than 16 MiB\)"),
    ],
)
def test_anything_else_is_one_line_that_names_the_file(content, message, tmp_path):
    if content is not None:
        (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError, match=rf"a\.json: {message}.*; expected a thing; go home$"):
        read_json(tmp_path / "a.json", "a thing; go home")


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zeros").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()
    for name, what in {
        "pipe": "it is no regular file",
        "zeros": "it is no regular file",
        "folder": "it is a folder",
    }.items():
        with pytest.raises(UserError, match=rf"{name}: cannot be read \({what}\); expected a thing"):
            read_json(tmp_path / name, "a thing")


def test_numbers_that_json_has_not_become_null(tmp_path):
    content = {"a": [1.5, math.nan, {"b": -math.inf}], "c": "NaN", "ä": (1, None)}
    write_json(tmp_path / "x.json", content)
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON")) == {
        "a": [1.5, None, {"b": None}], "c": "NaN", "ä": [1, None]
    }  # fmt: skip
    assert to_json([b"x", math.inf], default=lambda value: value.decode()) == '["x", null]'
