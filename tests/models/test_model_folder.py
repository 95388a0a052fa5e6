"""Whatever stands in a model folder, loading it gives the model or one line, and that soon."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import amsdff_jax
from amsdff_jax import EnhancedAMSDFF, UserError
from amsdff_jax.data.tokenization import load_tokenizer
from amsdff_jax.models.model_folder import SavedModel, load_model, read_model_config, read_model_folder, save_model
from tests.conftest import TINY_HEAD
from tests.test_architecture import imported_modules


@pytest.fixture(scope="module")
def original(tiny_encoder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile") / "model"
    model = EnhancedAMSDFF.from_pretrained(str(tiny_encoder), 2, **TINY_HEAD)
    save_model(folder, SavedModel(model, load_tokenizer(tiny_encoder), ("a", "b"), 24))
    return folder


@pytest.fixture
def folder(original, tmp_path):
    shutil.copytree(original, tmp_path / "model")
    return tmp_path / "model"


def change_config(folder, section, **values):
    file = folder / "config.json"
    config = json.loads(file.read_text())
    own = config["amsdff"]
    {"": config, "own": own}.get(section, own.get(section)).update(values)
    file.write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("section", "name", "value", "message"),
    [
        ("encoder", "n_layers", 10**9, "encoder n_layers: expected a positive number, at most"),
        ("encoder", "n_layers", 300, r"n_layers is 300, but .*model\.safetensors has 1$"),
        ("encoder", "vocab_size", 10**18, "encoder vocab_size: expected"),
        ("encoder", "vocab_size", 46, r"vocab_size is 46, but .* has 45$"),
        ("encoder", "hidden_dim", 1 << 24, r"hidden_dim is 16777216, but .* has 36$"),
        ("encoder", "dim", 10**4000, "encoder dim: expected"),
        ("encoder", "dropout", float("nan"), "encoder dropout: expected from 0 to below 1"),
        ("encoder", "dropout", 10**400, "encoder.dropout: expected a number"),
        ("model", "num_experts", 10**9, r"model\.num_experts: expected at least 1, at most"),
        ("model", "num_experts", 999, r"num_experts is 999, but .* has 2$"),
        ("model", "kernel_sizes", [1, 10**18 + 1], r"model\.kernel_sizes: expected"),
        ("model", "kernel_sizes", [1, 999], r"kernel_sizes is \(1, 999\), but .* has \(1, 3\)$"),
        ("model", "kernel_sizes", [1] * 10**5, r"model\.kernel_sizes: expected"),
        ("model", "num_attention_heads", 7, r"model\.num_attention_heads: expected"),
        ("model", "num_classes", 10**18, r"model\.num_classes: expected"),
        ("model", "ordinal", True, r"ordinal is True, but .* has False$"),
        ("model", "ordinal", "yes", r"model\.ordinal: expected"),
        ("model", "name", "x" * 10**6, r"model\.name: expected one of"),
        ("model", "x" * 10**6, 1, "no such field"),
        ("own", "encoder", 3, "encoder: expected names and values, got 3"),
        ("own", "max_length", 41, r"max_length: expected at least 3 .* at most 40, the encoder's positions, got 41"),
        ("own", "max_length", 10**6, "max_length: expected"),
        ("own", "reads_pairs", 1, "reads_pairs: expected"),
        ("own", "long_texts", "tail", "long_texts: expected one of 'truncate', 'head_tail'"),
        ("own", "long_texts", ["truncate"], "long_texts: expected one of|not the config.json"),
        ("", "id2label", {str(n): str(n) for n in range(10**5)}, "class_names: expected 2 different names"),
        ("", "id2label", {"0": "a", "2": "b"}, "id2label: expected names of classes by their numbers"),
        ("", "id2label", ["a", "b"], "id2label: expected names of classes by their numbers"),
        ("", "model_type", "distilbert", "model_type: expected 'amsdff' or the family of a model 'bert'"),
        ("", "amsdff", 3, "not the config.json of a model folder"),
    ],
)  # fmt: skip
def test_sizes_are_compared_before_a_module_is_made(section, name, value, message, folder):
    change_config(folder, section, **{name: value})
    with pytest.raises(UserError, match=rf"config\.json: .*{message}") as caught:
        load_model(folder)
    assert len(str(caught.value)) < 1000


def test_stages_that_the_weights_lack_are_not_built(folder):
    weights = {name: value for name, value in load_file(folder / "model.safetensors").items() if "experts" not in name}
    save_file(weights, folder / "model.safetensors")
    change_config(folder, "model", num_experts=1000)
    with pytest.raises(UserError, match=r"model\.num_experts is 1000, but .* has 0"):
        load_model(folder)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers_are_named(number, folder):
    weights = load_file(folder / "model.safetensors")
    weights["classifier.8.bias"][1] = number
    weights["transformer.embeddings.LayerNorm.weight"][3] = number
    weights["multi_scale_attention.scale_convs.0.2.running_var"][0] = -1
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(UserError) as caught:
        load_model(folder)
    for fault in (
        "classifier.8.bias holds NaN",
        "embeddings.LayerNorm.weight holds NaN",
        "running_var holds variances",
    ):
        assert fault in str(caught.value)


def test_numbers_too_large_for_float32_are_named(folder):
    weights = load_file(folder / "model.safetensors")
    weights["classifier.8.bias"] = np.array([1, 1e300])
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(UserError, match=r"classifier\.8\.bias holds NaN or infinity"):
        load_model(folder)


def test_of_many_strange_tensors_a_few_are_named(folder):
    weights = load_file(folder / "model.safetensors")
    unexpected = {f"strange.{number}.{'x' * 500}": np.ones(1) for number in range(20_000)}
    save_file(weights | unexpected, folder / "model.safetensors")
    with pytest.raises(UserError, match=r"unknown strange\.0\.x.* and 19,992 more$") as caught:
        load_model(folder)
    assert len(str(caught.value)) < 5000


def test_a_tokenizer_of_another_model_is_told_on_loading(folder):
    file = folder / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    tokenizer["model"]["vocab"]["[USER]"] = 45
    file.write_text(json.dumps(tokenizer))
    with pytest.raises(UserError, match="the tokenizer gives ids up to 45, but the encoder's vocabulary has 45"):
        read_model_folder(folder)


def test_the_folder_of_a_run_leads_to_its_model(folder):
    run = folder.parent
    (run / "config.json").write_text("{}")
    with pytest.raises(UserError, match=f"{run}: the folder of a run; expected that of its model, {folder}"):
        read_model_folder(run)


def test_folders_of_the_first_format_are_read(folder):
    """Without a part of their own in `config.json`, and without what transformers needs."""
    expected = read_model_config(folder)
    file = folder / "config.json"
    own = json.loads(file.read_text())["amsdff"]
    file.write_text(json.dumps({"model_type": "amsdff", "format_version": 1, "class_names": ["a", "b"]} | own))
    (folder / "modeling_amsdff.py").unlink()
    assert read_model_config(folder) == expected
    save_model(folder, read_model_folder(folder))  # in its place one of today's
    assert (folder / "modeling_amsdff.py").exists()
    assert read_model_config(folder) == expected


def test_a_module_for_transformers_is_the_one_file(folder):
    source = Path(amsdff_jax.__file__).parent / "interop" / "torch_architecture.py"
    assert (folder / "modeling_amsdff.py").read_bytes() == source.read_bytes()
    imported = {name.split(".")[0] for name in imported_modules(source)}
    assert imported == {"dataclasses", "math", "types", "typing", "torch", "transformers"}
