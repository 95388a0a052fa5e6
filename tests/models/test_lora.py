"""Adapters beside the projections of every family: nothing at first, learned alone, merged without a trace."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from flax import nnx

from amsdff_jax import UserError, load_model
from amsdff_jax.config import EncoderConfig, ModelConfig
from amsdff_jax.config.encoder_families import read_encoder_values
from amsdff_jax.conversion.convert import from_torch, to_torch
from amsdff_jax.interop.peft_adapter import head_modules
from amsdff_jax.interop.safetensors_file import read_safetensors, write_safetensors
from amsdff_jax.interop.torch_checkpoint import read_torch_file
from amsdff_jax.models.adapters import merge_adapters, save_adapters
from amsdff_jax.models.baselines import LinearClassifier
from amsdff_jax.models.layers import Linear
from amsdff_jax.models.lora import DEFAULT_TARGETS, LoRALinear, is_adapter, is_new
from amsdff_jax.models.model_folder import SavedModel, save_model
from amsdff_jax.models.registry import MODELS
from amsdff_jax.models.state_dict import to_state_dict
from tests.compiled import call
from tests.tiny_encoders import TINY, every_family

HEAD = ["classifier.weight", "classifier.bias"]


def sizes(family: str) -> EncoderConfig:
    """One block of a tiny encoder."""
    return dataclasses.replace(read_encoder_values(TINY[family]), n_layers=1)


def make(family: str, name: str = "linear", **fields):
    """A classifier whose adapters are as if they had learned."""
    config = ModelConfig(num_classes=2, num_attention_heads=4, **{"lora_rank": 3, "lora_alpha": 7} | fields)
    model = MODELS[name](config, sizes(family), rngs=nnx.Rngs(0))
    random = np.random.default_rng(1)
    for _, module in nnx.iter_modules(model):
        if isinstance(module, LoRALinear):
            kernel = module.lora_B.kernel
            kernel.set_value(jax.numpy.asarray(random.normal(0, 0.3, kernel.shape), np.float32))
    return model


def projections(family: str) -> tuple[str, ...]:
    """The names of all dense layers of an encoder."""
    encoder = make(family, lora_rank=0).transformer
    modules = [module for _, module in nnx.iter_modules(encoder)]
    return tuple({name for module in modules for name, child in vars(module).items() if type(child) is Linear})


def inputs(family: str) -> tuple[np.ndarray, np.ndarray]:
    mask = (np.arange(11) < np.array([[11], [4], [7]])).astype(np.int32)
    ids = np.random.default_rng(2).integers(2, 37, mask.shape)
    return np.where(mask, ids, sizes(family).pad_token_id), mask


@every_family
def test_merged_equals_unmerged(family):
    targets = projections(family)
    assert set(DEFAULT_TARGETS[family]) < set(targets)
    model = make(family, lora_targets=targets, lora_dropout=0.5)
    ids, mask = inputs(family)
    before, merged = call(model, ids, mask).encoder_output, merge_adapters(model)
    after = call(merged, ids, mask).encoder_output
    largest = np.abs(before).max()
    np.testing.assert_allclose(before, after, atol=1e-6 * max(1, largest))
    plain = to_state_dict(make(family, lora_rank=0))
    assert to_state_dict(merged).keys() == plain.keys()
    assert not any(is_adapter(name) for name in plain)
    changed = {name for name, tensor in to_state_dict(merged).items() if not np.array_equal(tensor, plain[name])}
    assert {name.split(".")[-2] for name in changed} == set(targets)
    # In training the dropout of every adapter gets its seed, and another one each time.
    model.train()
    one, other = (np.asarray(call(model, ids, mask, jax.random.key(seed)).encoder_output) for seed in (0, 1))
    assert np.abs(one - before).max() > 1e-3 * largest < np.abs(one - other).max()


@every_family
def test_adapters_begin_with_nothing_and_leave_the_other_weights_of_a_seed(family):
    with_adapters, without = (
        to_state_dict(LinearClassifier(ModelConfig(num_classes=2, lora_rank=rank), sizes(family), rngs=nnx.Rngs(0)))
        for rank in (2, 0)
    )
    adapters = {name: with_adapters.pop(name) for name in list(with_adapters) if is_adapter(name)}
    assert all(np.array_equal(tensor, without[name]) for name, tensor in with_adapters.items())
    assert with_adapters.keys() == without.keys()
    assert {name.split(".")[-3] for name in adapters} == set(DEFAULT_TARGETS[family])
    assert all(("lora_B" in name) == (not tensor.any()) for name, tensor in adapters.items())


def test_only_adapters_and_head_learn_and_a_run_resumes(tiny_trainer, tmp_path):
    settings = {"model__lora_rank": 2, "model__lora_dropout": 0.1, "train__epochs": 1}
    settings |= {"train__learning_rate_table": (("embeddings", 0.0),)}  # which are frozen already
    whole = tiny_trainer(tmp_path / "whole", **settings)
    before = to_state_dict(whole.model)
    assert whole.trained_parameters == sum(tensor.size for name, tensor in before.items() if is_new(name))
    state = jax.tree.leaves(whole.state.optimizer_state)
    assert sum(leaf.size for leaf in state if leaf.ndim) == 2 * whole.trained_parameters
    whole.train()
    after = to_state_dict(whole.model)
    same = {name for name in before if np.array_equal(before[name], after[name])}
    assert same == {name for name in before if not is_new(name)}
    tiny_trainer(**settings).train(max_steps=4)
    resumed = tiny_trainer(**settings)
    resumed.train()
    jax.tree.map(np.testing.assert_array_equal, whole.state, resumed.state)

    # What a run leaves behind is an ordinary model, and the adapters apart from it.
    loaded = load_model(resumed.workdir / "model")
    assert loaded.config.lora_rank == 0
    ids, mask = np.array([[2, 9, 8, 3]]), np.ones((1, 4), np.int32)
    logits = call(resumed.model, ids, mask).logits
    np.testing.assert_allclose(call(loaded, ids, mask).logits, logits, atol=1e-6 * max(1, np.abs(logits).max()))
    merged = to_state_dict(loaded)
    again = from_torch(
        resumed.workdir / "adapter", tmp_path / "again", encoder_config=resumed.config.model.encoder, padding="masked"
    )
    assert all(np.array_equal(tensor, merged[name]) for name, tensor in to_state_dict(again.model).items())
    to_torch(resumed.workdir, tmp_path / "run.pt", layout="trainer")
    saved = read_torch_file(tmp_path / "run.pt")
    assert saved["model_state_dict"].keys() == merged.keys()
    groups = saved["optimizer_state_dict"]["param_groups"]
    moving = [name for group in groups for name in group["param_names"] if group["initial_lr"]]
    assert sorted(moving) == sorted(HEAD)
    assert len(saved["optimizer_state_dict"]["state"]) == len(HEAD)
    # Another run goes on from there, with new adapters.
    settings |= {"train__epochs": 2, "train__init_from": str(tmp_path / "run.pt")}
    continued = tiny_trainer(tmp_path / "on", **settings)
    assert int(continued.state.step) == whole.total_steps
    start = to_state_dict(merge_adapters(continued.model))
    assert all(np.array_equal(start[name], tensor) for name, tensor in saved["model_state_dict"].items())


def test_adapters_are_written_as_peft_has_them(tmp_path):
    save_adapters(tmp_path / "adapter", make("roberta", lora_dropout=0.1, encoder=str(tmp_path)))
    assert json.loads((tmp_path / "adapter" / "adapter_config.json").read_text()) == {
        "peft_type": "LORA", "task_type": None, "base_model_name_or_path": tmp_path.name, "inference_mode": True,
        "r": 3, "lora_alpha": 7.0, "lora_dropout": 0.1, "target_modules": ["query", "value"],
        "modules_to_save": ["classifier"], "bias": "none",
    }  # fmt: skip
    shapes = {
        name: array.shape for name, array in read_safetensors(tmp_path / "adapter/adapter_model.safetensors").items()
    }
    attention = "base_model.model.transformer.encoder.layer.{}.attention.self.{}.lora_{}.weight"
    places = [(0, "query"), (0, "value")]
    expected = {attention.format(*place, "A"): (3, 24) for place in places}
    expected |= {attention.format(*place, "B"): (24, 3) for place in places}
    assert shapes == expected | {f"base_model.model.{HEAD[0]}": (2, 24), f"base_model.model.{HEAD[1]}": (2,)}


@pytest.mark.parametrize(
    ("name", "modules"),
    [
        ("cnn", ["convs.0", "convs.1", "convs.2", "classifier"]),
        ("lstm", ["lstm", "classifier"]),
        ("attention", ["attention.0", "attention.2", "classifier"]),
    ],
)
def test_of_a_head_whole_modules_are_named(name, modules):
    assert head_modules(to_state_dict(make("distilbert", name))) == modules


def test_a_head_that_peft_would_mistake_for_the_encoders_layers_is_not_written(tmp_path, caplog):
    save_adapters(tmp_path / "adapter", make("distilbert", "transformer"))
    assert "not written, for peft would take the encoder's layers for the head's" in caplog.text
    assert not (tmp_path / "adapter").exists()


def test_what_peft_could_not_put_on_transformers_own_class_is_not_written(tmp_path, caplog):
    save_adapters(tmp_path / "adapter", make("distilbert", "bert"))
    assert "not written, for the base of model.name=bert is transformers' own class" in caplog.text
    assert not (tmp_path / "adapter").exists()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"lora_targets": ("query",)},
            r"^model\.lora_targets: .* no projection 'query'; there are q_lin, k_lin, v_lin",
        ),
        ({"lora_targets": ("v_li",)}, "no projection 'v_li'"),
        ({"lora_rank": -1}, r"^model\.lora_rank: expected 0, for no adapters, to 1000, got -1$"),
        ({"lora_alpha": 0.0}, r"^model\.lora_alpha: expected a number above 0"),
        ({"lora_dropout": 1.0}, r"^model\.lora_dropout: expected from 0 to below 1"),
        ({"resize_embeddings": True}, r"^model\.lora_rank: expected 0 with model\.resize_embeddings"),
    ],
)
def test_mistakes_are_one_line(fields, message):
    with pytest.raises(UserError, match=message):
        make("distilbert", **fields)


def test_a_rate_for_what_adapters_freeze_is_refused(tiny_trainer):
    table = (("word_embeddings", 1e-3),)
    with pytest.raises(UserError, match=r"'word_embeddings' decides no parameter .*lora_rank freezes all of the enc"):
        tiny_trainer(model__lora_rank=2, train__learning_rate_table=table)


@pytest.fixture
def adapter(tiny_encoder, tmp_path):
    """A folder of adapters for `tiny_encoder`."""
    model = LinearClassifier.from_pretrained(str(tiny_encoder), 2, lora_rank=2)
    save_adapters(tmp_path / "adapter", model)
    return tmp_path / "adapter"


QUERY = "base_model.model.transformer.transformer.layer.0.attention.q_lin"


@pytest.mark.parametrize(
    ("config", "tensors", "message"),
    [
        ({"peft_type": "IA3"}, {}, "peft_type is 'IA3', expected 'LORA'"),
        ({"use_dora": True}, {}, "use_dora is True, expected None; merge these adapters in peft"),
        ({"bias": "all"}, {}, "bias is 'all', expected 'none'"),
        ({"init_lora_weights": "pissa"}, {}, "init_lora_weights is 'pissa', expected True"),
        ({"alpha_pattern": {"q_lin": 4}}, {}, "alpha_pattern is"),
        ({"lora_alpha": "8"}, {}, "expected peft_type 'LORA' and a lora_alpha above 0, got lora_alpha '8'"),
        (
            {},
            {f"{QUERY}.lora_A.weight": np.ones((2, 23))},
            r"q_lin has lora_A \(2, 23\) and lora_B \(24, 2\); expected",
        ),
        ({}, {f"{QUERY}.lora_A.weight": np.ones(())}, r"q_lin has lora_A \(\)"),
        ({}, {f"{QUERY}.lora_B.weight": None}, r"lora_B \(0,\)"),
        ({}, {f"{QUERY}.lora_magnitude_vector": np.ones(24)}, "lora_magnitude_vector: expected lora_A and lora_B of"),
        ({}, {"base_model.model.bert.layer.lora_A.weight": np.ones((2, 24))}, "bert.layer is no layer of a class"),
        ({}, {"base_model.model.classifier.bias": None}, "the weights do not fit the model: missing classifier.bias"),
    ],
)
def test_adapters_that_would_compute_something_else_are_refused(
    config, tensors, message, adapter, tiny_encoder, tmp_path
):
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | config))
    file = adapter / "adapter_model.safetensors"
    changed = {name: tensor for name, tensor in (read_safetensors(file) | tensors).items() if tensor is not None}
    write_safetensors(file, changed)
    with pytest.raises(UserError, match=message) as caught:
        from_torch(adapter, tmp_path / "model", encoder_config=str(tiny_encoder))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "model").exists()


def test_adapters_need_their_encoder(adapter, tmp_path):
    with pytest.raises(UserError, match="adapters alone; name the encoder that they stand on with --encoder_config"):
        from_torch(adapter, tmp_path / "model")


@pytest.fixture
def peft():
    pytest.importorskip("torch", reason="needs PyTorch")
    return pytest.importorskip("peft", reason="needs peft")


HEADS = {"distilbert": "attention", "roberta": "amsdff", "electra": "lstm", "mpnet": "cnn"}


@pytest.mark.slow
@every_family
def test_peft_loads_ours_and_ours_reads_what_peft_saves(family, peft, tmp_path):
    import torch

    from amsdff_jax import TorchClassifier

    name = HEADS.get(family, "linear")
    model = make(family, name)
    plain = make(family, name, lora_rank=0, encoder="an-encoder")
    # What the adapters stand on: the encoder as it was, under a head that counts for nothing.
    save_model(tmp_path / "base", SavedModel(plain, None, ("a", "b"), 17))
    save_adapters(tmp_path / "adapter", model)
    loaded = peft.PeftModel.from_pretrained(TorchClassifier.from_pretrained(tmp_path / "base"), tmp_path / "adapter")
    ids, mask = inputs(family)
    with torch.no_grad():
        theirs = loaded.eval()(torch.from_numpy(ids), torch.from_numpy(mask)).logits.numpy()
    ours = call(model, ids, mask).logits
    assert np.abs(ours - call(plain, ids, mask).logits).max() > 1e-3
    np.testing.assert_allclose(theirs, ours, atol=1e-5)
    loaded.save_pretrained(tmp_path / "theirs")
    again = from_torch(
        tmp_path / "theirs",
        tmp_path / "again",
        encoder_config=str(tmp_path / "base"),
        padding="masked",
        num_attention_heads=4,
    )
    expected = to_state_dict(merge_adapters(model))
    assert all(np.array_equal(tensor, expected[name]) for name, tensor in to_state_dict(again.model).items())
