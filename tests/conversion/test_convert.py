"""Conversion of whole models, in both directions, without PyTorch in the process that converts."""

import json
import re
import shutil
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from amsdff_jax import UserError, load_model
from amsdff_jax.config import ModelConfig
from amsdff_jax.config.encoder_families import read_encoder_values
from amsdff_jax.conversion.convert import describe, from_torch, to_torch
from amsdff_jax.conversion.verify import verify
from amsdff_jax.data.tokenization import load_tokenizer
from amsdff_jax.data.windows import Windows
from amsdff_jax.interop.torch_checkpoint import read_torch_file, write_torch_file
from amsdff_jax.models.baselines import CNNClassifier, LinearClassifier
from amsdff_jax.models.model_folder import SavedModel, read_model_config, read_model_folder, save_model
from amsdff_jax.models.state_dict import to_state_dict
from tests.compiled import call
from tests.processes import ROOT, run_script
from tests.test_parity import REFERENCE
from tests.tiny_encoders import TINY, new_families, same_on_padding

BASELINES = ("lstm", "gru", "transformer", "cnn", "attention")
ENCODER = str(REFERENCE / "encoder")


@pytest.fixture(scope="module")
def weights() -> dict[str, np.ndarray]:
    return load_file(REFERENCE / "model.safetensors")


@pytest.fixture(scope="module")
def expected() -> dict[str, np.ndarray]:
    return load_file(REFERENCE / "expected.safetensors")


def baseline_weights(name: str) -> dict[str, np.ndarray]:
    """A baseline's whole state dict: the encoder's tensors and its own."""
    encoder = {f"transformer.{key}": value for key, value in load_file(REFERENCE / "encoder/model.safetensors").items()}
    stored = load_file(REFERENCE / "baselines.safetensors")
    own = {key.removeprefix(f"{name}/"): value for key, value in stored.items() if key.startswith(f"{name}/")}
    return encoder | own


def assert_same_tensors(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert value.dtype == other[name].dtype, name
        assert value.shape == other[name].shape, name
        assert value.tobytes() == other[name].tobytes(), name


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_give_pytorchs_logits(name, expected, tmp_path):
    write_torch_file(tmp_path / "saved.pt", baseline_weights(name))
    saved = from_torch(tmp_path / "saved.pt", tmp_path / "model", encoder_config=ENCODER)
    assert saved.model.config.name == name
    logits = call(load_model(tmp_path / "model"), expected["input_ids"], expected["attention_mask"]).logits
    np.testing.assert_allclose(logits, load_file(REFERENCE / "baselines.safetensors")[f"{name}.logits"], atol=1e-5)


@pytest.mark.parametrize("name", ["amsdff", *BASELINES])
@pytest.mark.parametrize("ending", ["pt", "safetensors"])
def test_there_and_back_is_bit_for_bit(name, ending, weights, tmp_path):
    tensors = weights if name == "amsdff" else baseline_weights(name)
    write_torch_file(tmp_path / "saved.pt", tensors)
    from_torch(tmp_path / "saved.pt", tmp_path / "model", encoder_config=ENCODER)
    to_torch(tmp_path / "model", tmp_path / f"back.{ending}")
    back = tmp_path / f"back.{ending}"
    assert_same_tensors(read_torch_file(back) if ending == "pt" else load_file(back), tensors)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda tensors: tensors,
        lambda tensors: {"model_state_dict": tensors, "epoch": 3, "loss": 0.5, "timestamp": "2024-01-01"},
        lambda tensors: {"state_dict": tensors},
        lambda tensors: {f"module.{name}": value for name, value in tensors.items()},
        lambda tensors: {f"_orig_mod.module.{name}": value for name, value in tensors.items()},
        lambda tensors: {name.replace("transformer.", "distilbert.", 1): value for name, value in tensors.items()},
        lambda tensors: {re.sub(r"^transformer\.", "transformer.distilbert.", name): tensors[name] for name in tensors},
        lambda tensors: tensors | {"transformer.embeddings.position_ids": np.arange(64)[None]},
        lambda tensors: {
            name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
            for name, value in tensors.items()
        },
    ],
    ids=["bare", "epoch", "state_dict", "module", "compiled", "distilbert", "nested", "position_ids", "gamma"],
)  # fmt: skip
def test_wrappings_in_the_wild_are_seen_through(wrap, weights, tmp_path):
    write_torch_file(tmp_path / "wrapped.pt", wrap(weights))
    saved = from_torch(tmp_path / "wrapped.pt", tmp_path / "model", encoder_config=ENCODER)
    assert_same_tensors(to_state_dict(saved.model), weights)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("ending", ["pt", "safetensors"])
