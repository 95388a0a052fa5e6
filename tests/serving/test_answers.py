"""What a server answers: the classifier's own numbers, in the forms of `amsdff predict` and of other servers."""

import json
import random
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from amsdff_jax import Classifier
from amsdff_jax.explanation.explain import Explainer
from amsdff_jax.models.model_folder import read_model_folder
from amsdff_jax.prediction.run import predict
from tests.conftest import make_texts
from tests.serving.conftest import NAMES, post, serving

pytest.importorskip("starlette", reason="needs the extra serve")

TEXTS = [*make_texts(60, 7)[0], "", "w1 " * 300, "<script>alert(1)</script> w3", "w1 \ud800 😀"]


@pytest.fixture(scope="module")
def client(folders):
    with serving({name: folders / name for name in ("single", "multi", "number", "pairs")}) as client:
        yield client


def predicted(folders, name, top_k, tmp_path):
    output = tmp_path / f"{name}{top_k}.jsonl"
    predict(str(folders / name), TEXTS, output=str(output), top_k=top_k)
    return [json.loads(line) for line in output.read_text().splitlines()]


def approximate(value):
    """The same, whatever the company in which a text was computed."""
    if isinstance(value, dict):
        return {name: approximate(each) for name, each in value.items()}
    if isinstance(value, list):
        return [approximate(each) for each in value]
    return pytest.approx(value, abs=2e-5) if isinstance(value, float) else value


@pytest.mark.parametrize(("name", "top_k"), [("single", 1), ("single", 2), ("multi", 1), ("multi", 3), ("number", 1)])
def test_a_prediction_is_the_record_of_predict(client, folders, tmp_path, name, top_k):
    status, found = post(client, "/predict", texts=TEXTS, top_k=top_k, model=name)
    assert status == 200
    expected = predicted(folders, name, top_k, tmp_path)
    assert found == {"predictions": approximate(expected)}
    status, found = post(client, "/predict", text=TEXTS[3], top_k=top_k, model=name)
    assert found == {"predictions": [approximate(expected[3] | {"row": 1})]}


def test_many_threads_get_what_the_classifier_says(client, folders):
    classifiers = {name: Classifier.from_pretrained(folders / name) for name in ("single", "multi")}
    known = {name: classifier.predict_proba(TEXTS) for name, classifier in classifiers.items()}

    def ask(seed):
        choice = random.Random(seed)
        name, rows = choice.choice(["single", "multi"]), choice.choices(range(len(TEXTS)), k=choice.randint(1, 9))
        status, found = post(client, "/classify", input=[TEXTS[row] for row in rows], model=name)
        assert status == 200
        for answer, row in zip(found["data"], rows, strict=True):
            assert answer["probs"] == pytest.approx(known[name][row].tolist(), abs=2e-5)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(ask, range(120)))
    text = client.get("/metrics").text
    sizes = re.search(r'amsdff_batch_texts_count{model="single"} (\S+)', text)
    texts = re.search(r'amsdff_texts_total{model="single"} (\S+)', text)
    assert float(texts[1]) > float(sizes[1]) > 0


def test_pairs(client, folders):
    pairs = [("w1 w2", "w3"), ("w4", "w30 w31")]
    expected = Classifier.from_pretrained(folders / "pairs").predict(pairs)
    _, found = post(client, "/predict", texts=pairs, model="pairs")
    assert [each["label"] for each in found["predictions"]] == [each.label for each in expected]
    _, one = post(client, "/predict", inputs=pairs[0], model="pairs")
    _, batch = post(client, "/predict", inputs=pairs, model="pairs")
    assert one[0] == approximate({"score": expected[0].probability, "label": expected[0].label})
    assert [each[0]["label"] for each in batch] == [each.label for each in expected]
    assert post(client, "/predict", texts=["w1"], model="pairs") == (
        422,
        {"error": "texts[0]: expected a list of two strings, as the model 'pairs' was trained on"},
    )
    assert post(client, "/predict", texts=pairs)[0] == 422


