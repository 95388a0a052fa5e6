"""The classifier: the numbers of an evaluation, whatever the company in which a text comes."""

import itertools
import json
import logging
import os
import re
import shutil
import signal
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow
import pytest
from flax import nnx

from amsdff_jax import Classifier, Config, EnhancedAMSDFF, TextDataset, UserError
from amsdff_jax.data.chunks import PAUSE
from amsdff_jax.data.tokenization import load_tokenizer
from amsdff_jax.evaluation.calibration import Calibration
from amsdff_jax.evaluation.calibration_file import write_calibration
from amsdff_jax.evaluation.evaluator import Evaluator
from amsdff_jax.evaluation.model_card import record_conversion, write_model_card
from amsdff_jax.models.baselines import LinearClassifier
from amsdff_jax.models.model_folder import SavedModel, read_model_folder, save_model
from amsdff_jax.models.variables import Variables
from amsdff_jax.parallel.data_parallel import DataParallel
from amsdff_jax.prediction.prediction import Prediction, ScoredLabel
from tests.conftest import TINY_HEAD, make_texts

NAMES = ("low", "high", "other")
MAX_LENGTH = 24


@pytest.fixture(scope="module")
def folders(tiny_encoder, tmp_path_factory):
    """Model folders of both padding semantics, the weights as they were drawn."""
    root = tmp_path_factory.mktemp("models")
    for name, mask_padding in {"masked": True, "reference": False}.items():
        model = EnhancedAMSDFF.from_pretrained(str(tiny_encoder), 3, mask_padding=mask_padding, seed=3, **TINY_HEAD)
        save_model(root / name, SavedModel(model, load_tokenizer(tiny_encoder), NAMES, MAX_LENGTH))
    return root


@pytest.fixture(scope="module", params=["masked", "reference"])
def folder(request, folders):
    return folders / request.param


@pytest.fixture(scope="module")
def classifier(folders):
    return Classifier.from_pretrained(folders / "masked", batch_size=16, devices=jax.devices()[:1])


def evaluate(saved: SavedModel, texts, pairs=None):
    """What `scripts/evaluate.py` computes."""
    parallel = DataParallel(devices=jax.devices()[:1])
    variables = parallel.replicate(Variables.of(saved.model))
    config = Config().replace(
        data__max_length=saved.max_length,
        data__long_texts=saved.long_texts,
        data__num_buckets=2,
        train__eval_batch_size=10,
        model__mask_padding=saved.model.config.mask_padding,
    )
    evaluator = Evaluator(nnx.graphdef(saved.model), config, saved.tokenizer, parallel)
    return evaluator.evaluate(variables, TextDataset(texts, np.zeros(len(texts), int), NAMES, pairs))


def test_says_what_evaluate_says_whatever_the_batch_order_and_devices(folder):
    texts, _ = make_texts(61, 7)
    classifier = Classifier.from_pretrained(folder, batch_size=16, devices=jax.devices()[:1])
    evaluation = evaluate(classifier.saved, texts)
    logits = classifier.logits(texts)
    np.testing.assert_allclose(logits, evaluation.logits, atol=1e-5)
    np.testing.assert_allclose(classifier.predict_proba(texts), evaluation.probabilities, atol=1e-5)
    predictions = classifier.predict(texts)
    assert [prediction.label for prediction in predictions] == [NAMES[label] for label in evaluation.predictions]
    assert sum(prediction.truncated for prediction in predictions) == evaluation.truncated
    np.testing.assert_allclose(classifier.logits(texts[::-1])[::-1], logits, atol=1e-5)
    np.testing.assert_allclose(classifier.logits(texts[:1]), logits[:1], atol=1e-5)  # a small batch
    spread = Classifier.from_pretrained(folder, batch_size=16, devices=jax.devices()[:4])
    np.testing.assert_allclose(spread.logits(texts), logits, atol=1e-5)