def test_short_floats_keep_their_values(dtype, ending, weights, torch, tmp_path):
    short = {name: value.astype(dtype) if value.dtype == np.float32 else value for name, value in weights.items()}
    as_torch = {
        name: torch.from_numpy(np.array(value, np.float32 if value.dtype.kind != "i" else None)).to(
            {np.dtype(np.float16): torch.float16, np.dtype(ml_dtypes.bfloat16): torch.bfloat16}.get(value.dtype)
        )
        for name, value in short.items()
    }
    if ending == "pt":
        torch.save(as_torch, tmp_path / "short.pt")
    else:
        from safetensors.torch import save_file as save_torch_file

        save_torch_file(as_torch, tmp_path / "short.safetensors")
    saved = from_torch(tmp_path / f"short.{ending}", tmp_path / "model", encoder_config=ENCODER)
    for name, value in to_state_dict(saved.model).items():
        np.testing.assert_array_equal(value, short[name].astype(value.dtype), err_msg=name)


def test_sizes_are_read_off_the_tensors(weights, tmp_path):
    saved = from_torch(
        REFERENCE / "model.safetensors", tmp_path / "model", encoder_config=f"{ENCODER}/config.json",
        class_names=["a", "b", "c", "ü"], padding="masked", num_attention_heads=4, max_length=17,
    )  # fmt: skip
    config = read_model_config(tmp_path / "model")
    assert config.class_names == ("a", "b", "c", "ü")
    assert (config.max_length, config.model.num_attention_heads, config.model.mask_padding) == (17, 4, True)
    assert (config.model.kernel_sizes, config.model.num_experts, config.model.num_classes) == ((1, 3, 5), 3, 4)
    assert (config.encoder.dim, config.encoder.n_layers, config.encoder.n_heads) == (48, 2, 4)
    assert saved.tokenizer is None
    with pytest.raises(UserError, match="holds no tokenizer"):
        read_model_folder(tmp_path / "model")


def test_a_tokenizer_comes_along_if_it_fits(tiny_encoder, weights, tmp_path):
    from_torch(REFERENCE / "model.safetensors", tmp_path / "model", encoder_config=ENCODER, tokenizer=str(tiny_encoder))
    assert read_model_folder(tmp_path / "model").tokenizer.backend_tokenizer.encode("w1").ids == [2, 6, 3]
    with pytest.raises(UserError, match=r"the tokenizer gives ids up to 30521, but the encoder's vocabulary has 211"):
        from_torch(REFERENCE / "model.safetensors", tmp_path / "x", encoder_config=ENCODER, tokenizer="minilm-l6")
    assert not (tmp_path / "x").exists()


FAULTS = {
    "no heads": ({}, {}, "do not tell the number of the encoder's attention heads; .* --encoder_config=PATH"),
    "class names": ({}, {"encoder_config": ENCODER, "class_names": ["a"]}, r"class_names: expected 4 different names"),
    "missing": ({"classifier.5.bias": None}, {"encoder_config": ENCODER}, "missing classifier.5.bias"),
    "extra": ({"classifier.9.weight": np.ones(3, np.float32)}, {"encoder_config": ENCODER},
              r"unknown classifier\.9\.weight"),
    "misshapen": ({"classifier.5.bias": np.ones(3, np.float32)}, {"encoder_config": ENCODER},
                  r"classifier\.5\.bias has shape \(3,\), expected \(12,\)"),
    "no scale": ({"multi_scale_attention.scale_convs.0.0.weight": None}, {"encoder_config": ENCODER}, "none of the cl"),
    "not a tensor": ({"classifier.5.bias": "text"}, {"encoder_config": ENCODER}, "'classifier.5.bias' is a str"),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTS)
