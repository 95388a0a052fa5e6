import random

import numpy as np
import pytest

from amsdff_jax.inspection.min_hash import (
    WINDOW,
    Banding,
    candidate_pairs,
    choose_banding,
    hash_shingles,
    jaccard,
    signatures,
)


def shingle_set(text: str) -> set[str]:
    """The definition, in strings."""
    return {text[place : place + 5] for place in range(max(len(text) - 4, 1))}


def words(number: int, seed: int) -> list[str]:
    choice = random.Random(seed)
    letters = "abcdefghijklmnopqrstuvwxyzéж"
    return ["".join(choice.choices(letters, k=choice.randint(2, 9))) for _ in range(number)]


def pairs_of_similar(number: int, seed: int) -> tuple[list[str], list[str]]:
    """Texts, and each again with some of its words replaced."""
    choice, vocabulary = random.Random(seed), words(3000, seed)
    ones, others = [], []
    for _ in range(number):
        text = choice.choices(vocabulary, k=60)
        again = [choice.choice(vocabulary) if choice.random() < 0.06 else word for word in text]
        ones.append(" ".join(text))
        others.append(" ".join(again))
    return ones, others


def test_hashes_are_the_sets_of_shingles_whatever_stands_beside_a_text():
    texts = ["abcdefabcdef", "abc", "", "xyzzy", "naïve 日本語のテキスト 😀", "a\ud800bcdef", "abc"]
    hashes, offsets = hash_shingles(texts)
    assert offsets[-1] == len(hashes)
    for index, text in enumerate(texts):
        own = hashes[offsets[index] : offsets[index + 1]]
        assert len(set(own.tolist())) == len(shingle_set(text))
        np.testing.assert_array_equal(own, hash_shingles([text])[0])
    assert not set(hashes.tolist()) & set(hash_shingles(texts, salt=1)[0].tolist())


def test_jaccard_is_that_of_the_sets():
    for one, other in zip(*pairs_of_similar(23, 1), strict=True):
        sets = shingle_set(one), shingle_set(other)
        expected = len(sets[0] & sets[1]) / len(sets[0] | sets[1])
        assert jaccard(*(np.unique(hash_shingles([text])[0]) for text in (one, other))) == pytest.approx(expected)


def test_signatures_agree_with_the_probability_of_similarity():
    ones, others = pairs_of_similar(150, 2)
    banding = Banding(25, 5)
    estimates = (signatures(ones, banding) == signatures(others, banding)).mean(axis=1)
    sets = [(shingle_set(one), shingle_set(other)) for one, other in zip(ones, others, strict=True)]
    errors = estimates - [len(one & other) / len(one | other) for one, other in sets]
    assert abs(errors.mean()) < 0.012  # the mean of 150 has a standard deviation of 0.003
    assert 0.02 < errors.std() < 0.06  # that of 125 independent hashes is 0.036 at a similarity of 0.8


def test_chunks_change_nothing(monkeypatch):
    texts = words(60, 3)
    expected = signatures(texts, Banding(5, 3))
    monkeypatch.setattr("amsdff_jax.inspection.min_hash._CHUNK", 37)
    np.testing.assert_array_equal(signatures(texts, Banding(5, 3)), expected)


@pytest.mark.parametrize("similarity", [0.6, 0.7, 0.8, 0.9, 1.0])
def test_the_banding_finds_what_it_must_and_no_stricter_one_would(similarity):
    banding = choose_banding(similarity)
    assert banding.recall(similarity) >= 0.999
    if banding.rows < 128:
        assert Banding(128 // (banding.rows + 1), banding.rows + 1).recall(similarity) < 0.999


def test_candidates_share_a_band_and_all_who_do_are_candidates():
    ones, others = pairs_of_similar(40, 4)
    banding = Banding(25, 5)
    signed = signatures([*ones, *others], banding)
    found = [{frozenset(pair) for pair in pairs.tolist()} for pairs in candidate_pairs(signed, banding)]
    bands = signed.reshape(len(signed), 25, 5)
    expected = {frozenset((i, j)) for i in range(80) for j in range(i) if (bands[i] == bands[j]).all(axis=1).any()}
    assert set().union(*found) == expected
    assert len(expected) > 30


def test_a_thousand_texts_alike_are_not_half_a_million_pairs():
    banding = Banding(3, 2)
    for pairs in candidate_pairs(np.zeros((1000, 6), np.uint32), banding):
        assert len(pairs) <= 1000 * WINDOW
        assert set(pairs.ravel()) == set(range(1000))
