"""Model folders in transformers, and classifiers of transformers as model folders."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

torch = pytest.importorskip("torch", reason="needs PyTorch")

from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, pipeline

from amsdff_jax import Classifier, TorchClassifier, UserError
from amsdff_jax.config import ModelConfig
from amsdff_jax.config.encoder_families import read_encoder_values
from amsdff_jax.conversion.from_transformers import from_transformers
from amsdff_jax.conversion.torch_model import run_weights
from amsdff_jax.data.tokenization import load_tokenizer
from amsdff_jax.interop import sequence_classification
from amsdff_jax.models.model_folder import SavedModel, load_model, read_model_config, read_model_folder, save_model
from amsdff_jax.models.registry import MODELS
from amsdff_jax.models.state_dict import to_state_dict
from tests.compiled import call
from tests.conftest import TINY_HEAD, make_texts
from tests.tiny_encoders import BERT, TINY

CLASSES = ("low", "middle", "ü high")
FAMILIES = {**TINY, "bert": BERT, "mean": TINY["modernbert"] | {"classifier_pooling": "mean"}}
every_native_family = pytest.mark.parametrize("family", FAMILIES)
NATIVE = {
    "distilbert": "DistilBertForSequenceClassification", "bert": "BertForSequenceClassification",
    "roberta": "RobertaForSequenceClassification", "electra": "ElectraForSequenceClassification",
    "mpnet": "MPNetForSequenceClassification", "modernbert": "ModernBertForSequenceClassification",
    "mean": "ModernBertForSequenceClassification", "deberta-v2": "DebertaV2ForSequenceClassification",
}  # fmt: skip
SIZES = {"vocab_size": 45, "max_position_embeddings": 41}


@pytest.fixture
def make_folder(tiny_encoder, tmp_path):
    """A function that makes a model folder of random weights, none of which is 0 or 1, with a tokenizer."""

    def make(family: str, name: str = "bert", folder=tmp_path / "model", task="single", **fields):
        encoder = read_encoder_values(FAMILIES[family] | SIZES)
        fields = (TINY_HEAD if name == "amsdff" else {}) | {"num_attention_heads": 3} | fields
        model = MODELS[name](ModelConfig(num_classes=3, **fields), encoder, rngs=nnx.Rngs(0))
        random = np.random.default_rng(1)
        for _, parameter in nnx.iter_graph(model):
            if isinstance(parameter, nnx.Param):
                parameter[...] += 0.2 * random.normal(size=parameter.shape).astype(np.float32)
        save_model(folder, SavedModel(model, load_tokenizer(tiny_encoder), CLASSES, 13, task=task))
        return folder

    return make


def tensors_of(folder):
    return to_state_dict(load_model(folder))


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name, strict=True)


def read(folder):
    """Texts as transformers' tokenizer reads them, without being told how long they may be."""
    told = json.loads((folder / "tokenizer_config.json").read_text())
    assert told["tokenizer_class"] != "TokenizersBackend"  # which is new
    tokens = AutoTokenizer.from_pretrained(folder)(TEXTS, truncation=True, padding=True, return_tensors="pt")
    assert tokens.keys() == {"input_ids", "attention_mask"}
    assert tokens["input_ids"].shape == (len(TEXTS), 13)
    return tokens


def assert_same_head(folder, theirs):
    """The logits that the head here gives on their encoder's output: encoders are compared elsewhere."""
    tokens = read(folder)
    with torch.no_grad():
        found = theirs(**tokens).logits.numpy()
        features = theirs.base_model(**tokens).last_hidden_state.numpy()
    mask = tokens["attention_mask"].numpy().astype(bool)
    ours = load_model(folder).classify(jnp.asarray(features), jnp.asarray(mask)).logits
    np.testing.assert_allclose(found, ours, atol=1e-5)
    assert np.ptp(found, axis=0).min() > 1e-3


TEXTS = [*make_texts(4, 3)[0], " ".join(make_texts(3, 4)[0])]


