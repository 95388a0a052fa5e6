"""A tokenizer is read from what people have, and one that would fail later is refused when it is loaded."""

import base64
import json
import os
import shutil

import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from amsdff_jax import TextDataset, UserError
from amsdff_jax.data.tokenization import check_vocabulary, load_tokenizer, tokenize
from amsdff_jax.explanation.reading import read_text
from tests.conftest import SPECIAL, WORDS


@pytest.fixture
def folder(tiny_encoder, tmp_path):
    """A folder with the tokenizer's files alone."""
    (tmp_path / "tokenizer").mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_encoder / name, tmp_path / "tokenizer" / name)
    return tmp_path / "tokenizer"


def change(folder, **parts):
    """Replaces parts of `tokenizer.json`."""
    file = folder / "tokenizer.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | parts))


def replace(pattern, content):
    return {"type": "Replace", "pattern": pattern if isinstance(pattern, dict) else {"String": pattern},
            "content": content}  # fmt: skip


def precompiled(written: bytes) -> dict:
    """A map of characters without an entry, beside which something is written."""
    data = (4).to_bytes(4, "little") + bytes(4) + written
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(data).decode()}


@pytest.mark.parametrize(("word", "text"), [("w", "W wx q"), ("W", "W Wx w")])
@pytest.mark.parametrize("beside", ["", "config.json", "tokenizer_config.json"])
def test_a_vocabulary_alone_is_read_as_berts_and_its_capitals_tell_the_case(word, text, beside, tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join([*SPECIAL, word, "##x"]))
    if beside:
        (tmp_path / beside).write_text('{"model_type": "bert"}')
    assert load_tokenizer(tmp_path)(text).input_ids == [2, 5, 5, 6, 1, 3]


@pytest.mark.parametrize("tokenizer_class", ["BertTokenizer", "BertTokenizerFast"])
@pytest.mark.parametrize("model_type", ["", "bert", "distilbert", "amsdff"])
@pytest.mark.parametrize("lower_case", [True, False])
def test_berts_tokenizer_is_what_transformers_finds_by_itself(tokenizer_class, model_type, lower_case, folder):
    settings = {"tokenizer_class": tokenizer_class, "do_lower_case": lower_case, "unk_token": "[UNK]"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    if model_type:
        (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    if model_type == "amsdff":  # whose folders are written by a tokenizer, so that the files agree with each other
        load_tokenizer(folder).save_pretrained(folder)
    own, found = load_tokenizer(folder), AutoTokenizer.from_pretrained(folder)
    found.backend_tokenizer.no_padding()
    found.backend_tokenizer.no_truncation()
    assert own.backend_tokenizer.to_str() == found.backend_tokenizer.to_str()
    assert (own.special_tokens_map, own.pad_token_id) == (found.special_tokens_map, found.pad_token_id)


def test_what_a_configuration_says_of_the_case_holds(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join([*SPECIAL, "w"]))
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    assert load_tokenizer(tmp_path)("w W").input_ids == [2, 5, 1, 3]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"vocab\.txt: is not BERT's vocabulary, in which \[PAD\], \[UNK\], \[CLS\], \[SEP\] would stand"),
        (b"[PAD]\n[CLS]\n[SEP]\na", r"in which \[UNK\] would stand; add the tokenizer\.json"),
        (b"\xff\xfe\x00", "the tokenizer cannot be read"),
    ],
)
def test_another_vocabulary_is_one_line(content, message, tmp_path):
    (tmp_path / "vocab.txt").write_bytes(content)
    with pytest.raises(UserError, match=message):
        load_tokenizer(tmp_path)


def test_the_whole_reason_is_told_in_one_line(folder):
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "NoSuchTokenizer"}')
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("a")
    with pytest.raises(UserError, match=r"cannot be read \(.*\w.*\)$") as caught:
        load_tokenizer(folder)
    assert "\\n" not in str(caught.value)


