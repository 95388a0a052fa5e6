import pytest

from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.data.sources import DataSplits
from amsdff_jax.inspection.corpus import EXCERPT, Corpus, excerpt, printable
from amsdff_jax.inspection.encodings import CHECKS, check, find_text_issues


def dataset(texts, pairs=None):
    return TextDataset(texts, [0] * len(texts), ("A", "B"), text_pairs=pairs)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("empty", ""),
        ("empty", " \t\n\u00a0\u3000"),
        ("replacement characters", "caf\ufffd"),
        *(
            ("mojibake", text.encode().decode("latin-1"))
            for text in ("café", "naïve", "it’s", "20 £", "Привет", "😀", "日本")
        ),
        *(("mojibake", text.encode().decode("cp1252")) for text in ("café", "it’s", "“so", "20 €", "😀")),
        ("lone surrogates", "half \ud83d"),
        ("NULs", "a\0b"),
        ("control characters", "bell\x07"),
        ("control characters", "Windows\x92s quote"),
        ("invisible characters", "zero\u200bwidth"),
        ("invisible characters", "\ufefftext"),
        ("HTML entities", "S&amp;M"),
        ("HTML entities", "caf&eacute;"),
        ("HTML entities", "it&#39;s &#x2019;"),
        ("HTML entities", "Canada #39;s team"),
        ("HTML entities", "said  quot;no quot;"),
        ("HTML tags", "one<br />two"),
        ("HTML tags", "<B>bold</B>"),
        ("HTML tags", '<a href="page">here</a>'),
        ("decomposed letters", "cafe\u0301"),
    ],
)
def test_what_is_wrong_is_found_and_where(name, text):
    found = check((text,))
    assert name in found
    assert found[name] == [next(one for one in CHECKS if one.name == name).find(text)]


@pytest.mark.parametrize(
    "text",
    [
        "A plain text, with a tab\tand a\r\nnewline.",
        "Fünf große Äpfel, naïve, São João, NÃO, Âge, â, « CAFÉ », Ð and Ñ",
        "Привет, мир. Γειά. 日本語。 한국어 العربية हिन्दी",
        "👩‍👩‍👧 and ❤️",
        "AT&T; R&D; a < b and c > d; x<y, <unknown>; item #5; room A#12; #hashtag",
        "if a<b and c>d",
        "می‌خواهم",  # with a zero-width non-joiner, which Persian needs
    ],
)
def test_what_is_right_is_left_alone(text):
    assert check((text,)) == {}


def test_oddities_are_counted_by_split_with_the_place_in_the_excerpt():
    long = "x" * 5000 + "caf\ufffd" + "y" * 5000
    corpus = Corpus(DataSplits(dataset(["fine", "", " "]), dataset(["fine"]), dataset([long, "so \ufffd"])))
    found = {(issue.name, issue.split): issue for issue in find_text_issues(corpus)}
    assert {key: issue.texts for key, issue in found.items()} == {
        ("empty", "train"): 2, ("replacement characters", "test"): 2,
    }  # fmt: skip
    assert [sample.id for sample in found["empty", "train"].examples] == ["1", "2"]
    assert "caf\ufffdyyy" in found["replacement characters", "test"].examples[0].text


def test_both_texts_of_a_pair_are_looked_at():
    pairs = dataset(["fine", "caf\ufffd"], pairs=["", "fine"])
    corpus = Corpus(DataSplits(pairs, dataset(["fine"], pairs=["fine"]), None))
    assert [(issue.name, issue.examples[0].id) for issue in find_text_issues(corpus)] == [
        ("empty", "0"), ("replacement characters", "1"),
    ]  # fmt: skip


def test_excerpts_show_the_place_and_nothing_that_harms_a_terminal():
    text = "".join(chr(0x4E00 + index) for index in range(1000))
    for place in (0, 59, 500, 999):
        assert text[place] in excerpt(text, place)
        assert len(excerpt(text, place)) <= EXCERPT + 2
    assert excerpt("short\x1b[31m\u202e\ud800\n") == r"short\x1b[31m\u202e\ud800\n"
    assert printable("naïve 日本 😀") == "naïve 日本 😀"