def test_the_dropout_of_a_head_that_tells_none_is_that_of_transformers():
    for family, kind in sequence_classification.NATIVE.items():
        theirs = getattr(AutoConfig.for_model(family), kind.dropout, None) if kind.dropout else None
        assert kind.default_dropout == theirs, family


@every_native_family
def test_a_plain_head_is_transformers_own_class(family, make_folder, tmp_path):
    folder = make_folder(family)
    theirs, report = AutoModelForSequenceClassification.from_pretrained(folder, output_loading_info=True)
    assert type(theirs).__name__ == NATIVE[family]
    assert not any(report.values())
    assert theirs.config.id2label == dict(enumerate(CLASSES))
    assert_same_head(folder, theirs)
    assert type(TorchClassifier.from_pretrained(folder)) is type(theirs)
    # And back, bit for bit: of the folder itself, and of what transformers makes of it.
    theirs.save_pretrained(tmp_path / "theirs")
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path / "theirs")
    back = from_transformers(tmp_path / "theirs", tmp_path / "back")
    assert_same(tensors_of(tmp_path / "back"), tensors_of(folder))
    assert (back.class_names, back.max_length) == (CLASSES, 13)
    one, other = read_model_config(folder), read_model_config(tmp_path / "back")
    assert one.encoder == other.encoder
    assert one.encoder.native_type == other.encoder.native_type
    assert load_file(tmp_path / "back" / "model.safetensors").keys() == load_file(folder / "model.safetensors").keys()


@pytest.mark.parametrize(("family", "name"), [("distilbert", "amsdff"), ("modernbert", "cnn"), ("mpnet", "gru")])
def test_any_other_head_brings_its_module_along(family, name, make_folder):
    """Several kinds in one process, too, where transformers knows one class for all."""
    folder = make_folder(family, name)
    theirs = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True)
    assert type(theirs).__name__ == type(load_model(folder)).__name__
    assert not theirs.training
    assert theirs.config.label2id == {name: number for number, name in enumerate(CLASSES)}
    tokens = read(folder)
    with torch.no_grad():
        found = theirs(**tokens).logits.numpy()
    inputs = tokens["input_ids"].numpy(), tokens["attention_mask"].numpy()
    expected = run_weights(read_model_config(folder), tensors_of(folder), "model", *inputs)["logits"]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.ptp(found, axis=0).min() > 1e-3


@pytest.mark.parametrize(("name", "fields"), [("bert", {}), ("cnn", {"mask_padding": False})], ids=["bert", "cnn"])
def test_pipelines_say_what_the_classifier_says(name, fields, make_folder):
    """A model that sees padding gets it, too."""
    folder = make_folder("distilbert", name, **fields)
    classify = pipeline("text-classification", str(folder), trust_remote_code=name != "bert")
    found = classify(TEXTS, truncation=True, batch_size=2)
    expected = Classifier.from_pretrained(folder, batch_size=4).predict(TEXTS)
    assert [answer["label"] for answer in found] == [prediction.label for prediction in expected]
    for answer, prediction in zip(found, expected, strict=True):
        assert answer["score"] == pytest.approx(prediction.probability, abs=1e-5)


@pytest.mark.parametrize("name", ["bert", "linear"])
def test_pipelines_know_texts_with_several_labels(name, make_folder, tmp_path):
    folder = make_folder("distilbert", name, task="multi_label")
    if name == "bert":  # which needs nothing of this project but what transformers knows itself
        AutoModelForSequenceClassification.from_pretrained(folder).save_pretrained(tmp_path / "theirs")
        AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path / "theirs")
        folder = tmp_path / "out"
        assert from_transformers(tmp_path / "theirs", folder).task == "multi_label"
    classify = pipeline("text-classification", str(folder), trust_remote_code=name != "bert")
    found = classify(TEXTS, truncation=True, top_k=None)
    expected = Classifier.from_pretrained(folder).predict(TEXTS, top_k=None)
    for answers, prediction in zip(found, expected, strict=True):
        assert [answer["label"] for answer in answers] == [each.label for each in prediction.top_k]
        scores = [each.probability for each in prediction.top_k]
        assert [answer["score"] for answer in answers] == pytest.approx(scores, abs=1e-5)
        assert sum(scores) != pytest.approx(1, abs=1e-3)


