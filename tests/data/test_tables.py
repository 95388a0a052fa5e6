"""CSV and TSV as people's programs write them: separators, headers, quotes."""

import logging

import pytest

from amsdff_jax import UserError
from amsdff_jax.config import DataConfig
from amsdff_jax.data import lines, tables
from amsdff_jax.data.files import read_file, scan_rows

ROWS = [["text", "label"], ["good", "pos"], ["bad", "neg"]]
TEXTS = ["good", "bad"]


def write(path, content):
    path.write_bytes(content.encode())
    return str(path)


def texts_of(path, **settings):
    return list(read_file(path, DataConfig(**settings)).texts)


def table(delimiter, end="\n"):
    return "".join(delimiter.join(row) + end for row in ROWS)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("d.csv", table(";")),
        ("d.csv", table("\t")),
        ("d.csv", table("|", "\r\n")),
        ("d.tsv", table(",")),
        ("d.csv", "sep=;\r\n" + table(";", "\r\n")),
        ("d.csv", '\ufeff"sep=;"\n' + table(";")),
        ("d.csv", "SEP=\t\n" + table("\t")),
        ("d.csv", "\n\n" + table(";")),
        ("d.csv", table(",", "\r")),
    ],
)
def test_the_header_shows_the_separator(name, content, tmp_path):
    assert texts_of(write(tmp_path / name, content)) == TEXTS


def test_the_usual_separator_goes_first_and_texts_may_hold_the_others(tmp_path):
    path = write(tmp_path / "d.csv", "text,label;x\na;b,c\n")
    assert [row.values["text"] for row in scan_rows(path, ["text"])] == ["a;b"]
    path = write(tmp_path / "e.csv", '"text";"label"\n"a;b";x\nc, d;y\n')
    assert texts_of(path) == ["a;b", "c, d"]


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    [
        ("body;kind\na;b\n", {}, r"line 1: no column 'text', only 'body', 'kind'; .* looks as if ';' separated it"),
        ("text;label\na;b\n", {"delimiter": ","}, "line 1: no column 'text'.*the header looks as if ';' separated it"),
        ("good film,pos\n", {}, r"no column 'text', only 'good film', 'pos'; .* without a header, .*column_names"),
        ("a,b\n", {"column_names": ("one", "label")}, "column_names: no column 'text', only 'one', 'label'"),
        ("a,b,c\n", {"column_names": ("text", "label")}, "line 1: 3 fields, but there are 2 columns"),
        (",".join(map(str, range(100_000))) + "\n", {}, r"no column 'text', only '0', .*'7' and 99,992 more"),
        ("text,label\na\n" + "b,c,d\n" * 4, {}, r"5 of 5 rows cannot be read, .*\(1\) line 2: 1 .*\(3\) line 4: 3 f"),
    ],
)
def test_a_header_that_does_not_fit_is_told_with_the_way_out(content, settings, message, tmp_path):
    with pytest.raises(UserError, match=message) as caught:
        texts_of(write(tmp_path / "d.csv", content), **settings)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("header", [False, True])
def test_names_stand_in_for_a_header(delimiter, header, tmp_path):
    content = table(delimiter) if header else table(delimiter).split("\n", 1)[1]
    for name in ("d.csv", "d.tsv"):
        assert texts_of(write(tmp_path / name, content), column_names=("text", "label")) == TEXTS


def test_settings_say_how_a_table_is_written(tmp_path):
    path = write(tmp_path / "d.csv", 'text~label\n"one ~pos\ntwo"~neg\n')
    assert texts_of(path, delimiter="~", quoting="none") == ['"one ', 'two"']
    path = write(tmp_path / "e.csv", "text\tlabel\na\tx\nb\ty\n")
    assert texts_of(path, delimiter=r"\t") == ["a", "b"]
    for settings in ({"delimiter": "ab"}, {"delimiter": '"'}, {"quoting": "no"}):
        with pytest.raises(UserError, match=f"data.{next(iter(settings))}: expected one"):
            DataConfig(**settings)


LONE_QUOTES = ["plain", '"Alas', "two", '5" screen', 'she said: stop it now"', '"whole"', 'a "b" c']


def test_a_quote_between_tabs_is_a_letter(tmp_path):
    content = "text\tlabel\n" + "".join(f"{text}\tx{place % 2}\n" for place, text in enumerate(LONE_QUOTES))
    assert texts_of(write(tmp_path / "d.tsv", content)) == [
        text if text != '"whole"' else "whole" for text in LONE_QUOTES
    ]
    content = "label\ttext\n" + "".join(f"x{place % 2}\t{text}\n" for place, text in enumerate(LONE_QUOTES))
    assert len(texts_of(write(tmp_path / "e.tsv", content))) == len(LONE_QUOTES)
    assert len(list(scan_rows(write(tmp_path / "f.csv", content), ["text"]))) == len(LONE_QUOTES)  # tabs under .csv


@pytest.mark.parametrize("order", [("text", "label"), ("label", "text")])
def test_quoted_fields_between_tabs_that_swallow_no_row_are_read(order, tmp_path):
    rows = [('two\nlines, ""said""', "pos"), ("tab\there", "neg"), ('""', "pos")]
    values = [{"text": f'"{text}"', "label": label} for text, label in rows]
    content = "".join(
        "\t".join(row[name] for name in order) + "\n" for row in [{name: name for name in order}, *values]
    )
    assert texts_of(write(tmp_path / "d.tsv", content)) == ['two\nlines, "said"', "tab\there", '"']