def test_the_beginning_and_the_end_of_long_texts_are_read_everywhere(tiny_encoder, tmp_path):
    model = LinearClassifier.from_pretrained(str(tiny_encoder), 3)
    limit = {"max_length": MAX_LENGTH, "long_texts": "head_tail"}
    save_model(tmp_path / "model", SavedModel(model, load_tokenizer(tiny_encoder), NAMES, **limit))
    classifier = Classifier.from_pretrained(tmp_path / "model", devices=jax.devices()[:1])
    long, short = "w1 " * 6 + "w2 " * 99 + "w3 " * 16, "w1 " * 6 + "w3 " * 16
    one, other = classifier.predict([long, short])
    assert (one.truncated, other.truncated) == (True, False)
    logits = classifier.logits([long, short])
    np.testing.assert_array_equal(logits[0], logits[1])
    evaluation = evaluate(classifier.saved, [long, short])
    np.testing.assert_allclose(logits, evaluation.logits, atol=1e-5)
    assert evaluation.truncated == 1
    write_model_card(tmp_path / "model")
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert "Only 24 tokens of a text are read, the first quarter and the rest from its end (head_tail)" in card


def test_pairs(classifier):
    firsts, seconds = make_texts(13, 1)[0], make_texts(13, 2)[0]
    pairs = list(zip(firsts, seconds, strict=True))
    expected = evaluate(classifier.saved, firsts, seconds)
    np.testing.assert_allclose(classifier.logits(pairs), expected.logits, atol=1e-5)
    assert np.abs(classifier.logits(pairs) - classifier.logits(firsts)).max() > 1e-4


def test_any_string_is_a_text(classifier):
    texts = ["", "😀 w1", "w1\x00w2", "w1 \ud800 w2", "\ud83d\ude00 w1", " \n\t", "w1 " * 340_000]
    predictions = classifier.predict(texts)
    assert [prediction.truncated for prediction in predictions] == [False] * 6 + [True]
    assert np.isfinite(classifier.predict_proba(texts)).all()
    assert predictions[4].probability == pytest.approx(predictions[1].probability, abs=1e-6)
    assert classifier.predict([]) == []
    assert classifier.predict_proba([]).shape == (0, 3)


def test_top_k(classifier):
    texts, _ = make_texts(9, 0)
    probabilities = classifier.predict_proba(texts)
    for prediction, row in zip(classifier.predict(texts, top_k=2), probabilities, strict=True):
        best = np.argsort(-row)[:2]
        assert prediction.top_k == tuple(ScoredLabel(NAMES[label], row[label]) for label in best)
        assert (prediction.label, prediction.probability) == prediction.top_k[0]
        assert [best.score for best in prediction.top_k] == [best.probability for best in prediction.top_k]
        assert prediction.score == prediction.probability
    assert (
        classifier.predict(texts, top_k=99)
        == classifier.predict(texts, top_k=None)
        == list(classifier.stream(texts, None))
    )
    assert sorted(best.label for best in classifier.predict(texts[0], top_k=None).top_k) == sorted(NAMES)
    for wrong in (0, "all"):
        with pytest.raises(UserError, match=f"top_k: expected at least 1, or None for all classes, got {wrong!r}"):
            classifier.predict(texts, top_k=wrong)


def test_a_stream_reads_ahead_no_further_than_it_must(classifier):
    read = itertools.count()
    stream = classifier.stream(f"w{next(read) % 40}" for _ in itertools.repeat(None))
    first = [next(stream) for _ in range(5)]
    assert next(read) <= 16 + 32 + 1  # the first chunk, and the one that is computed meanwhile
    expected = classifier.predict([f"w{number}" for number in range(5)])
    assert [prediction.label for prediction in first] == [prediction.label for prediction in expected]