def test_several_labels_make_a_loss(make_folder):
    model = TorchClassifier.from_pretrained(make_folder("distilbert", "linear", task="multi_label"))
    ids, labels = torch.tensor([[2, 9, 3], [2, 8, 3]]), torch.tensor([[1, 0, 1], [0, 0, 0]])
    output = model(ids, labels=labels)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(output.logits, labels.float())
    assert output.loss.item() == pytest.approx(expected.item())


def test_labels_make_a_loss(make_folder):
    model = TorchClassifier.from_pretrained(make_folder("distilbert", "linear"))
    ids, labels = torch.tensor([[2, 9, 3], [2, 8, 3]]), torch.tensor([2, 0])
    output = model(ids, labels=labels)
    expected = torch.nn.functional.cross_entropy(output.logits, labels)
    assert output.loss.item() == pytest.approx(expected.item())
    output.loss.backward()
    assert model.classifier.weight.grad.abs().sum() > 0


def test_weights_that_are_missing_are_no_random_ones(make_folder):
    folder = make_folder("distilbert", "linear")
    tensors = load_file(folder / "model.safetensors")
    del tensors["classifier.bias"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"the weights do not fit the model, because of classifier\.bias"):
        AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True)


# What text-embeddings-inference cannot do without in `config.json`, of the families that it has classifiers for.
OF_ALL = {
    "architectures",
    "model_type",
    "max_position_embeddings",
    "id2label",
    "label2id",
    "vocab_size",
    "pad_token_id",
}
OF_BERT = {
    "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act",
    "hidden_dropout_prob", "type_vocab_size", "initializer_range", "layer_norm_eps",
}  # fmt: skip
INFERENCE_SERVER = {
    "bert": OF_BERT,
    "roberta": OF_BERT,
    "distilbert": {"dim", "n_layers", "n_heads", "hidden_dim", "activation"},
    "modernbert": {
        "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "hidden_activation",
        "initializer_range", "initializer_cutoff_factor", "norm_eps", "norm_bias", "eos_token_id", "bos_token_id",
        "cls_token_id", "sep_token_id", "global_rope_theta", "attention_bias", "attention_dropout",
        "global_attn_every_n_layers", "local_attention", "local_rope_theta", "classifier_activation",
    },
}  # fmt: skip


@pytest.mark.parametrize("family", INFERENCE_SERVER)
def test_what_text_embeddings_inference_asks_for_is_there(family, make_folder):
    folder = make_folder(family)
    values = json.loads((folder / "config.json").read_text())
    assert {name for name, value in values.items() if value is not None} >= OF_ALL | INFERENCE_SERVER[family]
    assert values["architectures"][0].endswith("ForSequenceClassification")
    assert values["id2label"] == {str(number): name for number, name in enumerate(CLASSES)}
    assert values.get("position_embedding_type", "absolute") == "absolute"
    assert (folder / "tokenizer.json").exists()
    # It reads the classes' number off the labels, and the tensors by these names.
    names = load_file(folder / "model.safetensors")
    last = {"roberta": "classifier.out_proj.weight"}.get(family, "classifier.weight")
    assert names[last].shape == (len(values["id2label"]), 24)


def change_config(folder, **values):
    file = folder / "config.json"
    config = {name: value for name, value in (json.loads(file.read_text()) | values).items() if value is not None}
    file.write_text(json.dumps(config))


