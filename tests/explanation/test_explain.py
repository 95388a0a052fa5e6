"""What an explanation holds, for every kind of model, class and text."""

import dataclasses
import json

import numpy as np
import pytest
from flax import nnx
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from amsdff_jax import UserError
from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.data.tokenization import load_tokenizer, tokenize
from amsdff_jax.data.windows import Windows
from amsdff_jax.explanation.explain import Explainer
from amsdff_jax.explanation.reading import read_text
from amsdff_jax.explanation.write import make_page
from amsdff_jax.models.baselines import AttentionClassifier
from amsdff_jax.models.model_folder import SavedModel
from tests.compiled import call
from tests.explanation.conftest import CLASS_NAMES

STRANGE = {
    "empty": "",
    "blank": " \n ",
    "emoji": "w1 😀 👩‍👩‍👧",
    "surrogates": "w1 \ud800 w2 \udcff",
    "nul": "w1\0 w2",
    "script": "<script>w1",
    "right-to-left": "שלום w1 \u202e",
    "long": "w1 w2 " * 20_000,
    "one long word": "w" * 100_000,
}


@pytest.mark.parametrize("mask_padding", [True, False])
def test_weights_are_distributions_over_the_tokens(make_explainer, mask_padding):
    explanation = make_explainer(mask_padding=mask_padding).explain("w1 w2 w33 zebra")
    tokens = len(explanation.reading.tokens)
    assert tokens == 6
    assert explanation.token_attention.shape == (tokens,)
    assert explanation.cls_attention.shape == (4, tokens)
    for weights in (explanation.token_attention, explanation.cls_attention, explanation.expert_gates):
        assert weights.min() > 0
        np.testing.assert_allclose(weights.sum(axis=-1), 1, atol=1e-6)


@pytest.mark.parametrize("mask_padding", [True, False])
def test_logits_and_tokens_are_those_of_the_model(make_explainer, make_saved, mask_padding):
    saved = make_saved(mask_padding=mask_padding)
    text = "w1 w2 w33, zebra " * 3
    explanation = make_explainer(mask_padding=mask_padding).explain(text)
    dataset = TextDataset([text], np.zeros(1, np.int32), CLASS_NAMES)
    ids = tokenize(dataset, saved.tokenizer, saved.max_length).token_ids
    assert [token.id for token in explanation.reading.tokens] == ids.tolist()
    assert explanation.reading.truncated
    logits = call(saved.model, ids[None], np.ones_like(ids)[None]).logits[0]
    np.testing.assert_allclose(explanation.logits, logits, atol=1e-5)


def test_a_model_that_computes_in_bfloat16_is_explained_in_float32(make_explainer, make_saved):
    saved = make_saved()
    config = dataclasses.replace(saved.model.config, compute_dtype="bfloat16")
    model = type(saved.model)(config, saved.model.encoder_config, rngs=nnx.Rngs(0))
    nnx.update(model, nnx.state(saved.model))
    found, expected = Explainer(saved._replace(model=model)).explain("w1 w30"), make_explainer().explain("w1 w30")
    np.testing.assert_array_equal(found.logits, expected.logits)
    assert found.attributions.relative_error <= 0.01


def test_every_class_can_be_explained(make_explainer):
    for number, name in enumerate(CLASS_NAMES):
        explanation = make_explainer().explain("w1 w30", name)
        assert explanation.target == number
        assert explanation.attributions.logit == pytest.approx(float(explanation.logits[number]), abs=1e-5)
        assert explanation.attributions.relative_error <= 0.01
    assert make_explainer().explain("w1 w30").target == explanation.winner == explanation.logits.argmax()
    with pytest.raises(UserError, match="no class 'lo'; did you mean low"):
        make_explainer().explain("w1", "lo")


@pytest.mark.parametrize("name", ["lstm", "gru", "transformer", "cnn", "attention"])
def test_baselines_have_attributions_and_what_weights_they_have(make_explainer, name):
    explanation = make_explainer(name).explain("w1 w30 w7")
    assert explanation.attributions.relative_error <= 0.01
    assert explanation.scales == explanation.pools == ()
    assert explanation.expert_gates is explanation.cls_attention is None
    if name == "attention":
        assert explanation.token_attention.sum() == pytest.approx(1, abs=1e-6)
    else:
        assert explanation.token_attention is None


@pytest.mark.parametrize("text", STRANGE.values(), ids=STRANGE)
def test_any_text_can_be_explained_and_written_down(make_explainer, text):
    explanation = make_explainer().explain(text)
    reading = explanation.reading
    json.dumps(explanation.to_dict(), allow_nan=False, ensure_ascii=False).encode()
    assert reading.truncated == (text == STRANGE["long"])
    assert reading.replaced == sum("\ud800" <= letter <= "\udfff" for letter in text)
    assert len(reading.tokens) <= 16
    assert reading.characters_read == (41 if reading.truncated else len(text))


def test_what_is_read_of_a_long_text_is_what_training_reads(make_saved, make_explainer):
    saved = make_saved("attention")._replace(long_texts="head_tail")
    text = " ".join(f"w{number}" for number in range(40))
    reading = read_text(text, saved.tokenizer, saved.max_length, saved.long_texts)
    dataset = TextDataset([text], np.zeros(1, np.int32), CLASS_NAMES)
    tokens = tokenize(dataset, saved.tokenizer, saved.max_length, saved.long_texts)
    assert [token.id for token in reading.tokens] == tokens.token_ids.tolist()
    assert reading.truncated and tokens.truncated.all()
    assert text[slice(*reading.unread)].split() == [f"w{number}" for number in range(4, 30)]
    explanation = Explainer(saved).explain(text)
    assert len(explanation.word_attributions) == 14