def test_faults_are_named_and_nothing_is_written(case, weights, tmp_path):
    change, arguments, message = FAULTS[case]
    tensors = {name: value for name, value in (weights | change).items() if value is not None}
    write_torch_file(tmp_path / "bad.pt", tensors)
    with pytest.raises(UserError, match=message):
        from_torch(tmp_path / "bad.pt", tmp_path / "model", **arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.pt"]


def test_another_encoders_config_is_refused(tmp_path, tiny_encoder):
    with pytest.raises(UserError, match=r"vocab_size is 45, but .*model\.safetensors has 211"):
        from_torch(REFERENCE / "model.safetensors", tmp_path / "model", encoder_config=str(tiny_encoder))


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("x")
    with pytest.raises(UserError, match=r"holds chapter\.txt, which is no part of a model"):
        from_torch(REFERENCE / "model.safetensors", tmp_path / "thesis", encoder_config=ENCODER)
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["chapter.txt"]


def test_what_is_ignored_is_told_with_its_reason(weights, tmp_path):
    write_torch_file(tmp_path / "more.pt", weights | {
        "transformer.embeddings.position_ids": np.arange(64), "transformer.pooler.dense.bias": np.zeros(48),
    })  # fmt: skip
    text = describe(tmp_path / "more.pt")
    assert "ignored: transformer.embeddings.position_ids (a buffer of constants)" in text
    assert "ignored: transformer.pooler.dense.bias (BERT's pooler" in text


def test_describe_says_what_a_file_is():
    text = describe(REFERENCE / "trainer_checkpoint.pt")
    assert "checkpoint with model_state_dict" in text
    assert "the classifier 'amsdff'; 112 tensors, 104,471 numbers" in text
    assert re.search(r"classifier\.8\.weight +float32 +\[4, 12\]", text)


def test_the_twin_uses_a_model_folder(expected, torch, tmp_path):
    from amsdff_jax.conversion.torch_model import TorchClassifier

    length = expected["input_ids"].shape[1]  # up to which a model that sees padding pads by itself
    from_torch(REFERENCE / "model.safetensors", tmp_path / "model", encoder_config=ENCODER, max_length=length)
    model = TorchClassifier.from_pretrained(tmp_path / "model")
    with torch.no_grad():
        output = model(torch.from_numpy(expected["input_ids"]).long(), torch.from_numpy(expected["attention_mask"]))
    np.testing.assert_allclose(output.logits.numpy(), expected["eval.logits"], atol=1e-5)


@new_families
@pytest.mark.parametrize("mask_padding", [True, False], ids=["masked", "reference"])
def test_every_encoder_goes_to_pytorch_and_back(family, mask_padding, torch, tmp_path):
    if not mask_padding and not same_on_padding(family):
        pytest.skip("this version of transformers encodes padding otherwise")
    encoder = read_encoder_values(TINY[family])
    config = ModelConfig(num_classes=2, mask_padding=mask_padding)
    model = CNNClassifier(config, encoder, rngs=nnx.Rngs(0))  # which in reference semantics sees the padding
    save_model(tmp_path / "model", SavedModel(model, None, ("a", "b"), 17))
    to_torch(tmp_path / "model", tmp_path / "weights.pt")
    assert all(difference.equal for difference in verify(tmp_path / "model", tmp_path / "weights.pt"))
    (tmp_path / "encoder.json").write_text(json.dumps(TINY[family]))
    options = {"encoder_config": str(tmp_path / "encoder.json"), "padding": ("reference", "masked")[mask_padding]}
    again = from_torch(tmp_path / "weights.pt", tmp_path / "again", **options)
    assert again.model.encoder_config == load_model(tmp_path / "again").encoder_config == encoder
    assert_same_tensors(to_state_dict(again.model), to_state_dict(model))
    assert "renamed" not in describe(tmp_path / "weights.pt")


def test_verify_names_the_first_stage_that_differs(weights, torch, tmp_path):
    from_torch(REFERENCE / "model.safetensors", tmp_path / "model", encoder_config=ENCODER)
    assert all(difference.equal for difference in verify(tmp_path / "model", REFERENCE / "model.safetensors"))
    name = "dynamic_fusion.experts.1.3.weight"
    save_file(weights | {name: weights[name] * 1.1}, tmp_path / "other.safetensors")
    differences = verify(tmp_path / "model", tmp_path / "other.safetensors")
    assert [difference.stage for difference in differences if not difference.equal] == [
        "sequence", "pool_attention", "cls_attention", "pooled", "logits",
    ]  # fmt: skip


def test_trainers_checkpoint_gives_pytorchs_logits_without_pytorch(expected, tmp_path):
    """In a process that is new, and in which torch cannot be found."""
    script = [sys.executable, ROOT / "tests" / "plain_install.py", ROOT / "scripts" / "convert.py", "from-torch"]
    command = [*script, REFERENCE / "trainer_checkpoint.pt", tmp_path / "model", f"--encoder_config={ENCODER}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    logits = call(load_model(tmp_path / "model"), expected["input_ids"], expected["attention_mask"]).logits
    np.testing.assert_allclose(logits, expected["final.eval.logits"], atol=1e-5)


@pytest.fixture
def convert(tmp_path):
    """A function that runs the script without PyTorch and gives its exit code and output."""
    return lambda *arguments: run_script(tmp_path / "log", "convert.py", *arguments, hidden=["torch"])


def test_the_script_needs_no_pytorch(convert, tmp_path):
    model, checkpoint = str(tmp_path / "model"), str(REFERENCE / "model.safetensors")
    code, output = convert("from-torch", checkpoint, model, f"--encoder_config={ENCODER}", "--class_names=a,b,c,d")
    assert code == 0, output
    assert json.loads((tmp_path / "model" / "config.json").read_text())["label2id"] == {"a": 0, "b": 1, "c": 2, "d": 3}
    code, output = convert("verify", model, str(REFERENCE / "expected.safetensors"))
    assert code == 0, output
    assert "all stages equal" in output
    code, output = convert("verify", model, checkpoint)
    assert code == 2
    assert "PyTorch is needed to run these weights and is not installed" in output
    code, output = convert("to-torch", model, str(tmp_path / "no" / "folder" / "out.pt"))
    assert code == 2
    assert re.search(r"^error: .*out\.pt: cannot be written", output, re.M)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no command; there are inspect FILE"),
        (["inspekt", "x"], "inspekt: no such command; did you mean inspect?"),
        (["inspect"], "inspect: expected FILE, got 0 arguments"),
        (["to-torch", "a", "b", "c"], "to-torch: expected MODEL_DIR OUT, got 3 arguments"),
        (["inspect", "x.pt", "--padding=masked"], "--padding: a flag of from-torch, not of inspect"),
        (["to-torch", "nowhere", "out.txt"], "expected a name that ends in .pt or .safetensors"),
        (["inspect", "missing.pt"], "missing.pt: cannot be read (No such file or directory)"),
    ],
)
def test_mistakes_are_one_line(arguments, message, convert):
    code, output = convert(*arguments)
    assert code == 2
    assert message in output
    assert len(output.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        ({"eval.logits": None}, {}, "reference numbers without eval.logits"),
        ({"attention_mask": None}, {}, "reference numbers without attention_mask"),
        ({"input_ids": np.zeros((2, 500), np.int64)}, {}, r"input_ids \(2, 500\) and attention_mask \(5, 19\) do not"),
        (
            {"eval.pooled": np.zeros((5, 7), np.float32)},
            {},
            r"pooled has shape \(5, 7\), but the model's \(5, 48\)",
        ),
        ({}, {"texts": ["hello"]}, "holds reference numbers with inputs of their own"),
    ],
)
def test_reference_numbers_that_cannot_be_compared_are_an_error(change, arguments, message, expected, tmp_path):
    from_torch(REFERENCE / "model.safetensors", tmp_path / "model", encoder_config=ENCODER)
    numbers = {name: value for name, value in (expected | change).items() if value is not None}
    save_file(numbers, tmp_path / "numbers.safetensors")
    with pytest.raises(UserError, match=message):
        verify(tmp_path / "model", tmp_path / "numbers.safetensors", **arguments)