FAULTS = [
    ({"problem_type": "ranking"}, "problem_type: expected one of 'single_label_classification', 'multi_label"),
    ({"problem_type": "regression"}, "number of labels: expected 1, more numbers a text are not supported, got 3"),
    ({"architectures": ["DistilBertForTokenClassification"]}, "expected a class such as DistilBertForSequenceCl"),
    ({"model_type": "gpt2"}, "model_type is 'gpt2', expected 'distilbert'"),
    ({"model_type": "amsdff"}, "a model folder already"),
    ({"id2label": {"0": "a", "1": "b"}}, "config.json: id2label: expected 3 different names"),
    ({"activation": "relu"}, "activation is 'relu'; only 'gelu' is supported"),
    ({"n_layers": 3}, "n_layers is 3, but .* has 2"),
    ({"seq_classif_dropout": 10**400}, "config.json: seq_classif_dropout: expected a number from 0 to below 1"),
]


@pytest.mark.parametrize(("change", "message"), FAULTS, ids=lambda value: str(value)[:40])
def test_what_is_not_known_is_refused_in_one_line(change, message, make_folder, tmp_path):
    folder = make_folder("distilbert")
    change_config(folder, **change)
    with pytest.raises(UserError, match=message) as caught:
        from_transformers(folder, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("longest", "expected"), [(12.0, 12), (1e30, 512), ("12", None), (2, None)])
def test_a_tokenizers_longest_text_is_any_number(longest, expected, make_folder, tmp_path):
    folder = make_folder("distilbert")
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"model_max_length": longest}))
    if expected is None:
        with pytest.raises(UserError, match=r"model_max_length is .*; expected a number, at least 3"):
            from_transformers(folder, tmp_path / "out")
    else:
        encoder = from_transformers(folder, tmp_path / "out").model.encoder_config
        assert read_model_folder(tmp_path / "out").max_length == min(expected, encoder.max_tokens)


@pytest.mark.parametrize("named", [True, False])
def test_one_logit_is_a_number_as_in_transformers(named, make_folder, tmp_path):
    config = AutoConfig.from_pretrained(make_folder("distilbert"))
    config.num_labels, config.problem_type = 1, None
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path / "theirs")
    AutoTokenizer.from_pretrained(tmp_path / "model").save_pretrained(tmp_path / "theirs")
    change_config(tmp_path / "theirs", **({} if named else {"id2label": None, "label2id": None}))
    saved = from_transformers(tmp_path / "theirs", tmp_path / "out")
    assert (saved.task, saved.class_names) == ("regression", ("LABEL_0",))
    assert read_model_folder(tmp_path / "out").task == "regression"
    change_config(tmp_path / "theirs", problem_type="multi_label_classification")
    with pytest.raises(UserError, match=r"config\.json: number of labels: expected at least 2 with task multi_label"):
        from_transformers(tmp_path / "theirs", tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_labels_without_names_are_called_as_transformers_calls_them(make_folder, tmp_path):
    folder = make_folder("distilbert")
    change_config(folder, id2label=None, label2id=None)
    assert from_transformers(folder, tmp_path / "out").class_names == ("LABEL_0", "LABEL_1", "LABEL_2")


def test_segments_that_differ_leave_single_texts(make_folder, tmp_path):
    """The same answers to these; of pairs there would be others, so there are none."""
    folder = make_folder("bert")
    tensors = load_file(folder / "model.safetensors")
    table = "bert.embeddings.token_type_embeddings.weight"
    assert not tensors[table].any()
    tensors[table] = np.random.default_rng(3).normal(size=tensors[table].shape).astype(np.float32)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    theirs = AutoModelForSequenceClassification.from_pretrained(folder)
    saved = from_transformers(folder, tmp_path / "out")
    tokens = read(folder)
    inputs = tokens["input_ids"].numpy(), tokens["attention_mask"].numpy()
    with torch.no_grad():
        expected = theirs(**tokens).logits.numpy()
    np.testing.assert_allclose(call(load_model(tmp_path / "out"), *inputs).logits, expected, atol=1e-5)
    assert saved.reads_pairs is read_model_folder(tmp_path / "out").reads_pairs is False
    with pytest.raises(UserError, match="expected a string"):
        Classifier.from_pretrained(tmp_path / "out").predict([("w1", "w2")])