def test_a_text_in_windows_is_explained_token_by_token_and_window_by_window(tiny_encoder):
    model = AttentionClassifier.from_pretrained(str(tiny_encoder), 3, seed=3)
    model.read_in_windows(Windows(16, 4, 1, 1))
    saved = SavedModel(model, load_tokenizer(tiny_encoder), CLASS_NAMES, 16, long_texts="windows")
    explanation = Explainer(saved).explain(" ".join(f"w{number}" for number in range(40)))
    assert not explanation.reading.truncated and len(explanation.reading.tokens) == 42
    assert explanation.attributions.relative_error <= 0.01
    ids = np.array([[token.id for token in explanation.reading.tokens]])
    np.testing.assert_allclose(explanation.logits, call(model, ids, np.ones_like(ids)).logits[0], atol=1e-5)
    assert explanation.windows == ((1, 15), (11, 25), (21, 35), (31, 41))
    values, tokens = explanation.window_attributions, explanation.attributions.tokens
    assert values.sum() == pytest.approx(explanation.attributions.tokens.sum(), abs=1e-6)
    assert values[0] == pytest.approx(tokens[1:11].sum() + tokens[11:15].sum() / 2, abs=1e-6)
    (first, *_) = explanation.to_dict()["windows"]
    assert explanation.reading.text[first["start"] : first["end"]].split() == [f"w{number}" for number in range(14)]
    page = make_page([explanation], "model")
    assert "What each window of the text says" in page and "12 to 25" in page
    assert Explainer(saved).explain("w1").windows == ()


def test_the_middle_of_a_word_may_be_left_out(tiny_encoder):
    backend = Tokenizer(models.WordPiece({"[UNK]": 0, "[PAD]": 1, "a": 2, "##b": 3, "##c": 4}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    fast = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]")
    reading = read_text("abcbcbcbc", fast, 4, "head_tail")
    assert [token.name for token in reading.tokens] == ["a", "##c", "##b", "##c"]
    assert [(word.start, word.end) for word in reading.words] == [(0, 1), (6, 9)]
    assert (reading.unread, reading.characters_read) == ((1, 6), 4)
    whole = read_text("abcbcbcbc", fast, 9, "head_tail")
    assert (whole.truncated, len(whole.words), whole.characters_read) == (False, 1, 9)


def test_a_text_that_is_truncated_on_the_left_is_unread_there(tiny_encoder):
    tokenizer = load_tokenizer(tiny_encoder)
    tokenizer.truncation_side = "left"
    reading = read_text("w1 w2 w3 w4", tokenizer, 4)
    assert (reading.unread, reading.truncated) == ((0, 6), True)


def test_the_space_in_a_token_is_in_no_word():
    vocabulary = [("<unk>", 0.0), ("▁w", -1.0), ("w", -2.0), ("1", -2.5), ("▁", -3.0)]
    backend = Tokenizer(models.Unigram(vocabulary, unk_id=0))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    text = "w1 w1  w"
    reading = read_text(text, PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>"), 16)
    words = [text[word.start : word.end] for word in reading.words]
    assert [word for word in words if word.strip()] == ["w1", "w1", "w"]


def test_a_pair_of_surrogates_is_the_character_they_stand_for(make_saved):
    reading = read_text("w1 \ud83d\ude00", make_saved().tokenizer, 16)
    assert (reading.text, reading.replaced) == ("w1 😀", 0)


def test_pieces_make_words():
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "talk", "##ing", "##s", "head", "'", "to"]
    tokenizer = Tokenizer(models.WordPiece({token: index for index, token in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")
    text = "Talking  to xyz’ TALKINGS' [SEP]"
    reading = read_text(text, fast, 32)
    words = [text[word.start : word.end] for word in reading.words]
    assert words[:5] == ["Talking", "to", "xyz", "’", "TALKINGS"]
    pieces = [[token.name for token in reading.tokens if token.word == word] for word in range(5)]
    assert pieces == [["talk", "##ing"], ["to"], ["[UNK]"], ["[UNK]"], ["talk", "##ing", "##s"]]
    assert [token.name for token in reading.tokens if token.word is None] == ["[CLS]", "[SEP]"]


def test_a_words_share_is_the_sum_of_its_pieces(make_explainer):
    explanation = make_explainer().explain("w1 w30 w7")
    tokens = list(explanation.reading.tokens)
    tokens[2] = dataclasses.replace(tokens[2], word=0)  # as if w1 and w30 were pieces
    joined = dataclasses.replace(explanation, reading=dataclasses.replace(explanation.reading, tokens=tuple(tokens)))
    values = explanation.attributions.tokens
    np.testing.assert_allclose(joined.word_attributions, [values[1] + values[2], 0, values[3]])


def test_a_model_without_a_tokenizer_is_refused(make_saved):
    with pytest.raises(UserError, match="without a tokenizer"):
        Explainer(make_saved()._replace(tokenizer=None))


def test_a_model_of_pairs_is_refused(make_saved):
    with pytest.raises(UserError, match="trained on pairs of texts"):
        Explainer(make_saved()._replace(reads_pairs=True))
