import collections
import unicodedata

import pytest

from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.data.sources import DataSplits
from amsdff_jax.inspection.corpus import Corpus
from amsdff_jax.inspection.writing_systems import find_writing_systems, script_of


def dataset(*texts):
    return TextDataset(list(texts), [0] * len(texts), ("A", "B"))


@pytest.mark.parametrize(
    ("letters", "script"),
    [
        ("aZéßøŁﬁª", "Latin"), ("яЖі", "Cyrillic"), ("αΩ", "Greek"), ("אב", "Hebrew"), ("عب", "Arabic"),
        ("हक", "Devanagari"), ("漢字〆", "Han"), ("ひ", "Hiragana"),
        ("カｶー", "Katakana"), ("한ㄱ", "Hangul"), ("ไ", "Thai"),
        ("ａ", "Latin"), ("µ𝐀", "other"),
    ],
)  # fmt: skip
def test_scripts_of_letters(letters, script):
    assert {script_of(letter) for letter in letters} == {script}


def test_every_letter_of_a_living_script_has_one():
    other = collections.Counter(
        script_of(chr(code)) for code in range(0x250) if unicodedata.category(chr(code)).startswith("L")
    )
    assert other.keys() == {"Latin", "other"}
    assert other["other"] == 1  # µ


def test_letters_and_main_scripts_are_counted_by_split():
    train, validation = find_writing_systems(
        Corpus(
            DataSplits(dataset("Three words here", "Привет, Bob", "123 !?", "日本のこと"), dataset("Γειά", "ok"), None)
        )
    )
    assert train.letters == {"Latin": 14 + 3, "Cyrillic": 6, "Hiragana": 3, "Han": 2}
    assert train.main == {"Latin": 1, "Cyrillic": 1, "Japanese": 1}
    assert [sample.id for sample in train.foreign] == ["1", "3"]
    assert validation.letters == {"Greek": 4, "Latin": 2}


def test_a_text_in_another_script_is_shown():
    systems, _ = find_writing_systems(Corpus(DataSplits(dataset("one", "two", "три"), dataset("four"), None)))
    assert [sample.text for sample in systems.foreign] == ["три"]
