"""Names and texts of others change nothing where they are shown."""

import csv
import io

import pytest

from amsdff_jax.base.escaping import csv_line, printable, shorten, spreadsheet_cell


def test_what_cannot_be_seen_is_printed_as_an_escape():
    assert printable("é 文 🙂 مرح") == "é 文 🙂 مرح"
    assert printable("a\nb\t\x1b[31m\x9b\u202e\u2028\ud800") == r"a\nb\t\x1b[31m\x9b\u202e\u2028\ud800"


def test_shortened_texts_keep_both_ends():
    assert shorten("abc", 3) == "abc"
    short = shorten("a" * 100 + "z" * 100, 40)
    assert len(short) <= 40 and short.startswith("aaa") and short.endswith("zzz") and "…" in short


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"])
def test_no_spreadsheet_takes_a_text_for_a_formula(start):
    stream = io.StringIO()
    csv.writer(stream).writerow([spreadsheet_cell(f"{start}HYPERLINK(1)"), spreadsheet_cell(f"x{start}1")])
    assert next(csv.reader(io.StringIO(stream.getvalue(), newline=""))) == [f"'{start}HYPERLINK(1)", f"x{start}1"]


@pytest.mark.parametrize("text", ["a\rb", "a\r", "\r", "a\r\n", "\n", 'a "b", c', "plain", ""])
def test_a_row_of_csv_is_one_row_for_its_readers(text):
    lines = csv_line(["x", text]) + csv_line([1, text])
    assert list(csv.reader(io.StringIO(lines, newline=""))) == [["x", text], ["1", text]]
    assert csv_line(["plain", 1]) == "plain,1\n"


@pytest.mark.parametrize("text", ["-1", "+2.5", "", "'", "a=b"])
def test_numbers_and_other_texts_are_left_as_they_are(text):
    assert spreadsheet_cell(text) == text