def test_a_pause_brings_out_what_has_come(classifier):
    def items():
        yield "a", "w1 w2"
        yield "b", None
        yield PAUSE
        pytest.fail("read on before it gave what it had")

    annotated = classifier.annotate(items())
    tag, prediction = next(annotated)
    assert (tag, prediction.label) == ("a", classifier.predict(["w1 w2"])[0].label)
    assert next(annotated) == ("b", None)


def test_long_texts_do_not_gather_in_memory(classifier):
    read = itertools.count()
    next(classifier.stream("w" * 1_200_000 for _ in iter(lambda: next(read), 100)))
    assert next(read) <= 5


def test_every_length_is_compiled_once(folders, caplog):
    caplog.set_level(logging.INFO)
    classifier = Classifier.from_pretrained(folders / "masked", batch_size=16, devices=jax.devices()[:1])
    for seed in range(3):
        classifier.predict(make_texts(70, seed)[0])
    compiled = [record.getMessage() for record in caplog.records if "compiled" in record.getMessage()]
    lengths = [re.search(r"texts of ([\d, ]+) tokens", message)[1].split(", ") for message in compiled]
    assert sorted(itertools.chain(*lengths)) == ["16", "24"]


def test_nothing_is_left_to_compile_after_compile(folders, caplog):
    classifier = Classifier.from_pretrained(folders / "masked", batch_size=16)
    with caplog.at_level(logging.INFO):
        classifier.compile()
        compiled = caplog.text
        texts = ["w1 " * number for number in range(1, 40)]
        scores = classifier.score(texts)
        for text in texts[::7]:
            classifier.score([text])
    assert compiled and caplog.text == compiled
    assert [score.label for score in scores.predictions] == [found.label for found in classifier.predict(texts)]


def test_threads_share_a_classifier(folders):
    classifier = Classifier.from_pretrained(folders / "masked", batch_size=16)  # all devices
    sizes = [3, 40, 17, 61, 1, 90]
    results = {}

    def work(number):
        for _ in range(3):
            results[number] = classifier.logits(make_texts(sizes[number], number)[0])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(sizes))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
        assert not thread.is_alive()
    for number, size in enumerate(sizes):
        np.testing.assert_allclose(results[number], classifier.logits(make_texts(size, number)[0]), atol=1e-6)


def test_compute_dtype(folders, classifier):
    texts, _ = make_texts(16, 3)
    half = Classifier.from_pretrained(
        folders / "masked", compute_dtype="bfloat16", batch_size=16, devices=jax.devices()[:1]
    )
    difference = np.abs(half.logits(texts) - classifier.logits(texts)).max()
    assert 1e-6 < difference < 0.1


class Table:
    """What the tables of pandas, Polars and PyArrow have in common: columns, whose names come out of a loop over it."""

    columns = ("text", "label")

    def __iter__(self):
        return iter(self.columns)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["w1", 3], r"texts\[1\]: expected a string, got 3"),
        (["w1", ("w1", "w2")], r"texts\[1\]: expected a string, got \('w1', 'w2'\)"),
        ([("w1", "w2"), "w1"], r"texts\[1\]: expected a tuple of two strings, as the texts before it, got 'w1'"),
        ([*["w1"] * 16, ("w1", "w2")], r"texts\[16\]: expected a string"),  # in another chunk than the first
        ([b"w1"], r"texts\[0\]: expected a string, got b'w1'"),
        (["w1", None, "w2"], r"texts\[1\]: expected a string, got None"),
        (pyarrow.array(["w1", None]), r"texts\[1\]: expected a string, got None"),
        ([["w1", "w2"]], r"texts\[0\]: expected a string, got \['w1', 'w2'\]"),
        ({"text": "w1", "other": "w2"}, "expected a list of texts, got a dict of 'text', 'other'; give its column"),
        (Table(), "expected a list of texts, got a Table of 'text', 'label'; give its column"),
        (pyarrow.table({"body": ["w1"]}), "expected a list of texts, got a Table of 'body'; give its column"),
        ({"w1", "w2"}, "expected a list of texts, got a set, which has no order"),
        (b"w1 w2", "expected a list of texts, got bytes; decode it"),
        (3, "expected a list of texts, got 3"),
        (None, "expected a list of texts, got None"),
        (np.array("w1"), "expected a list of texts, got array"),
    ],
)
def test_what_is_no_text(classifier, texts, message):
    for method in (classifier.predict, classifier.predict_proba, classifier.logits, classifier.stream):
        with pytest.raises(UserError, match=message) as caught:
            list(method(texts))
        assert "\n" not in str(caught.value)


