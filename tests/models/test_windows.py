"""Windows of long texts: how they are divided and joined, against a loop over windows in plain NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from amsdff_jax import UserError
from amsdff_jax.config import ModelConfig
from amsdff_jax.config.encoder_families import read_encoder_values
from amsdff_jax.data.windows import Windows
from amsdff_jax.models import windows as module
from amsdff_jax.models.attention import attend, attend_locally_in_turn
from amsdff_jax.models.baselines import LinearClassifier
from amsdff_jax.models.dropout import Dropout
from amsdff_jax.models.registry import MODELS
from amsdff_jax.models.windows import join, split
from tests.compiled import call
from tests.conftest import TINY_HEAD
from tests.tiny_encoders import TINY

SHAPES = [Windows(16, 5, 1, 1), Windows(9, 0, 1, 1), Windows(7, 2, 0, 0), Windows(11, 4, 2, 1)]


def loop(windows: Windows, length: int) -> list[list[int]]:
    """The places of the tokens of each window of a text, special ones included."""
    content = list(range(windows.prefix, length - windows.suffix))
    beginning, end = list(range(windows.prefix)), list(range(length - windows.suffix, length))
    found = []
    while not found or found[-1][-1 - windows.suffix] != content[-1]:
        first = len(found) * windows.step
        found.append(beginning + content[first : first + windows.capacity] + end)
    return found


@pytest.mark.parametrize("windows", SHAPES, ids=str)
@pytest.mark.parametrize("longest", [18, 70])
def test_windows_and_what_they_are_joined_to_are_those_of_a_loop(windows, longest):
    random = np.random.default_rng(longest)
    shortest = windows.prefix + windows.suffix + 1
    lengths = [0, shortest, windows.size, windows.size + 1, *random.integers(shortest, longest, 4), longest]
    mask = jnp.arange(longest) < jnp.array(lengths)[:, None]
    places, visible = map(np.asarray, jax.jit(split, static_argnums=0)(windows, mask))
    features = random.normal(size=(*places.shape, 3)).astype(np.float32)
    joined = np.asarray(jax.jit(join, static_argnums=0)(windows, features, mask))
    assert np.isfinite(joined).all()
    for row, length in enumerate(lengths):
        if not length:
            assert not visible[row].any()
            continue
        expected = loop(windows, length)
        assert len(expected) == windows.number(length)
        total, count = np.zeros((length, 3)), np.zeros((length, 1))
        for number, own in enumerate(expected):
            assert places[row, number][visible[row, number]].tolist() == own
            np.testing.assert_array_equal(visible[row, number], np.arange(windows.size) < len(own))
            np.add.at(total, own, features[row, number, : len(own)])
            np.add.at(count, own, 1)
        assert not visible[row, len(expected) :].any()
        np.testing.assert_allclose(joined[row, :length], total / count, atol=1e-5)


def test_numbers_and_lengths_of_windows_belong_together():
    for windows in SHAPES:
        for number in range(1, 9):
            longest = windows.length(number)
            assert (windows.number(longest), windows.number(longest + 1)) == (number, number + 1)
        buckets = windows.buckets(windows.length(13))
        assert [windows.number(bucket) for bucket in buckets] == [2, 3, 4, 6, 8, 12, 16]
        assert windows.buckets(windows.size) == ()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((24, 12, 1, 1), "data.window_overlap: expected from 0 to 11, half of the 22 tokens"),
        ((24, -1, 1, 1), "data.window_overlap: expected from 0"),
        ((3, 0, 2, 1), "data.max_length: expected more than the 3 special tokens of a text, got 3"),
        ((24, 2, -1, 1), "special tokens: expected 0 or more"),
    ],
)
def test_windows_that_make_no_sense_are_refused(values, message):
    with pytest.raises(UserError, match=message):
        Windows(*values)


def make_model(name: str, family: str = "distilbert", **fields) -> LinearClassifier:
    encoder = read_encoder_values(TINY[family] | {"vocab_size": 45})
    return MODELS[name](ModelConfig(num_classes=3, **(TINY_HEAD | fields)), encoder, rngs=nnx.Rngs(0))


def make_batch(lengths, longest):
    mask = np.arange(longest) < np.array(lengths)[:, None]
    ids = np.random.default_rng(0).integers(5, 45, mask.shape)
    return np.where(mask, ids, 0).astype(np.int32), mask


@pytest.mark.parametrize("name", ["amsdff", "transformer"])  # which attend; the others have nothing of their own
def test_texts_that_fit_give_what_they_gave_and_padding_changes_nothing(name):
    model = make_model(name)
    ids, mask = make_batch([5, 20, 61, 20], 70)
    before = call(model, ids[:2, :20], mask[:2, :20]).logits
    model.read_in_windows(Windows(20, 5, 1, 1))
    np.testing.assert_array_equal(call(model, ids[:2, :20], mask[:2, :20]).logits, before)
    ids[3], mask[3] = ids[2], mask[2]
    ids[3, 60] = ids[2, 60] % 40 + 5  # near the end, where only the last window reads
    found = call(model, ids, mask).logits
    np.testing.assert_allclose(found[:2], before, atol=2e-5)
    assert np.abs(found[2] - found[3]).max() > 1e-5
    alone = call(model, ids[2:3, :61], mask[2:3, :61]).logits
    np.testing.assert_allclose(found[2:3], alone, atol=2e-5)


@pytest.mark.parametrize("rematerialize", [False, True])
def test_groups_of_windows_give_what_all_of_them_give_at_once(monkeypatch, rematerialize):
    model = make_model("linear", rematerialize=rematerialize)
    model.read_in_windows(Windows(12, 3, 1, 1))
    ids, mask = make_batch([90, 41], 90)
    words = model.transformer.embeddings.look_up(jnp.asarray(ids))

    @jax.jit
    def run(words):
        return jax.value_and_grad(lambda words: (model.encode_words(words, jnp.asarray(mask)) ** 2).sum())(words)

    expected = run(words)
    monkeypatch.setattr(module, "AT_ONCE", 6)
    run.clear_cache()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), run(words), expected)


def test_attention_in_sections_is_attention_to_what_is_near():
    random = np.random.default_rng(0)
    query, key, value = (jnp.asarray(random.normal(size=(2, 61, 3, 4)), jnp.float32) for _ in range(3))
    mask = jnp.arange(61) < jnp.array([61, 37])[:, None]
    places = np.arange(61)
    near = mask[:, None, None] & (np.abs(places[:, None] - places) <= 4)
    dropout = Dropout(0.0)
    expected = np.where(mask[..., None], attend(query, key, value, near, dropout, None), 0)
    found = attend_locally_in_turn(query, key, value, mask, 4, dropout)
    np.testing.assert_allclose(np.where(mask[..., None], found, 0), expected, atol=1e-5)


def test_cost_grows_with_the_length_and_memory_does_not():
    """What the encoder reads at a time is bounded, and all that it reads is what the windows have."""
    windows, rows = Windows(12, 2, 1, 1), []
    model = make_model("linear")
    model.read_in_windows(windows)
    kind = type(model.transformer)
    encode_words = kind.encode_words
    for length in (windows.length(number) for number in (64, 128, 640)):

        def count(encoder, words, mask, seed=None):
            rows.append(mask.shape)
            return encode_words(encoder, words, mask, seed)

        kind.encode_words = count
        try:
            shape = jax.ShapeDtypeStruct((1, length), jnp.int32)
            jaxpr = jax.make_jaxpr(lambda ids, mask: model(ids, mask).logits)(shape, shape)
        finally:
            kind.encode_words = encode_words
        turns = [equation.params["length"] for equation in jaxpr.eqns if equation.primitive.name == "scan"] or [1]
        assert rows.pop() == (module.AT_ONCE, windows.size)
        assert turns[0] * module.AT_ONCE == windows.number(length)
        rows.clear()


def test_reference_semantics_are_refused():
    with pytest.raises(UserError, match=r"model\.mask_padding: expected true with data\.long_texts=windows, got False"):
        make_model("linear", mask_padding=False).read_in_windows(Windows(12, 2, 1, 1))
