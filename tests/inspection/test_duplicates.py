import itertools
import random

import numpy as np
import pytest

from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.data.sources import DataSplits
from amsdff_jax.inspection.corpus import Corpus
from amsdff_jax.inspection.distinct_texts import normalize, words_only
from amsdff_jax.inspection.duplicates import Duplicates, Overlap, find_duplicates

# 25 words; one of them changed leaves a similarity above 0.8, three changed one below 0.7.
LONG = (
    "the committee decided on thursday that the long delayed bridge across the northern river will finally be "
    "opened for heavy traffic in the coming spring"
)
ONE_CHANGED = LONG.replace("thursday", "tuesday")
THREE_CHANGED = LONG.replace("committee", "parliament").replace("bridge", "tunnel").replace("opened", "closed")
OTHERS = [
    "a quite different sentence about the weather of the island and its many birds, which nobody had counted before",
    "shares of the company fell after its quarterly report had disappointed everybody who had hoped for growth",
    "the striker scored twice in the second half and the visitors never came back into the match after that",
    "scientists say the comet will be seen with the naked eye for two weeks from all of the southern hemisphere",
]


def dataset(*texts, labels=None, pairs=None, name="data"):
    return TextDataset(list(texts), labels or [0] * len(texts), ("A", "B"), text_pairs=pairs, name=name)


def search(train, validation=None, test=None, similarity=0.8) -> Duplicates:
    return find_duplicates(Corpus(DataSplits(train, validation or dataset("only here"), test)), similarity)


def overlap(duplicates: Duplicates, split: str, other: str) -> Overlap:
    return next(one for one in duplicates.overlaps if (one.split, one.other) == (split, other))


def test_a_planted_leak_is_found_with_both_places():
    found = search(dataset(*OTHERS, LONG), test=dataset("something else", LONG, "and more"))
    leak = overlap(found, "test", "train")
    assert (leak.texts, leak.exact, leak.near) == (3, 1, 0)
    assert [(sample.split, sample.id) for sample in leak.exact_examples[0].samples] == [("test", "1"), ("train", "4")]
    assert found.overlaps[0] == leak  # the worst comes first


def test_nothing_is_reported_where_all_texts_differ():
    found = search(dataset(*OTHERS[:2]), dataset(OTHERS[2]), dataset(OTHERS[3], THREE_CHANGED, LONG))
    assert [(one.exact, one.near) for one in found.overlaps] == [(0, 0)] * 6
    assert (found.conflicts.distinct, found.conflicts.near) == (0, 0)


@pytest.mark.parametrize("changed", [LONG.upper(), LONG.replace(" ", "  \n"), f"\t{LONG} ", LONG.replace("fi", "ﬁ")])
def test_case_whitespace_and_compatibility_forms_do_not_make_a_text_another(changed):
    assert overlap(search(dataset(LONG), test=dataset(changed)), "test", "train").exact == 1


def test_one_word_changed_is_near_and_three_are_not():
    found = search(dataset(*OTHERS, LONG), test=dataset(ONE_CHANGED, THREE_CHANGED))
    leak = overlap(found, "test", "train")
    assert (leak.exact, leak.near) == (0, 1)
    match = leak.near_examples[0]
    assert 0.8 <= match.similarity < 1
    assert [sample.text for sample in match.samples] == [ONE_CHANGED, LONG]


def test_punctuation_alone_makes_near_and_not_the_same():
    leak = overlap(search(dataset("Well - done!"), test=dataset("well done")), "test", "train")
    assert (leak.exact, leak.near) == (0, 1)
    assert leak.near_examples[0].similarity == 1


def test_the_threshold_is_what_is_asked_for():
    train, test = dataset(LONG), dataset(ONE_CHANGED)
    similarity = overlap(search(train, test=test), "test", "train").near_examples[0].similarity
    assert overlap(search(train, test=test, similarity=similarity - 0.001), "test", "train").near == 1
    assert overlap(search(train, test=test, similarity=similarity + 0.001), "test", "train").near == 0


def test_within_a_split_all_but_the_first_are_repetitions():
    train = overlap(search(dataset(LONG, OTHERS[0], LONG, LONG, ONE_CHANGED)), "train", "train")
    assert train.exact == 2
    assert train.near == 4  # every copy, and the changed one
    assert len(train.near_examples) == 1
    assert [[sample.id for sample in match.samples] for match in train.exact_examples] == [["2", "0"], ["3", "0"]]


def test_what_is_the_same_as_one_text_and_like_another_is_counted_once():
    leak = overlap(search(dataset(LONG, ONE_CHANGED), test=dataset(LONG)), "test", "train")
    assert (leak.exact, leak.near) == (1, 0)


