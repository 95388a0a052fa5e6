"""A tokenizer that was saved is the same without transformers as with it."""

import json

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from amsdff_jax import UserError
from amsdff_jax.data.saved_tokenizer import SavedTokenizer
from amsdff_jax.data.tokenization import load_saved_tokenizer, load_tokenizer, save_tokenizer, tokenize
from amsdff_jax.explanation.reading import read_text
from tests.data.test_tokenization import KINDS, TEXTS, dataset


@pytest.fixture
def tokenizer(tiny_encoder):
    return load_tokenizer(tiny_encoder)


def unigram():
    vocabulary = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁w", -1.0), ("w", -2.0), ("1", -2.5)]
    backend = Tokenizer(models.Unigram(vocabulary, unk_id=3))
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    backend.post_processor = processors.TemplateProcessing(
        "<s> $A </s>", "<s> $A </s> </s> $B </s>", [("<s>", 0), ("</s>", 2)]
    )
    names = {"pad_token": "<pad>", "unk_token": "<unk>", "cls_token": "<s>", "sep_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)


ALL = KINDS | {"unigram": lambda own: unigram()}


@pytest.mark.parametrize("kind", ALL)
def test_it_is_what_transformers_reads_and_writes(kind, tokenizer, tmp_path):
    for name in ("once", "twice"):
        (tmp_path / name).mkdir()
    save_tokenizer(ALL[kind](tokenizer), tmp_path / "once", 12)
    found, expected = load_saved_tokenizer(tmp_path / "once"), load_tokenizer(tmp_path / "once")
    assert isinstance(found, SavedTokenizer)
    for name in ("pad_token", "pad_token_id", "unk_token_id", "cls_token_id", "sep_token_id", "truncation_side"):
        assert getattr(found, name) == getattr(expected, name), name
    for pairs in (None, TEXTS[::-1]):
        for length in (6, 50):
            here, there = (tokenize(dataset(TEXTS, pairs), one, length) for one in (found, expected))
            for field in ("token_ids", "offsets", "truncated"):
                np.testing.assert_array_equal(getattr(here, field), getattr(there, field))
    assert [read_text(text, found, 6) for text in TEXTS] == [read_text(text, expected, 6) for text in TEXTS]
    save_tokenizer(found, tmp_path / "twice", 12)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "twice" / name).read_bytes() == (tmp_path / "once" / name).read_bytes(), name
    again = AutoTokenizer.from_pretrained(tmp_path / "twice")(TEXTS, truncation=True)["input_ids"]
    assert again == AutoTokenizer.from_pretrained(tmp_path / "once")(TEXTS, truncation=True)["input_ids"]


def test_special_tokens_may_be_objects_as_older_versions_wrote_them(tokenizer, tmp_path):
    save_tokenizer(tokenizer, tmp_path, 12)
    change(tmp_path, pad_token={"content": "[PAD]", "__type": "AddedToken", "lstrip": False})
    found = load_saved_tokenizer(tmp_path)
    assert isinstance(found, SavedTokenizer) and found.pad_token_id == tokenizer.pad_token_id


@pytest.mark.parametrize("changed", [{"tokenizer_class": None}, {"unk_token": "[NEVER SEEN]"}])
def test_files_that_do_not_tell_all_are_for_transformers(changed, tokenizer, tmp_path):
    save_tokenizer(tokenizer, tmp_path, 12)
    change(tmp_path, **changed)
    found = load_saved_tokenizer(tmp_path)
    assert isinstance(found, PreTrainedTokenizerFast)
    assert found.pad_token_id == tokenizer.pad_token_id


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_a_damaged_file_is_one_line(name, tokenizer, tmp_path):
    save_tokenizer(tokenizer, tmp_path, 12)
    (tmp_path / name).write_text('{"half": ')
    with pytest.raises(UserError, match=r"tokenizer") as error:
        load_saved_tokenizer(tmp_path)
    assert "\n" not in str(error.value)


def change(folder, **values):
    """Replaces settings, or removes those that are None."""
    file = folder / "tokenizer_config.json"
    settings = json.loads(file.read_text()) | values
    file.write_text(json.dumps({name: value for name, value in settings.items() if value is not None}))