WITHOUT_UNKNOWN = {"type": "WordPiece", "unk_token": "[NONE]", "continuing_subword_prefix": "##",
                   "max_input_chars_per_word": 100, "vocab": {"[PAD]": 0, "[CLS]": 2, "[SEP]": 3}}  # fmt: skip


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"model": WITHOUT_UNKNOWN}, "cannot read every text .*Missing"),
        ({"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}}, "the tokenizer cannot be read"),
        ({"normalizer": replace("a", "b" * 10**6)}, r"\(Replace\) makes a text more than 1000 times as long"),
        ({"normalizer": replace({"Regex": "."}, "b" * 10**6)}, "more than 1000 times"),
        ({"normalizer": {"type": "Prepend", "prepend": "b" * 10**6}}, "more than 1000 times"),
        ({"normalizer": precompiled(b"a\0" + b"b" * 10**6 + b"\0")}, "more than 1000 times"),
        ({"normalizer": {"type": "Sequence", "normalizers": [replace("a", "aa")] * 40}}, "more than 1000 times"),
        ({"normalizer": {"type": "Sequence", "normalizers": [replace("q", "qqq")] * 30}}, "more than 1000 times"),
        ({"model": None}, "the tokenizer cannot be read"),
        ({"post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 2**32 - 2], "cls": ["[CLS]", 2]}},
         "gives ids up to 4294967294"),
    ],
)  # fmt: skip
def test_a_tokenizer_that_would_fail_later_is_one_line(parts, message, folder):
    change(folder, **parts)
    with pytest.raises(UserError, match=message):
        load_tokenizer(folder)


def test_usual_normalizers_pass(folder):
    emoji = [replace(letter, f" a face that says {letter}{letter} ") for letter in "😀😁😂😃😄😅😆😇😈😉"]
    usual = [{"type": "NFKC"}, {"type": "Lowercase"}, replace({"Regex": " {2,}"}, " "), replace("``", '"'), *emoji]
    change(folder, normalizer={"type": "Sequence", "normalizers": usual})
    assert load_tokenizer(folder)("W3  w5").input_ids == [2, 8, 10, 3]


def test_lengths_in_the_file_count_for_nothing(folder):
    change(folder, padding={"strategy": {"Fixed": 10**15}, "direction": "Right", "pad_to_multiple_of": None,
                            "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"})  # fmt: skip
    assert load_tokenizer(folder)("w3").input_ids == [2, 8, 3]


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "config.json"])
def test_files_that_never_end_are_not_opened(name, folder):
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    with pytest.raises(UserError, match=rf"{name}: cannot be read \(it is no regular file\)"):
        load_tokenizer(folder)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "config.json"])
def test_deep_nesting_is_one_line(name, folder):
    (folder / name).write_text("[" * 200_000)
    with pytest.raises(UserError, match=r"tokenizer|nested"):
        load_tokenizer(folder)


def test_a_text_on_which_a_tokenizer_fails_is_one_line(folder):
    # A regular expression that the library gives up: a panic in Rust.
    split = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
    change(folder, pre_tokenizer=split)
    tokenizer = load_tokenizer(folder)
    dataset = TextDataset(["w3", "a" * 40 + "!"], [0, 1], ("x", "y"))
    with pytest.raises(UserError, match=r"the tokenizer cannot read one of the texts 1 to 2 \(.*retry-limit"):
        tokenize(dataset, tokenizer, 24)
    with pytest.raises(UserError, match=r"the tokenizer cannot read the text \(.*retry-limit"):
        read_text(dataset.texts[1], tokenizer, 24)


def test_ids_beyond_a_vocabulary_are_told_with_the_way_out(folder):
    tokenizer = load_tokenizer(folder)
    check_vocabulary(tokenizer, 5 + len(WORDS), "TOKENIZER")
    tokenizer.add_tokens(["[USER]"])
    with pytest.raises(
        UserError, match=r"^TOKENIZER: the tokenizer gives ids up to 45, but the .* has 45; use the enc"
    ):
        check_vocabulary(tokenizer, 45, "TOKENIZER")
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    assert backend.encode("[USER]").ids[1] == 45