def test_the_form_of_text_embeddings_inference(client, folders):
    classifier = Classifier.from_pretrained(folders / "single")
    best = classifier.predict(TEXTS[:2], top_k=None)
    expected = [[{"score": each.probability, "label": each.label} for each in one.top_k] for one in best]
    assert post(client, "/predict", inputs=TEXTS[0]) == (200, approximate(expected[0]))
    for batch in (TEXTS[:2], [[text] for text in TEXTS[:2]]):
        assert post(client, "/predict", inputs=batch) == (200, approximate(expected))
    _, raw = post(client, "/predict", inputs=TEXTS[0], raw_scores=True)
    assert sorted((each["score"] for each in raw), reverse=True) == [each["score"] for each in raw]
    assert sorted(each["score"] for each in raw) == pytest.approx(sorted(classifier.logits(TEXTS[0])), abs=2e-5)


def test_the_form_of_vllm(client, folders):
    classifier = Classifier.from_pretrained(folders / "single")
    status, found = post(client, "/classify", model="single", input=TEXTS[:2])
    assert status == 200
    assert list(found) == ["id", "object", "created", "model", "data", "usage"]
    assert re.fullmatch("classify-[0-9a-f]{32}", found["id"]) and found["object"] == "list"
    assert isinstance(found["created"], int) and found["model"] == "single"
    for index, (data, text) in enumerate(zip(found["data"], TEXTS[:2], strict=True)):
        assert list(data) == ["index", "label", "probs", "num_classes"]
        assert (data["index"], data["num_classes"]) == (index, 3)
        assert data["label"] == classifier.predict(text).label
        assert data["probs"] == pytest.approx(classifier.predict_proba(text).tolist(), abs=2e-5)
    tokenizer = classifier.saved.tokenizer.backend_tokenizer
    tokens = sum(len(tokenizer.encode(text)) for text in TEXTS[:2])
    assert found["usage"] == {
        "prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0, "prompt_tokens_details": None,
    }  # fmt: skip
    assert len(post(client, "/classify", input="w1")[1]["data"]) == 1


@pytest.mark.parametrize(("path", "values"), [("/predict", {"inputs": "w1"}), ("/classify", {"input": "w1"})])
def test_numbers_have_no_place_in_forms_of_labels(client, path, values):
    status, found = post(client, path, model="number", **values)
    assert status == 422 and "use /predict with texts" in found["error"]


def test_explanations_are_those_of_explain(client, folders):
    explainer = Explainer(read_model_folder(folders / "single"))
    for class_name in ("", "other"):
        status, [found] = post(client, "/explain", text=TEXTS[0], **({"class_name": class_name} if class_name else {}))
        expected = explainer.explain(TEXTS[0], class_name).to_dict()
        assert status == 200 and found.keys() == expected.keys()
        assert (found["explained_class"], found["label"]) == (expected["explained_class"], expected["label"])
        assert found["logits"] == approximate(expected["logits"])
    assert post(client, "/explain", text="w1", class_name="hgh")[0] == 422
    status, found = post(client, "/explain", text="w1", model="number")
    assert status == 422 and "only models of classes can be explained" in found["error"]


def test_the_page_escapes_texts_and_class_names(client):
    assert "<textarea" in client.get("/").text
    response = client.post("/", data={"text": "</textarea><script>alert(1)</script> w3 \u202e", "model": "single"})
    assert response.status_code == 200
    assert response.headers["content-security-policy"].startswith("default-src 'none'")
    for raw in ("<script", "<b>high", "\u202e"):
        assert raw not in response.text
    assert "&lt;b&gt;high&lt;/b&gt;" in response.text and "&lt;/textarea&gt;&lt;script" in response.text
    assert 'class="mark' in response.text  # the words of the explanation
    for name in ("multi", "number", "pairs"):
        assert client.post("/", data={"text": "w1", "second": "w2", "model": name}).status_code == 200


def test_what_the_server_says_of_itself(client):
    info = client.get("/info").json()
    assert [each["name"] for each in info["models"]] == ["single", "multi", "number", "pairs"]
    first = info["models"][0]
    assert first["class_names"] == list(NAMES) and first["max_tokens"] == 24 and first["calibrated"]
    assert first["model_card"].startswith("---") and info["limits"]["max_texts"] == 64
    described = client.get("/openapi.json").json()
    assert set(described["paths"]) >= {"/predict", "/classify", "/explain", "/info", "/"}
    assert described["openapi"].startswith("3.")
    assert client.get("/health").json() == {"status": "alive"}