SWALLOWED = {
    "text,label": '"Alas,neg\nplain two,pos\nstop it now",pos\n',
    "id,text": '1,"Alas\n2,plain two\n3,stop it now"\n',
    "id,text,label": '1,"Alas, he said\n2, plain two,pos\n3,stop it now",pos\n',
}


@pytest.mark.parametrize("header", SWALLOWED)
def test_a_quoted_field_that_may_hold_rows_is_told_unless_settled(header, tmp_path, caplog):
    path = write(tmp_path / "d.csv", f"{header}\n" + 2 * SWALLOWED[header])
    assert len(list(scan_rows(path, ["text"]))) == 2
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(said) == 2
    assert f"{path}: line 2: a quote begins a field that ends in line 4" in said[0]
    assert "quoting=none" in said[0] and "so do the lines of 1 other" in said[1]
    caplog.clear()
    assert len(list(scan_rows(path, ["text"], DataConfig(quoting="double")))) == 2
    assert len(list(scan_rows(path, ["text"], DataConfig(quoting="none")))) == 6
    assert not caplog.records


def test_texts_of_many_lines_are_no_matter(tmp_path, caplog):
    texts = ["Dear all,\nwe met, and\nthen, left", "Hello, friend\nhow are you", "a\nb", "1. x\n\n2. y, z\n"]
    content = "text,label\n" + "".join(f'"{text}",{place % 2}\n' for place, text in enumerate(texts))
    assert texts_of(write(tmp_path / "d.csv", content)) == texts
    assert not caplog.records


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('a,x\n"never,x\nb,x\n', "line 3: the quote that begins a field here is never closed"),
        ('a,x\n"two\nlines","never\nb,x\n', "line 4: the quote that begins a field here is never closed"),
        ('a,x\n"Alas,x\nb,x\n"Oh,x\n', "line 3: the quote that begins a field here is closed in line 5 within a text"),
        ('a,x\n"said "hi" to",x\nb,x\n', "line 3: .*double the quotes within a quoted field, or set quoting=none"),
        ('a,x\n"said \\"hi\\" to",x\nb,x\n', "line 3: .*set quoting=backslash"),
        ('a,x\n"ends so \\"",x\n"b",x\n', "line 3: .*set quoting=backslash"),
        ('a,x\n"a \\", b",x\nb,x\n', "line 3: 3 fields.*set quoting=backslash"),
    ],
)  # fmt: skip
def test_a_quote_that_is_wrong_is_found_and_the_other_rows_are_read(content, message, tmp_path):
    path = write(tmp_path / "d.csv", "text,label\n" + content)
    rows = list(scan_rows(path))
    assert [rows[0].values["text"], rows[-1].error or rows[-1].values["text"]][0] == "a"
    assert {"b"} <= {row.values.get("text") for row in rows}
    with pytest.raises(UserError, match=message):
        texts_of(path)


@pytest.mark.parametrize("ending", ["", "\n", "\n\n"])
def test_a_quote_that_is_never_closed_is_one_line_with_backslashes_too(tmp_path, ending):
    path = write(tmp_path / "e.csv", 'text,label\na,x\n"a \\" b\n' + ending)
    with pytest.raises(UserError, match=r"line 3: the quote that begins a field here is never closed"):
        texts_of(path, quoting="backslash")


def test_backslashes_before_quotes_on_request(tmp_path):
    content = 'text,label\n"C:\\new \\"x\\" \\\\ end\\\\",pos\n"a \\", b",neg\n"two\nlines ""said""",neg\nd\\,e,pos\n'
    path = write(tmp_path / "d.csv", content)
    assert texts_of(path, quoting="backslash") == ['C:\\new "x" \\ end\\', 'a ", b', 'two\nlines "said"', "d,e"]


def test_bounds_hold_before_a_record_is_in_memory(tmp_path, monkeypatch):
    for module in (lines, tables):
        monkeypatch.setattr(module, "LONGEST_TEXT", 1000)
    path = write(tmp_path / "d.csv", 'text,label\n"never,x\n' + "fine,y\n" * 1000)
    rows = list(scan_rows(path))
    assert "line 2: the quote that begins a field here is never closed" in rows[0].error
    assert len(rows) == 1001 and not any(row.error for row in rows[1:])
    path = write(tmp_path / "e.csv", "text,label\na,x\n" + "w" * 1001 + ",y\n")
    with pytest.raises(UserError, match="line 3: longer than 1,000 characters"):
        list(scan_rows(path))
    monkeypatch.setattr(lines, "MOST_EMPTY_LINES", 10)
    assert len(list(scan_rows(write(tmp_path / "f.csv", "text,label\na,x\n" + "\n" * 10 + "b,y\n")))) == 2
    with pytest.raises(UserError, match="line 13: the last of more than 10 empty lines"):
        list(scan_rows(write(tmp_path / "g.csv", "text,label\na,x\n" + "\n" * 11 + "b,y\n")))
