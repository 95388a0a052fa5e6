"""Whatever a JSON file turns out to be, it is an object or one line; what is written is whole or as it was."""

import json
import math
import os
from pathlib import Path

import pytest

from amsdff_jax import UserError
from amsdff_jax.base.files import (
    DEEPEST_NESTING,
    LARGEST_FILE,
    atomic_folder,
    atomic_write,
    read_json,
    to_json,
    user_errors,
    write_json,
)


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


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_file_is_whole_or_as_it_was(error, shared, tmp_path):
    file = tmp_path / "a.txt"
    for content in ("one", "two"):
        with atomic_write(file, shared=shared) as temporary:
            temporary.write_text(content)
        assert file.read_text() == content
    with pytest.raises(error), atomic_write(file, shared=shared) as temporary:
        temporary.write_text("half")
        raise error
    with pytest.raises(error), atomic_write(file, shared=shared):
        raise error
    assert file.read_text() == "two" and list(tmp_path.iterdir()) == [file]


def test_a_folder_is_whole_or_as_it_was(tmp_path):
    folder = tmp_path / "parent" / "a"
    for content in ("one", "two"):
        with atomic_folder(folder) as partial:
            (partial / content).write_text("")
        assert [file.name for file in folder.iterdir()] == [content]
    with pytest.raises(KeyboardInterrupt), atomic_folder(folder) as partial:
        (partial / "three").write_text("")
        raise KeyboardInterrupt
    with atomic_folder(folder) as partial:
        partial.rmdir()
    assert [file.name for file in folder.iterdir()] == ["two"] and list(folder.parent.iterdir()) == [folder]


def test_a_new_folder_touches_none_beside_it_and_brings_the_former_back(tmp_path, monkeypatch):
    for name in ("a", "a.partial", "a.former"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine").write_text("")
    rename = Path.rename

    def full(folder, target):
        if "amsdff-partial" in folder.name:
            raise OSError("no room")
        return rename(folder, target)

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(OSError, match="no room"), atomic_folder(tmp_path / "a"):
        pass
    assert {file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*") if file.is_file()} == {
        "a/mine", "a.partial/mine", "a.former/mine",
    }  # fmt: skip
    assert len(list(tmp_path.iterdir())) == 3
    monkeypatch.undo()
    (tmp_path / "a").rename(tmp_path / ".a.amsdff-former")  # as one that was killed has left it
    (tmp_path / ".a.amsdff-partial").mkdir()
    with pytest.raises(KeyboardInterrupt), atomic_folder(tmp_path / "a"):
        raise KeyboardInterrupt
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a", "a.former", "a.partial"]
    assert (tmp_path / "a" / "mine").exists()


def test_errors_of_the_system_are_one_line_but_for_a_reader_who_has_gone(tmp_path):
    message = r"a/b: cannot be read \(No such file or directory\); go home$"
    with pytest.raises(UserError, match=message), user_errors("a/b", "read", "go home"):
        (tmp_path / "a").read_text()
    with pytest.raises(UserError, match=r"--x: cannot be written \(it is full\)$"), user_errors("--x", "written"):
        raise OSError("it is full")
    with pytest.raises(BrokenPipeError), user_errors("a", "written"):
        raise BrokenPipeError
