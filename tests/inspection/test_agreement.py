"""Krippendorff's alpha is that of published examples, and the page tells how far raters agree."""

import re

import numpy as np
import pytest

from amsdff_jax import TextDataset, UserError
from amsdff_jax.config import Config
from amsdff_jax.data.raters import count_votes
from amsdff_jax.data.sources import DataSplits
from amsdff_jax.data.tokenization import load_tokenizer
from amsdff_jax.inspection.agreement import krippendorff_alpha
from amsdff_jax.inspection.inspect import inspect_data, inspect_splits
from amsdff_jax.inspection.show import render_page
from tests.conftest import make_texts
from tests.inspection.test_inspect import messages, printed, read
from tests.processes import ROOT

# Krippendorff, "Computing Krippendorff's Alpha-Reliability", 2011: A, B and C.
BINARY = ["0100000010", "1110010000"]
NOMINAL = ["aabbdcccedda", "babbbccceddd"]
CANONICAL = ["123321412...", "1233224125.3", ".3332342251.", "12332441251."]


def votes(raters):
    names = sorted(set("".join(raters)) - {"."})
    ratings = np.array([[names.index(one) if one != "." else -1 for one in row] for row in zip(*raters, strict=True)])
    return count_votes(ratings, len(names))


@pytest.mark.parametrize(
    ("raters", "metric", "expected"),
    [
        (BINARY, "nominal", 0.095),
        (NOMINAL, "nominal", 0.692),
        (CANONICAL, "nominal", 0.743),
        (CANONICAL, "ordinal", 0.815),
    ],
)
def test_alpha_equals_the_published_examples(raters, metric, expected):
    assert krippendorff_alpha(votes(raters), metric) == pytest.approx(expected, abs=5e-4)


def test_alpha_has_the_values_that_define_it():
    assert krippendorff_alpha(votes(["abca", "abca"])) == 1
    assert krippendorff_alpha(votes(["aaaa", "aaaa"])) is None
    assert krippendorff_alpha(votes(["ab..", "..ab"])) is None  # nobody rated what another did
    assert krippendorff_alpha(votes(["ab", "ba"]), "ordinal") < 0
    more = votes([*CANONICAL, "............"])
    assert krippendorff_alpha(more[::-1]) == pytest.approx(krippendorff_alpha(votes(CANONICAL)))


@pytest.mark.parametrize("kind", ["single", "ordinal"])
def test_the_page_tells_alpha_and_how_many_are_unanimous(tiny_encoder, kind):
    counts = votes(CANONICAL)
    rated = counts.sum(axis=1) > 0
    names = ("1", "2", "3", "4", "5")
    ratings = np.array([["12345".find(one) for one in row] for row in zip(*CANONICAL, strict=True)])
    shares = counts / counts.sum(axis=1, keepdims=True)
    train = TextDataset(make_texts(12, 1)[0], shares, names, ratings=ratings)
    little = TextDataset(make_texts(3, 2)[0], [0, 1, 2], names, ratings=[[0, 1], [1, 2], [2, 0]])
    config = Config.from_dict({"task": {"kind": kind}, "data": {"max_length": 24}})
    config = config.replace(model__encoder=str(tiny_encoder))
    inspection = inspect_splits(DataSplits(train, little, None), load_tokenizer(tiny_encoder), config)
    first, second = inspection.agreement
    assert rated.all() and (first.raters, first.texts, first.ratings, first.shared) == (4, 12, 41, 11)
    assert first.unanimous == 8 and second.unanimous == 0 and first.split == "train"
    alpha = {"single": "0.743", "ordinal": "0.815"}[kind]
    page, output = read(render_page(inspection)).text, printed(inspection)
    for shown in (page, output):
        assert alpha in shown and "8 (72.7 %)" in shown and "3.42" in shown
    found = [message for message in messages(inspection, "warning") if "Krippendorff" in message]
    assert len(found) == 1 and found[0].startswith("the raters of the validation split agree little")


def test_without_raters_nothing_is_said_of_them(tiny_encoder):
    data = TextDataset(make_texts(12, 1)[0], [0, 1] * 6, ("A", "B"))
    config = Config().replace(model__encoder=str(tiny_encoder))
    inspection = inspect_splits(DataSplits(data, data, None), load_tokenizer(tiny_encoder), config)
    assert inspection.agreement == ()
    assert "Krippendorff" not in printed(inspection) + render_page(inspection)


def test_a_file_of_votes_is_inspected_and_its_labels_are_not_judged(tiny_encoder, tmp_path):
    file = tmp_path / "votes.csv"
    texts, labels = make_texts(30, 5)
    rows = [
        f"{text},{label},{'' if row % 3 else 'low'}"
        for row, (text, label) in enumerate(zip(texts, labels, strict=True))
    ]
    file.write_text("\n".join(["text,x,y", *rows]) + "\n")
    config = Config.from_dict({"data": {"train_file": str(file), "rater_columns": "x,y"}})
    config = config.replace(model__encoder=str(tiny_encoder))
    inspection = inspect_data(config, "votes", tmp_path / "page.html")
    assert sum(one.shared for one in inspection.agreement) == 10
    assert "Krippendorff" in (tmp_path / "page.html").read_text()
    with pytest.raises(UserError, match="has a distribution over the classes a text; amsdff inspect --labels takes"):
        inspect_data(config, "votes", tmp_path / "page.html", labels=True)


def test_the_example_of_the_documentation_is_what_it_says(tmp_path):
    page = (ROOT / "docs" / "data.md").read_text()
    (tmp_path / "votes.csv").write_text(re.search(r"```\n(text,ann1.*?)```", page, re.DOTALL)[1])
    data = TextDataset.from_csv(tmp_path / "votes.csv", raters=["ann1", "ann2", "ann3"])
    label = dict(zip(data.texts, data.labels.tolist(), strict=True))["It has its moments."]
    assert data.class_names == ("bad", "good") and label == pytest.approx([1 / 3, 2 / 3])
    alpha = krippendorff_alpha(count_votes(data.ratings, 2))
    assert f"alpha of all eight is {alpha:.3f}" in page