def test_columns_of_any_library_are_texts(classifier):
    texts = ["w1 w2", "w30", "w7 w8 w9"]
    expected = classifier.logits(texts)
    columns = [pyarrow.array(texts), pyarrow.table({"text": texts})["text"], np.array(texts), np.array(texts, object)]
    for column in [*columns, tuple(texts), iter(texts), dict.fromkeys(texts).keys()]:
        np.testing.assert_array_equal(classifier.logits(column), expected)


def test_a_single_text_is_answered_without_a_list(classifier):
    assert classifier.predict("w1 w2", top_k=2) == classifier.predict(["w1 w2"], top_k=2)[0]
    np.testing.assert_array_equal(classifier.predict_proba("w1 w2"), classifier.predict_proba(["w1 w2"])[0])
    np.testing.assert_array_equal(classifier.logits("w1 w2"), classifier.logits(["w1 w2"])[0])
    assert len(classifier.predict(("w1", "w2"))) == 2
    with pytest.raises(UserError, match="got one text, 'w1 w2'; put it into a list"):
        classifier.stream("w1 w2")
    pairs = Classifier(classifier.saved._replace(reads_pairs=True), batch_size=16, devices=jax.devices()[:1])
    assert pairs.predict(("w1", "w2")) == pairs.predict([("w1", "w2")])[0]
    assert pairs.predict_proba(("w1", "w2")).shape == (3,)


def test_a_text_that_the_model_has_no_finite_numbers_for_gets_no_label(folders):
    saved = read_model_folder(folders / "masked")
    embeddings = saved.model.transformer.embeddings.word_embeddings.embedding
    embeddings[...] = embeddings[...].at[saved.tokenizer.backend_tokenizer.token_to_id("w39")].set(jnp.nan)
    damaged = Classifier(saved, batch_size=16, devices=jax.devices()[:1])
    texts = [*make_texts(17, 0)[0], "w1 w39", "w2", "w39"]
    texts[:17] = [text.replace("w39", "w1") for text in texts[:17]]
    stream = damaged.stream(texts)
    assert [next(stream).label for _ in range(17)] == [prediction.label for prediction in damaged.predict(texts[:17])]
    with pytest.raises(UserError, match=r"texts\[17\]: the model's logits are NaN or infinite"):
        next(stream)
    for method in (damaged.predict, damaged.predict_proba, damaged.logits):
        with pytest.raises(UserError, match=r"texts\[17\].*: the model's logits are NaN or infinite"):
            method(texts)
    labelled = list(damaged.annotate(zip(range(20), texts, strict=True)))
    assert [place for place, prediction in labelled if prediction is None] == [17, 19]
    with pytest.raises(UserError, match="'w39': the model's logits are NaN or infinite"):
        damaged.explain("w39")
    with pytest.raises(UserError, match=r"data, 17 \(and of 1 of the 19 others\): the model's logits are NaN"):
        evaluate(saved, texts)


def test_what_was_read_before_an_error_comes_out_before_it(classifier):
    def texts():
        yield from (f"w{number % 40}" for number in range(20))
        raise OSError("the disk is gone")

    stream = classifier.stream(texts())
    assert len([next(stream) for _ in range(20)]) == 20
    with pytest.raises(OSError, match="the disk is gone"):
        next(stream)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::DeprecationWarning")
