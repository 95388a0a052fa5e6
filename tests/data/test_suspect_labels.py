"""What is told of labels that look like slips."""

import pytest

from amsdff_jax.config import DataConfig
from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.data.files import read_file
from amsdff_jax.data.suspect_labels import repeated_headers, suspect_classes


def dataset(names):
    return TextDataset([f"t{row}" for row in range(len(names))], range(len(names)), names)


@pytest.mark.parametrize("word", ["nan", "NaN", "None", "NULL", "NA", "n/a", "#N/A", "<NA>", "NaT", "\u200b", "ＮＡ"])
def test_missing_values_among_the_classes_are_told(word):
    assert suspect_classes(dataset(["pos", word])) == [
        f"1 class reads like a missing value: {word!r} (1 text); leave such rows out"
    ]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Positive", "positive"), ("STRASSE", "straße"), ("pos", "ｐｏｓ"), ("ﾊﾟ", "パ"), ("neg", "neg\u200b"),
        ("né", "ne\u0301"), ("neg", "\ufeffneg"), ("a b", "a\u00a0b"), ("a b", "a  b"), ("❤", "❤\ufe0f"),
        ("x\x00", "x"), ("1", "1.0"), ("1.5", "1.50"), ("01", "1"), ("+1", "1"), ("0", "0.0"), ("１", "1"), ("٣", "3"),
    ],
)  # fmt: skip
def test_two_spellings_of_a_class_are_told(one, other):
    (sentence,) = suspect_classes(dataset(["other", one, other]))
    assert sentence.startswith("classes that differ only in case, width, invisible characters, Unicode form or")
    told = sentence.partition(": ")[2]
    assert {repr(one), ascii(one)} & set(told.replace(" (1 text)", "").split(" and "))
    assert "\u0301" not in told  # what cannot be told apart is written in ASCII


def test_different_classes_are_not_told():
    assert not suspect_classes(
        dataset(["pos", "neg", "1_1", "11", "0", "-0.5", "0.5", "a", "à", "a.b", "ab", "no", "ok"])
    )


def test_many_are_listed_in_short():
    names = [name for number in range(50) for name in (f"class {number}", f"Class {number}")]
    (sentence,) = suspect_classes(dataset(names))
    assert sentence.endswith("'class 7' (1 text) and 'Class 7' (1 text) and 42 more")


def test_two_files_put_together_are_told_when_they_are_read(tmp_path, caplog):
    path = tmp_path / "d.csv"
    path.write_text("text,label\na,pos\nb,nan\ntext,label\nc,Pos\ntext,label\n")
    read = read_file(str(path), DataConfig())
    assert repeated_headers(read, DataConfig()) == ["2 rows are the header again (line 4, line 6); remove it"]
    assert not repeated_headers(read, DataConfig(text_column="t"))
    path.with_name("two.csv").write_text("title,body,label\na,b,pos\ntitle,body,label\nc,d,neg\n")
    two = DataConfig(text_column="title,body")
    assert repeated_headers(read_file(str(path.with_name("two.csv")), two), two)
    caplog.clear()
    read = read_file(str(path), DataConfig())
    assert [record.getMessage().removeprefix(f"{path}: ").split(":")[0][:30] for record in caplog.records] == [
        "1 class reads like a missing v", "classes that differ only in ca", "2 rows are the header again (l",
    ]  # fmt: skip
    caplog.clear()
    read_file(str(path), DataConfig(), read.class_names)
    assert not caplog.records
