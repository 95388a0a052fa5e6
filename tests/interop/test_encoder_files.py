"""An encoder is read from every layout that people have it in, and is checked before it is used."""

import json
import logging
import shutil

import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file

from amsdff_jax import EnhancedAMSDFF, UserError
from amsdff_jax.config import EncoderConfig
from amsdff_jax.interop.encoder_files import check_encoder_sizes, read_encoder_config, read_encoder_weights
from amsdff_jax.interop.hub import find_encoder, find_tokenizer
from amsdff_jax.interop.torch_checkpoint import write_torch_file
from amsdff_jax.models.encoders.distilbert import DistilBertEncoder
from amsdff_jax.models.model_folder import SavedModel, save_model
from amsdff_jax.models.state_dict import to_state_dict

SIZES = {"vocab_size": 11, "max_position_embeddings": 13, "dim": 8, "n_layers": 1, "n_heads": 2, "hidden_dim": 10}
WORDS, POSITIONS, SEGMENTS = (f"embeddings.{kind}_embeddings.weight" for kind in ("word", "position", "token_type"))


@pytest.fixture(scope="module")
def tensors() -> dict[str, np.ndarray]:
    return to_state_dict(DistilBertEncoder(EncoderConfig(**SIZES), rngs=nnx.Rngs(0)))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "encoder").mkdir()
    (tmp_path / "encoder" / "config.json").write_text(json.dumps({"model_type": "distilbert", **SIZES}))
    return tmp_path / "encoder"


def write_shards(folder, tensors, name, write, **changes):
    """Two shards and their index."""
    names = sorted(tensors)
    stem, ending = name.split(".", 1)
    places = {key: f"{stem}-0000{1 + (key in names[5:])}-of-00002.{ending}" for key in names}
    for place in set(places.values()):
        write(folder / place, {key: tensors[key] for key in names if places[key] == place})
    index = {"metadata": {"total_size": 1}, "weight_map": places} | changes
    (folder / f"{name}.index.json").write_text(json.dumps(index))


def write_safe(file, tensors):
    save_file(tensors, file)