def test_what_is_read_of_long_texts_goes_there_and_back(tmp_path):
    saved = from_torch(REFERENCE / "model.safetensors", tmp_path / "model", encoder_config=ENCODER)
    save_model(tmp_path / "model", saved._replace(long_texts="head_tail"))
    to_torch(tmp_path / "model", tmp_path / "model.pt", layout="trainer")
    assert from_torch(tmp_path / "model.pt", tmp_path / "back", encoder_config=ENCODER).long_texts == "head_tail"
    assert read_model_config(tmp_path / "back").long_texts == "head_tail"
    write_torch_file(
        tmp_path / "odd.pt", {"model_state_dict": to_state_dict(saved.model), "config": {"long_texts": "x"}}
    )
    with pytest.raises(
        UserError, match=r"odd\.pt: long_texts: expected one of 'truncate', 'head_tail', 'windows', got 'x'"
    ):
        from_torch(tmp_path / "odd.pt", tmp_path / "odd", encoder_config=ENCODER)


@pytest.mark.parametrize("overlap", [0, 3])
def test_windows_go_there_and_back_with_the_weights_as_they_are(overlap, tiny_encoder, tmp_path):
    model = LinearClassifier.from_pretrained(str(tiny_encoder), 3)
    model.read_in_windows(Windows(24, overlap, 1, 1))
    saved = SavedModel(model, load_tokenizer(tiny_encoder), ("a", "b", "c"), 24, long_texts="windows")
    save_model(tmp_path / "model", saved)
    assert load_model(tmp_path / "model").windows == model.windows
    to_torch(tmp_path / "model", tmp_path / "model.pt", layout="trainer")
    back = from_torch(tmp_path / "model.pt", tmp_path / "back", encoder_config=tiny_encoder)
    assert (back.long_texts, back.model.windows) == ("windows", model.windows)
    for name, weights in to_state_dict(model).items():
        np.testing.assert_array_equal(to_state_dict(back.model)[name], weights)
    shutil.copyfile(tiny_encoder / "config.json", tmp_path / "config.json")
    with pytest.raises(UserError, match=r"model\.pt: its model reads windows of long texts, for which --tokenizer=DIR"):
        from_torch(tmp_path / "model.pt", tmp_path / "none", encoder_config=tmp_path / "config.json")
    with pytest.raises(UserError, match="long_texts: expected windows if, and only if, the model has some"):
        save_model(tmp_path / "other", saved._replace(long_texts="truncate"))
    content = json.loads((tmp_path / "model" / "config.json").read_text())
    for windows, message in (
        (None, "windows: expected"),
        ({"overlap": 12}, "prefix"),
        ({"size": 9, "x": 1}, "windows.x"),
    ):
        changed = content | {"amsdff": content["amsdff"] | {"windows": windows}}
        (tmp_path / "model" / "config.json").write_text(json.dumps(changed))
        with pytest.raises(UserError, match=rf"config\.json: .*{message}"):
            load_model(tmp_path / "model")


