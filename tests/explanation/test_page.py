"""The page: whole, alone, honest, and safe whatever the text says."""

import dataclasses
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from amsdff_jax.explanation.explain import Explainer
from amsdff_jax.explanation.write import make_page
from amsdff_jax.models.model_folder import save_model
from amsdff_jax.reporting.escape import percent, signed
from tests.explanation.conftest import CLASS_NAMES
from tests.explanation.test_explain import STRANGE
from tests.processes import run_script

VOID = {"meta", "rect", "line"}  # without an end tag, or closed in themselves


class Page(HTMLParser):
    """Reads a page strictly: elements must nest.

    Attributes:
      elements: (name, attributes) of all of them.
      texts: what stands in each shaded text, without its numbers.
      content: all text of the page.
    """

    def __init__(self, page: str):
        super().__init__()
        self.elements, self.texts, self.content, self._open = [], [], "", []
        self.feed(page)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag in VOID:
            return
        self._open.append((tag, dict(attributes)))
        if tag == "div" and dict(attributes).get("class") == "text":
            self.texts.append("")

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self._open.pop()[0] == tag

    def handle_data(self, data):
        names = [tag for tag, _ in self._open]
        self.content += data
        in_text = any(attributes.get("class") == "text" for _, attributes in self._open)
        if in_text and "small" not in names and not any(a.get("class") == "muted" for _, a in self._open):
            self.texts[-1] += data


def assert_self_contained(page: Page) -> None:
    names = {name for name, _ in page.elements}
    assert not names & {"script", "link", "img", "iframe", "object", "base", "form"}
    for name, attributes in page.elements:
        for attribute, value in attributes.items():
            assert attribute not in ("src", "srcset", "action") and not attribute.startswith("on")
            if attribute == "href":
                assert name == "a" and value.startswith("#")
            if attribute in ("style", "content"):
                assert "url(" not in value and "//" not in value


@pytest.mark.parametrize("text", STRANGE.values(), ids=STRANGE)
def test_any_text_makes_a_whole_page(make_explainer, text):
    explanation = make_explainer().explain(text)
    source = make_page([explanation], "model")
    assert "://" not in source and "@import" not in source
    assert len(source) < 200_000
    assert not re.search("[\0-\x08\u202a-\u202e\ud800-\udfff]", source)
    page = Page(source)
    assert_self_contained(page)
    assert ("Completeness error" in page.content) == bool(explanation.reading.words)


def test_the_text_is_shown_as_it_is(make_explainer):
    text = '  w1 <script>\n "w3" &amp; w4  '
    page = Page(make_page([make_explainer().explain(text)], "model"))
    assert page.texts[0] == text
    assert_self_contained(page)


def test_names_are_escaped(make_explainer):
    page = Page(make_page([make_explainer().explain("w1")], "<i>model</i>"))
    assert_self_contained(page)
    assert not {"i", "b"} & {name for name, _ in page.elements}
    assert all(name in page.content for name in (*CLASS_NAMES, "<i>model</i>"))


def test_truncation_completeness_and_unread_characters_are_told(make_explainer):
    explanation = make_explainer().explain(STRANGE["long"])
    content = Page(make_page([explanation], "model")).content
    assert "it saw 16 tokens, the first 41 of 120,000 characters" in content
    assert "119,959 more characters" in content
    assert f"{100 * explanation.attributions.relative_error:.2f} % of the difference" in content
    assert "more than 1 %" not in content
    worse = explanation.attributions._replace(baseline_logit=explanation.attributions.baseline_logit - 3)
    assert "more than 1 %" in Page(make_page([dataclasses.replace(explanation, attributions=worse)], "model")).content


def test_the_middle_that_is_not_read_is_counted(make_saved):
    explanation = Explainer(make_saved("attention")._replace(long_texts="head_tail")).explain("w1 " * 100)
    content = Page(make_page([explanation], "model")).content
    assert "it saw 16 tokens, 42 of 300 characters" in content
    assert "258 more characters … " in content


def test_shades_have_their_numbers_in_words(make_explainer):
    explanation = make_explainer().explain("w1 w30 w7")
    page = Page(make_page([explanation], "model"))
    titles = {attributes["title"] for _, attributes in page.elements if "title" in attributes}
    for word, value in zip(("w1", "w30", "w7"), explanation.word_attributions, strict=True):
        assert f"{word}: {signed(value)}" in titles
    for token, weight in zip(explanation.reading.tokens, explanation.token_attention, strict=True):
        assert f"{token.name}: {percent(weight)}" in titles
    for head in explanation.cls_attention:
        assert f"w7: {percent(head[3])}" in titles
    for part in (*explanation.scales, *explanation.pools):
        assert signed(explanation.contribution(part)) in page.content
    for gate in explanation.expert_gates:
        assert percent(gate) in page.content


def test_two_texts_are_compared_for_one_class(make_explainer):
    one = make_explainer().explain("w1 w30 w7")
    other = make_explainer().explain("w30 w12", CLASS_NAMES[one.target])
    source = make_page([one, other], "model", compare=True)
    page = Page(source)
    assert_self_contained(page)
    assert "Side by side" in page.content and "Text 1" in page.content and "Text 2" in page.content
    shared = re.search(r"Words of both texts.*?</table>", source, re.DOTALL)[0]
    assert "w30" in shared and "w7" not in shared
    assert signed(other.word_attributions[0] - one.word_attributions[1]) in shared
    assert "Side by side" not in make_page([one, other], "model")