LAYOUTS = {
    "one file": lambda folder, tensors: write_safe(folder / "model.safetensors", tensors),
    "shards": lambda folder, tensors: write_shards(folder, tensors, "model.safetensors", write_safe),
    "PyTorch": lambda folder, tensors: write_torch_file(folder / "pytorch_model.bin", tensors),
    "PyTorch's shards": lambda folder, tensors: write_shards(folder, tensors, "pytorch_model.bin", write_torch_file),
    "wrapped": lambda folder, tensors: write_torch_file(
        folder / "pytorch_model.bin", {"state_dict": tensors, "epoch": 3}
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_weights_are_read_from_every_layout(layout, folder, tensors):
    LAYOUTS[layout](folder, tensors)
    weights = read_encoder_weights(find_encoder(str(folder)))
    assert weights.tensors.keys() == tensors.keys()
    for name, value in tensors.items():
        np.testing.assert_array_equal(weights.tensors[name], value, err_msg=name)


@pytest.mark.parametrize("prefix", ["", "distilbert.", "module.bert.", "0.auto_model.", "transformer."])
def test_what_is_no_part_of_the_encoder_is_left_out(prefix, folder, tensors):
    names = ("lm_head.weight", "score.weight", "w", "heads.ner.0.bias", f"{prefix}pooler.dense.bias")
    others = {name: np.ones((2, 8), np.float32) for name in names}
    write_safe(folder / "model.safetensors", {prefix + name: value for name, value in tensors.items()} | others)
    weights = read_encoder_weights(folder)
    assert weights.tensors.keys() == tensors.keys()
    assert weights.ignored == tuple(sorted(others))


def test_old_names_of_layer_norms_are_known(folder, tensors):
    old = {name.replace("norm.weight", "norm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
           for name, value in tensors.items()}  # fmt: skip
    write_safe(folder / "model.safetensors", old)
    assert read_encoder_weights(folder).tensors.keys() == tensors.keys()


def test_what_is_left_out_is_said(tiny_encoder, tmp_path, caplog):
    shutil.copytree(tiny_encoder, tmp_path / "encoder")
    weights = read_encoder_weights(tmp_path / "encoder")
    others = {f"head.{number}.weight": np.ones(1) for number in range(2000)}
    write_safe(tmp_path / "encoder" / "model.safetensors", weights.tensors | others)
    with caplog.at_level(logging.INFO, "amsdff_jax"):
        EnhancedAMSDFF.from_pretrained(str(tmp_path / "encoder"), 2, num_attention_heads=4)
    assert "2000 left out (head.0.weight, head.1.weight, " in caplog.text
    assert "1,992 more" in caplog.text


def test_a_classifier_of_ours_gives_its_encoder(tiny_encoder, tmp_path):
    first = EnhancedAMSDFF.from_pretrained(str(tiny_encoder), 3, num_attention_heads=4)
    first.transformer.transformer.layer[0].ffn.lin1.bias[...] += 1
    save_model(tmp_path / "model", SavedModel(first, None, ("a", "b", "c"), 24))
    second = EnhancedAMSDFF.from_pretrained(str(tmp_path / "model"), 2, num_attention_heads=4, seed=1)
    assert second.config.num_classes == 2
    for name, value in to_state_dict(first.transformer).items():
        np.testing.assert_array_equal(to_state_dict(second.transformer)[name], value, err_msg=name)


def test_old_sentence_transformers_keep_the_encoder_in_a_folder(tiny_encoder, tmp_path):
    shutil.copytree(tiny_encoder, tmp_path / "model" / "0_Transformer")
    (tmp_path / "model" / "config.json").write_text('{"__version__": {"sentence_transformers": "0.4"}}')
    assert find_encoder(str(tmp_path / "model")) == tmp_path / "model" / "0_Transformer"
    assert find_tokenizer("", str(tmp_path / "model")) == tmp_path / "model" / "0_Transformer"
    assert find_tokenizer(str(tmp_path / "model"), "") == tmp_path / "model" / "0_Transformer"


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("place", ["", "0_Transformer/"])
def test_every_layout_comes_from_the_hub(layout, place, folder, tensors, tmp_path, monkeypatch):
    LAYOUTS[layout](folder, tensors)
    (tmp_path / "models--some--model" / "refs").mkdir(parents=True)
    (tmp_path / "models--some--model" / "refs" / "main").write_text("0" * 40)
    shutil.copytree(folder, tmp_path / "models--some--model" / "snapshots" / ("0" * 40) / place)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert read_encoder_weights(find_encoder("some/model")).tensors.keys() == tensors.keys()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({WORDS: None}, "holds no tensor embeddings.word_embeddings.weight"),
        ({"other." + WORDS: np.ones((11, 8), np.float32)}, "holds 2 tensors embeddings.word"),
        ({POSITIONS: np.ones(13, np.float32)}, r"position_embeddings.weight has shape \(13,\); expected a matrix"),
        ({"transformer.layer.3.x": np.ones(1)}, "has transformer.layer.3, but not all before it"),
        ({SEGMENTS: np.ones((2, 9), np.float32)}, r"have shapes \(2, 9\) and \(13, 8\)"),
        ({SEGMENTS: np.ones((0, 8), np.float32)}, r"have shapes \(0, 8\) and \(13, 8\)"),
        ({SEGMENTS: np.ones(8, np.float32)}, r"have shapes \(8,\) and \(13, 8\)"),
        ({SEGMENTS: np.ones((2, 8), np.int64)}, "of int64 and float32"),
        ({SEGMENTS: np.ones((2, 8), np.float32), POSITIONS: np.ones((1, 13, 8), np.float32)}, "have shapes"),
        ({WORDS: np.ones((12, 8), np.float32)}, "config.json: vocab_size is 11, but .* has 12"),
    ],
)
@pytest.mark.parametrize("ending", ["safetensors", "bin"])
def test_an_encoder_that_does_not_fit_is_one_line(change, message, ending, folder, tensors):
    changed = {name: value for name, value in (tensors | change).items() if value is not None}
    if ending == "bin":
        write_torch_file(folder / "pytorch_model.bin", changed)
    else:
        write_safe(folder / "model.safetensors", changed)
    with pytest.raises(UserError, match=message):
        weights = read_encoder_weights(folder)
        check_encoder_sizes(read_encoder_config(folder), weights.tensors, str(weights.file), f"{folder}/config.json")


@pytest.mark.parametrize("sizes", [{"n_layers": 10**9}, {"vocab_size": 10**18}, {"n_layers": 900}, {"dim": 1 << 20}])
def test_sizes_that_the_weights_do_not_have_are_told_before_anything_is_built(sizes, folder, tensors):
    write_safe(folder / "model.safetensors", tensors)
    (folder / "config.json").write_text(json.dumps({"model_type": "distilbert", **SIZES} | sizes))
    with pytest.raises(UserError, match=rf"config\.json: (encoder )?{next(iter(sizes))}"):
        EnhancedAMSDFF.from_pretrained(str(folder), 2, num_attention_heads=4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weight_map": []}, "expected an index with a weight_map"),
        ({"weight_map": {"a": 3}}, "expected an index with a weight_map"),
        ({"weight_map": {"a": "../model.safetensors"}}, "expected an index with a weight_map"),
        ({"weight_map": {"a": ""}}, "expected an index with a weight_map"),
        ({"weight_map": {"a": "\ud800.safetensors"}}, "expected an index with a weight_map"),
        ({"weight_map": {"a": "model.safetensors.index.json"}}, "expected an index with a weight_map"),
        ({"weight_map": {"a": "gone.safetensors"}}, r"gone\.safetensors: cannot be read"),
        ({"weight_map": {"a": "model-00001-of-00002.safetensors"}}, "its shards do not hold a; fetch the files anew"),
    ],
)
def test_a_damaged_index_is_one_line(changes, message, folder, tensors):
    write_shards(folder, tensors, "model.safetensors", write_safe, **changes)
    with pytest.raises(UserError, match=message):
        read_encoder_weights(folder)


def test_a_folder_without_weights_says_what_it_holds(folder):
    for name in ("tf_model.h5", "weights.safetensors"):
        (folder / name).touch()
    with pytest.raises(
        UserError, match=r"holds no weights .* but config\.json, tf_model\.h5, weights\.safetensors; ren"
    ):
        read_encoder_weights(folder)