def test_a_state_dict_of_one_logit_is_of_a_number(tiny_encoder, tmp_path):
    model = LinearClassifier.from_pretrained(str(tiny_encoder), 1)
    write_torch_file(tmp_path / "one.pt", to_state_dict(model))
    assert from_torch(tmp_path / "one.pt", tmp_path / "one", encoder_config=tiny_encoder).task == "regression"
    two = LinearClassifier.from_pretrained(str(tiny_encoder), 2)
    write_torch_file(tmp_path / "two.pt", to_state_dict(two))
    for file, task, expected in (("one", "single", "at least 2 with task single"), ("two", "regression", "1, more")):
        with pytest.raises(UserError, match=rf"number of labels: expected {expected}"):
            from_torch(tmp_path / f"{file}.pt", tmp_path / "none", encoder_config=tiny_encoder, task=task)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("config", [{"max_length": "128", "class_names": 4}, {"class_names": "abcd"}, "text"])
def test_strange_settings_in_a_checkpoint_are_passed_over(config, weights, tmp_path):
    write_torch_file(tmp_path / "odd.pt", {"model_state_dict": weights, "config": config})
    saved = from_torch(tmp_path / "odd.pt", tmp_path / "model", encoder_config=ENCODER)
    assert (saved.max_length, saved.class_names) == (64, ("0", "1", "2", "3"))


def test_an_encoders_folder_is_never_replaced(tmp_path):
    shutil.copytree(ENCODER, tmp_path / "encoder")
    before = sorted(path.name for path in tmp_path.rglob("*"))
    with pytest.raises(UserError, match=r"config\.json: a model of transformers"):
        from_torch(REFERENCE / "model.safetensors", tmp_path / "encoder", encoder_config=ENCODER)
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_sizes_that_no_file_can_hold_are_refused(weights, tmp_path):
    name = "dynamic_fusion.experts.1000000000.0.weight"
    save_file(weights | {name: np.ones((48, 48), np.float32)}, tmp_path / "many.safetensors")
    with pytest.raises(UserError, match=r"has dynamic_fusion\.experts\.1000000000, but not all before it"):
        from_torch(tmp_path / "many.safetensors", tmp_path / "model", encoder_config=ENCODER)
    save_file(weights | {"classifier.8.weight": np.ones((2**40, 0), np.float32)}, tmp_path / "huge.safetensors")
    with pytest.raises(UserError, match=r"classifier\.8\.weight has shape .* expected a matrix"):
        from_torch(tmp_path / "huge.safetensors", tmp_path / "model", encoder_config=ENCODER)


def test_integers_are_no_weights(weights, tmp_path):
    save_file(weights | {"classifier.8.weight": np.ones((4, 12), np.int8)}, tmp_path / "quantized.safetensors")
    with pytest.raises(UserError, match=r"classifier\.8\.weight holds int8, expected floating"):
        from_torch(tmp_path / "quantized.safetensors", tmp_path / "model", encoder_config=ENCODER)
