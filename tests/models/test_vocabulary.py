"""Tokenizers with more words than the encoder: refused, or given embeddings that everything downstream keeps."""

import numpy as np
import pytest
from flax import nnx

from amsdff_jax import UserError
from amsdff_jax.config import ModelConfig
from amsdff_jax.config.encoder_families import read_encoder_values
from amsdff_jax.conversion.convert import from_torch, to_torch
from amsdff_jax.data.tokenization import load_tokenizer
from amsdff_jax.interop.encoder_files import LAYOUTS
from amsdff_jax.interop.torch_checkpoint import read_torch_file
from amsdff_jax.models.baselines import LinearClassifier
from amsdff_jax.models.model_folder import SavedModel, load_model, save_model
from amsdff_jax.models.state_dict import to_state_dict
from amsdff_jax.models.variables import graph_identity
from amsdff_jax.models.vocabulary import NOISE, fit_vocabulary, new_rows
from amsdff_jax.training.inputs import RunInputs
from tests.compiled import call
from tests.tiny_encoders import TINY, every_family


def same_tensors(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


@every_family
def test_embeddings_are_added_and_go_wherever_the_model_goes(family, tiny_encoder, tmp_path):
    tokenizer = load_tokenizer(tiny_encoder)  # of 45 words
    config = ModelConfig(num_classes=2, resize_embeddings=True)
    model = LinearClassifier(config, read_encoder_values(TINY[family]), rngs=nnx.Rngs(0))
    before = to_state_dict(model)
    fit_vocabulary(model, tokenizer, "TOKENIZER", seed=3)
    after, words = to_state_dict(model), f"transformer.{LAYOUTS[family].words}"
    added = after.pop(words)
    old = before.pop(words)
    assert same_tensors(before, after)
    np.testing.assert_array_equal(added, np.concatenate([old, new_rows(old, 8, seed=3)]))
    # As if it had been of this size from the start.
    sizes = read_encoder_values(TINY[family] | {"vocab_size": 45})
    assert model.encoder_config == model.transformer.config == sizes
    identity = graph_identity(nnx.graphdef(LinearClassifier(config, sizes, rngs=nnx.Rngs(0))))
    assert graph_identity(nnx.graphdef(model)) == identity

    save_model(tmp_path / "model", SavedModel(model, tokenizer, ("a", "b"), 17))
    assert load_model(tmp_path / "model").encoder_config.vocab_size == 45
    to_torch(tmp_path / "model", tmp_path / "weights.pt")
    options = {"encoder_config": str(tmp_path / "model"), "padding": "masked"}
    again = from_torch(tmp_path / "weights.pt", tmp_path / "again", **options)
    assert same_tensors(to_state_dict(again.model), to_state_dict(model))


def test_new_rows_are_drawn_as_transformers_does():
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    from transformers import DistilBertConfig, DistilBertModel

    torch.manual_seed(5)
    for words in (300, 1):  # of one word nothing varies
        model = DistilBertModel(DistilBertConfig(vocab_size=words, dim=12, n_heads=2, n_layers=1, hidden_dim=8))
        table = model.embeddings.word_embeddings.weight.detach().numpy().copy()
        theirs = model.resize_token_embeddings(words + 4000).weight.detach().numpy()[words:]
        ours = new_rows(table, 4000, seed=1)
        np.testing.assert_allclose(ours.mean(axis=0), theirs.mean(axis=0), atol=1e-6)
        np.testing.assert_allclose(np.cov(ours.T), np.cov(theirs.T), atol=0.2 * NOISE * table.var())
        assert np.array_equal(ours, new_rows(table, 4000, seed=1))
        assert np.array_equal(ours, new_rows(table, 4000, seed=2)) == (words == 1)


def test_a_run_with_added_embeddings_trains_resumes_and_goes_to_pytorch(tiny_trainer, tiny_encoder, tmp_path):
    tokenizer = load_tokenizer(tiny_encoder)
    tokenizer.add_tokens(["w3 w4", "w30"])
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    settings = {"data__tokenizer": str(tmp_path / "tokenizer"), "train__epochs": 1}
    with pytest.raises(UserError, match=r"ids up to 45, but .* has 45; .* --config\.model\.resize_embeddings=true"):
        tiny_trainer(**settings)
    settings |= {"model__resize_embeddings": True}
    trainer = tiny_trainer(**settings)
    words = "transformer.embeddings.word_embeddings.weight"
    start = to_state_dict(trainer.model)[words][45]
    trainer.train()
    resumed = tiny_trainer(**settings)
    resumed.train()
    assert resumed.finished
    assert same_tensors(to_state_dict(resumed.model), to_state_dict(trainer.model))
    weights = to_state_dict(resumed.model)
    assert np.abs(weights[words][45] - start).max() > 1e-4  # it learns
    assert RunInputs.read(resumed.workdir).encoder.vocab_size == 46

    loaded = load_model(resumed.workdir / "model")
    assert same_tensors(to_state_dict(loaded), weights)
    ids, mask = np.array([[2, 45, 9, 3]]), np.ones((1, 4), np.int32)
    np.testing.assert_array_equal(call(loaded, ids, mask).logits, call(resumed.model, ids, mask).logits)
    file = tmp_path / "run.pt"
    to_torch(resumed.workdir, file, layout="trainer")  # the newest checkpoint, with the optimizer's state
    saved = read_torch_file(file)
    assert saved["model_state_dict"][words].shape == (46, 24)
    settings |= {"train__epochs": 2, "train__init_from": str(file)}
    continued = tiny_trainer(tmp_path / "on", **settings)
    assert int(continued.state.step) == resumed.total_steps
    assert same_tensors(to_state_dict(continued.model), saved["model_state_dict"])