def test_same_text_of_two_labels_is_a_conflict_within_and_across_splits():
    found = search(dataset(LONG, OTHERS[0], LONG, labels=[0, 1, 1]), test=dataset(OTHERS[0], labels=[0])).conflicts
    assert (found.distinct, found.texts, found.near) == (2, 4, 0)
    assert [{sample.label for sample in match.samples} for match in found.examples] == [{"A", "B"}] * 2


def test_nearly_the_same_text_of_another_label():
    found = search(dataset(LONG, ONE_CHANGED, *OTHERS, labels=[0, 1, 0, 0, 0, 0])).conflicts
    assert (found.distinct, found.near, len(found.near_examples)) == (0, 2, 1)
    assert search(dataset(LONG, ONE_CHANGED)).conflicts.near == 0


def test_what_is_found_first_hides_nothing(monkeypatch):
    # Pairs that can tell nothing new are skipped: here those among 18 texts of one label and split, and no others.
    monkeypatch.setattr("amsdff_jax.inspection.similar_texts._PAIRS_AT_A_TIME", 1)
    texts = [f"{LONG} number {number}" for number in range(21)]
    found = search(dataset(*texts[:19], labels=[0] * 18 + [1]), dataset(texts[19]), dataset(texts[20]))
    assert found.conflicts.near == 21
    assert [one.near for one in found.overlaps] == [1, 1, 1, 19, 0, 0]


def test_empty_texts_are_nobodys_copy():
    found = search(dataset("", "  ", "\n", LONG, labels=[0, 1, 0, 1]), test=dataset("", " "))
    assert [(one.exact, one.near) for one in found.overlaps] == [(0, 0)] * 6
    assert found.conflicts.distinct == 0


def test_nothing_but_empty_texts():
    found = search(dataset("", " "), dataset("\t"))
    assert [(one.exact, one.near) for one in found.overlaps] == [(0, 0)] * 3


def test_of_pairs_both_parts_count():
    train = dataset(LONG, LONG, LONG, pairs=[OTHERS[0], OTHERS[1], "no"])
    same = overlap(search(train, dataset("x", pairs=["y"]), dataset(LONG, pairs=[OTHERS[1]])), "test", "train")
    assert (same.exact, same.near) == (1, 0)
    near = overlap(search(train, dataset("x", pairs=["y"]), dataset(ONE_CHANGED, pairs=[OTHERS[1]])), "test", "train")
    assert (near.exact, near.near) == (0, 1)
    assert near.near_examples[0].samples[1].text_pair == OTHERS[1]
    # All but three letters are the same; the second part as a whole is not.
    other = overlap(search(train, dataset("x", pairs=["y"]), dataset(LONG, pairs=["yes"])), "test", "train")
    assert (other.exact, other.near) == (0, 0)


def shingle_set(text: str) -> set[str]:
    form = words_only(normalize(text))
    return {form[place : place + 5] for place in range(max(len(form) - 4, 1))}


def test_against_comparing_every_text_with_every_other():
    choice = random.Random(7)
    vocabulary = ["".join(choice.choices("aeioubdgklmnprst", k=choice.randint(2, 8))) for _ in range(400)]
    texts = [" ".join(choice.choices(vocabulary, k=choice.randint(3, 40))) for _ in range(60)]
    for text in texts[:]:
        for rate in (0.02, 0.05, 0.1):
            again = [choice.choice(vocabulary) if choice.random() < rate else word for word in text.split()]
            texts.append(" ".join(again))
    choice.shuffle(texts)
    sets = [shingle_set(text) for text in texts]
    expected = np.zeros(len(texts), bool)
    for one, other in itertools.combinations(range(len(texts)), 2):
        alike = len(sets[one] & sets[other]) >= 0.8 * len(sets[one] | sets[other])
        if alike and texts[one] != texts[other]:
            expected[[one, other]] = True
    assert 30 < expected.sum() < 230
    assert overlap(search(dataset(*texts)), "train", "train").near == expected.sum()


def test_a_template_of_thousands_of_texts_takes_few_comparisons(monkeypatch):
    import amsdff_jax.inspection.similar_texts as module

    compared = []
    monkeypatch.setattr(module, "jaccard", lambda *sets: compared.append(1) or 1.0)
    texts = [
        f"your order with the number {number} has left our house and will be with you soon" for number in range(3000)
    ]
    found = search(dataset(*texts[:2990]), test=dataset(*texts[2990:]))
    assert overlap(found, "train", "train").near == 2990
    assert overlap(found, "test", "train").near == 10
    assert len(compared) < 20_000