def test_baselines_say_what_they_do_not_have(make_explainer):
    content = Page(make_page([make_explainer("cnn").explain("w1 w2")], "model")).content
    assert "Only AMSDFF has experts" in content and "Only AMSDFF has scales and pools" in content
    assert "has no attention" in content and "Completeness error" in content
    assert "Attention pool" in Page(make_page([make_explainer("attention").explain("w1 w2")], "model")).content


@pytest.fixture(scope="module")
def bare(make_saved):
    """A function that explains by a model that has nothing but the learned query between enhancer and classifier."""
    return Explainer(make_saved(multi_scale=False, fusion=False, pools=("query",))).explain


def test_a_model_without_some_parts_shows_the_others_and_names_those(bare):
    explanation = bare("w1 w30 w7")
    assert not explanation.scales and explanation.expert_gates is None and explanation.token_attention is None
    content = Page(make_page([explanation], "model")).content
    for head in explanation.cls_attention:
        assert percent(head.max()) in content
    assert "Learned query, mean of its 4 heads" in content and "Pool, learned query" in content
    assert signed(explanation.contribution(explanation.pools[0])) in content
    assert "without its experts (model.fusion=False)" in content
    assert "without scales (model.multi_scale=False)" in content
    assert "no pool of the kind attention or maximum (model.pools)" in content
    assert "Only AMSDFF" not in content and "no attention over the tokens" not in content
    other = bare("w30 w12", CLASS_NAMES[explanation.target])
    both = Page(make_page([explanation, other], "model", compare=True))
    assert_self_contained(both)
    compared = both.content.partition("Side by side")[2].partition("Words of both texts")[0]
    assert "Pool, learned query" in compared and "Scale" not in compared and "Weight of each expert" not in compared
    assert json.loads(json.dumps(explanation.to_dict()))["expert_gates"] is None


@pytest.mark.parametrize(
    ("absent", "told", "shown"),
    [
        ({"scales": ()}, "without scales", ["Pool, maximum", "Expert 1", "Attention pool"]),
        ({"expert_gates": None}, "without its experts", ["Scale, kernel size 1", "Pool, maximum", "Attention pool"]),
        ({"token_attention": None}, "", ["Learned query, mean", "Scale, kernel size 1", "Expert 1"]),
        ({"token_attention": None, "cls_attention": None}, "pools by the maximum alone", ["Pool, maximum", "Expert 1"]),
    ],
)
def test_what_is_there_is_shown_whatever_is_not(make_explainer, absent, told, shown):
    explanation = dataclasses.replace(make_explainer().explain("w1 w30 w7"), **absent)
    for content in (
        Page(make_page([explanation], "model")).content,
        Page(make_page([explanation, explanation], "model", compare=True)).content,
    ):
        assert told in content and "Only AMSDFF" not in content
        assert all(title in content for title in shown)


HOSTILE_NAMES = ("</style><script>alert(1)</script>", "\u202e\x1b[31m\ud800", "\"onload='x'\n" + "long" * 80)


def test_hostile_names_of_classes_and_model_are_text(make_explainer):
    explanation = dataclasses.replace(make_explainer().explain("w1 <img src=x onerror=y>"), class_names=HOSTILE_NAMES)
    source = make_page([explanation, explanation], "</title><script>\udcff", compare=True)
    page = Page(source)
    assert_self_contained(page)
    assert source.encode("utf-8") and not {"\u202e", "\x1b"} & set(source)
    assert not {"script", "img"} & {name for name, _ in page.elements}
    assert HOSTILE_NAMES[0] in page.content and "[U+202E]␛[31m[U+D800]" in page.content


def test_the_script_writes_page_and_numbers(make_saved, tmp_path):
    save_model(tmp_path / "model", make_saved())
    page, numbers = tmp_path / "page.html", tmp_path / "numbers.json"
    arguments = [f"--model={tmp_path / 'model'}", f"--output={page}", f"--json={numbers}"]
    code, output = run_script(tmp_path / "log", "explain.py", *arguments, "w1 w30", "", "--class_name=low")
    assert code == 0, output
    assert "completeness error" in output
    content = json.loads(numbers.read_text(encoding="utf-8"))
    assert [entry["text"] for entry in content] == ["w1 w30", ""]
    assert {entry["explained_class"] for entry in content} == {"low"}
    shares = [word["integrated_gradients"] for word in content[0]["words"]]
    assert np.sum(shares) == pytest.approx(content[0]["integrated_gradients"]["difference"], rel=0.01)
    assert_self_contained(Page(page.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no text to explain"),
        (["--compare", "w1"], "--compare: takes two texts, got 1"),
        (["w1", "--output=nowhere/page.html"], "there is no folder nowhere"),
        (["w1", "--output=."], "is a folder"),
        (["w1", "--json=page.html", "--output=page.html"], "the same file"),
        (["w1", "--model=nowhere"], "nowhere/config.json: cannot be read"),
        (["w1", "--clas_name=low"], "did you mean class_name"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(tmp_path, arguments, message):
    code, output = run_script(tmp_path / "log", "explain.py", "--model=nowhere", *arguments)
    assert code == 2
    assert message in output and len(output.splitlines()) == 1
    assert {file.name for file in tmp_path.iterdir()} == {"log"}