def test_a_forked_process_says_at_once_that_it_cannot_answer(folders, classifier):
    stream = classifier.stream(["w1"] * 100)
    next(stream)
    uses = [
        lambda: classifier.predict("w1"), lambda: classifier.predict_proba(["w1"]), lambda: classifier.logits(["w1"]),
        lambda: classifier.stream(["w1"]), lambda: list(stream), lambda: list(classifier.annotate([(0, "w1")])),
        lambda: classifier.explain("w1"), lambda: Classifier.from_pretrained(folders / "masked"),
        lambda: Classifier(classifier.saved),
    ]  # fmt: skip
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(60)  # ends a child that waits
        for use in uses:
            try:
                use()
                os.write(writing, b"answered\n")
            except BaseException as error:
                os.write(writing, f"{type(error).__name__}: {error}\n".encode())
        os._exit(0)
    os.close(writing)
    with open(reading) as answers:
        lines = answers.read().splitlines()
    assert os.waitpid(child, 0)[1] == 0
    assert len(lines) == len(uses)
    for line in lines:
        assert line.startswith(f"UserError: process {child} was forked from process {os.getpid()}")
        assert "load the model after the fork" in line


def test_a_model_of_pairs_takes_pairs_only(classifier):
    pairs = Classifier(classifier.saved._replace(reads_pairs=True), batch_size=16, devices=jax.devices()[:1])
    with pytest.raises(UserError, match="a tuple of two strings, as the model was trained on, got 'w1'"):
        pairs.predict(["w1"])
    single = Classifier(classifier.saved._replace(reads_pairs=False), batch_size=16, devices=jax.devices()[:1])
    with pytest.raises(UserError, match="expected a string, got"):
        single.predict([("w1", "w2")])


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name != "config.json"}


def test_a_saved_classifier_is_the_same_one(folders, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    for file in (folders / "masked").iterdir():
        (first / file.name).write_bytes(file.read_bytes())
    write_calibration(first, Calibration(NAMES, 0.37, 0.5, target_precision=0.9, texts=7))
    record_conversion(first, "origin.pt", "a checkpoint")
    classifier = Classifier.from_pretrained(first, batch_size=16, devices=jax.devices()[:1])
    texts = make_texts(21, 5)[0]
    expected = classifier.predict(texts, top_k=None)
    classifier.save(second)
    assert contents(second) == contents(first)
    config = json.loads((second / "config.json").read_text())
    assert str(tmp_path) not in json.dumps(config)  # where it was read from is nobody's business
    assert config["label2id"] == {name: number for number, name in enumerate(NAMES)}
    shutil.rmtree(first)
    again = Classifier.from_pretrained(second, batch_size=16, devices=jax.devices()[:1])
    assert again.predict(texts, top_k=None) == expected  # to the last bit
    before = contents(second)
    again.save(second)  # onto itself
    assert contents(second) == before
    half = Classifier.from_pretrained(second, compute_dtype="bfloat16", batch_size=16, devices=jax.devices()[:1])
    half.save(tmp_path / "half")
    same = Classifier.from_pretrained(tmp_path / "half", batch_size=16, devices=jax.devices()[:1])
    np.testing.assert_array_equal(same.logits(texts), half.logits(texts))


def test_a_classifier_overwrites_nothing_but_models(classifier, tmp_path):
    (tmp_path / "thesis.txt").write_text("x")
    with pytest.raises(UserError, match=r"holds thesis\.txt, which is no part of a model, and is left alone"):
        classifier.save(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_notebook_shows_predictions_and_explanations_with_everything_escaped(classifier):
    hostile = "<script>alert(1)</script>"
    best = (ScoredLabel(hostile, 0.75), ScoredLabel("y", 0.25))
    shown = Prediction(*best[0], best, truncated=True, abstained=True, label_set=(hostile,))._repr_html_()
    assert hostile not in shown
    assert shown.count("&lt;script&gt;") == 2
    for told in ("75.0 %", "25.0 %", "truncated", "abstains", "Label set"):
        assert told in shown
    plain = classifier.predict("w1 w2")._repr_html_()
    assert not re.search("truncated to|abstains|Label set", plain)
    explained = classifier.explain("w1 <b>w2</b>")._repr_html_()
    assert "<b>w2" not in explained
    assert 'class="mark' in explained
    for page in (shown, plain, explained):
        assert (page.count("<div"), page.count("<style>")) == (page.count("</div>"), 1)
        style = page[page.index("<style>") : page.index("</style>")]
        assert style.split()[1:3] == [".amsdff", "{"]  # the rules are nested: those of the notebook stay as they are
        assert style.count("{") == style.count("}")


def test_calibration_is_obeyed(folders, classifier, tmp_path):
    folder = tmp_path / "model"
    save_model(folder, classifier.saved)
    texts = make_texts(40, 0)[0]
    logits = classifier.logits(texts)
    exact = np.exp(logits / 0.2) / np.exp(logits / 0.2).sum(-1, keepdims=True)
    threshold, likely = float(np.median(exact.max(-1))), float(np.quantile(exact, 0.3))
    write_calibration(
        folder,
        Calibration(NAMES, 0.2, threshold, target_precision=0.9, label_probability=likely, coverage=0.8),
    )
    calibrated = Classifier.from_pretrained(folder, batch_size=16, devices=jax.devices()[:1])
    np.testing.assert_allclose(calibrated.predict_proba(texts), exact, rtol=1e-3)
    predictions = calibrated.predict(texts)
    assert 10 < sum(prediction.abstained for prediction in predictions) < 30
    for prediction, plain, row in zip(predictions, classifier.predict(texts), exact, strict=True):
        assert prediction.label == plain.label
        assert prediction.abstained == (prediction.probability < threshold)
        assert prediction.label_set[0] == prediction.label
        assert set(prediction.label_set) == {NAMES[label] for label in np.flatnonzero(row >= likely)} | {plain.label}
        assert not plain.abstained
        assert plain.label_set is None
    save_model(folder, classifier.saved)  # other weights, which nothing is known about
    assert Classifier.from_pretrained(folder).calibration is None


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", None, "config.json: cannot be read"),
        ("config.json", "{", "config.json: not valid JSON .* expected the config.json of a model folder"),
        (
            "config.json",
            {"format_version": 3},
            "a model folder in format 3, expected at most 2; it needs a newer version",
        ),
        ("model.safetensors", None, "model.safetensors: cannot be read"),
        ("model.safetensors", "half", "model.safetensors: not a readable safetensors file"),
        ("tokenizer.json", None, "holds no tokenizer"),
        ("tokenizer.json", "{", "the tokenizer cannot be read"),
        ("calibration.json", "{", "calibration.json: not valid JSON .* expected a calibration"),
    ],
)
def test_a_damaged_folder_is_one_line(classifier, file, content, message, tmp_path):
    folder = tmp_path / "model"
    save_model(folder, classifier.saved)
    path = folder / file
    if content is None:
        path.unlink()
    elif isinstance(content, dict):
        path.write_text(json.dumps(json.loads(path.read_text()) | content))
    else:
        path.write_text(content if content != "half" else path.read_bytes()[:-100].decode("latin-1"), "latin-1")
    with pytest.raises(UserError, match=message) as caught:
        Classifier.from_pretrained(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_explanation_is_of_the_class_that_is_predicted(classifier):
    text = "w1 w25 w3"
    explanation = classifier.explain(text)
    (prediction,) = classifier.predict([text])
    assert explanation.class_names[explanation.target] == prediction.label
    assert classifier.explain(text, "other").target == NAMES.index("other")
    with pytest.raises(UserError, match="othre"):
        classifier.explain(text, "othre")
