"""Every family of encoders beside transformers' own class for it, on the same random weights."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx, traverse_util

torch = pytest.importorskip("torch", reason="needs PyTorch")

from transformers import AutoConfig, AutoModel

from amsdff_jax import UserError
from amsdff_jax.config import EncoderConfig, ModelConfig
from amsdff_jax.config.encoders import encoder_values, read_encoder_values, read_saved_encoder
from amsdff_jax.interop.encoder_files import read_encoder_config, read_encoder_weights
from amsdff_jax.models.amsdff import EnhancedAMSDFF
from amsdff_jax.models.baselines import LinearClassifier
from amsdff_jax.models.encoders.blocks import Encoder
from amsdff_jax.models.encoders.registry import ENCODERS, make_encoder
from amsdff_jax.models.state_dict import load_state_dict, to_state_dict, to_torch_layout, torch_name
from tests.compiled import call

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
BERT_SIZES = {
    "vocab_size": 37, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 28,
    "max_position_embeddings": 21, "layer_norm_eps": 1e-5, "pad_token_id": 1, **NO_DROPOUT,
}  # fmt: skip

# transformers' configuration of a tiny model of every family, by what it is called here.
TINY = {
    "distilbert": {
        "model_type": "distilbert", "vocab_size": 37, "dim": 24, "n_layers": 2, "n_heads": 3, "hidden_dim": 28,
        "max_position_embeddings": 21, "dropout": 0.0, "attention_dropout": 0.0,
    },
    "roberta": {"model_type": "roberta", "type_vocab_size": 1, **BERT_SIZES},
    "xlm-roberta": {"model_type": "xlm-roberta", "type_vocab_size": 2, **BERT_SIZES},
    "electra": {"model_type": "electra", "type_vocab_size": 2, **BERT_SIZES, "embedding_size": 11},
    "mpnet": {"model_type": "mpnet", **BERT_SIZES},
    "modernbert": {
        "model_type": "modernbert", "vocab_size": 37, "hidden_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 3, "intermediate_size": 28, "max_position_embeddings": 21, "pad_token_id": 1,
        "local_attention": 5, "global_attn_every_n_layers": 2, "bos_token_id": 2, "eos_token_id": 2,
        "cls_token_id": 2, "sep_token_id": 2,
    },
    "deberta-v2": {
        "model_type": "deberta-v2", **BERT_SIZES, "relative_attention": True, "share_att_key": True,
        "pos_att_type": "p2c|c2p", "norm_rel_ebd": "layer_norm", "position_biased_input": False, "type_vocab_size": 0,
        "position_buckets": 8,
    },
}  # fmt: skip
LENGTHS = (3, 7, 16)  # of the longest text

every_family = pytest.mark.parametrize("family", TINY)


def make_torch(family: str, **changes) -> torch.nn.Module:
    """transformers' encoder of a family, random, without a pooler."""
    values = TINY[family] | changes
    torch.manual_seed(3)
    model = AutoModel.from_config(AutoConfig.for_model(**values)).eval()
    model.pooler = None
    with torch.no_grad():  # so that nothing is 0 or 1
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return model


def arrays(model: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: value.detach().numpy().copy() for name, value in model.state_dict().items()}


def make_pair(family: str, **changes) -> tuple[Encoder, torch.nn.Module]:
    theirs = make_torch(family, **changes)
    config = read_encoder_values(TINY[family] | changes)
    ours = nnx.eval_shape(lambda: make_encoder(config, rngs=nnx.Rngs(0)))
    load_state_dict(ours, arrays(theirs), family)
    ours.eval()
    return ours, theirs


def make_texts(config: EncoderConfig, length: int, rows: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Ids and mask of texts of different lengths, one of them as long as all."""
    random = np.random.default_rng(length)
    lengths = np.append(random.integers(1, length + 1, rows - 1), length)
    mask = np.arange(length) < lengths[:, None]
    ids = random.integers(2, config.vocab_size, mask.shape)
    return np.where(mask, ids, config.pad_token_id), mask


def shorter(encoder: Encoder, layers: int) -> Encoder:
    """The encoder without its last layers, and without what follows them."""
    short = nnx.clone(encoder)
    for _, module in nnx.iter_modules(short):
        for name in ("layer", "layers"):
            if hasattr(module, name):
                setattr(module, name, nnx.List(list(getattr(module, name))[:layers]))
    if hasattr(short, "final_norm"):
        short.final_norm = lambda x: x
    return short


def assert_close(ours, theirs, what: str, tolerance: float = 1e-5) -> None:
    """Within `tolerance` of the largest number."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape, what
    assert np.abs(ours - theirs).max() <= tolerance * max(1, np.abs(theirs).max()), what


@every_family
@pytest.mark.parametrize("length", LENGTHS)
def test_every_hidden_state_and_gradient_is_transformers(family, length):
    compare(*make_pair(family), length)


def compare(ours: Encoder, theirs: torch.nn.Module, length: int) -> None:
    """Every hidden state and gradient is within 1e-5 of the largest."""
    ids, mask = make_texts(ours.config, length)
    weights = np.random.default_rng(1).normal(size=(*ids.shape, ours.config.dim)).astype(np.float32)
    weights *= mask[..., None]
    inputs = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask).long()}
    output = theirs(**inputs, output_hidden_states=True)
    (output.last_hidden_state * torch.from_numpy(weights)).sum().backward()
    graph, parameters, rest = nnx.split(ours, nnx.Param, ...)

    def loss(parameters):
        model = nnx.merge(graph, parameters, rest)
        inputs = (jnp.asarray(ids), jnp.asarray(mask))
        states = [shorter(model, number)(*inputs) for number in range(ours.config.n_layers)]
        states.append(model(*inputs))
        return (states[-1] * weights).sum(), states

    gradients, states = jax.jit(jax.grad(loss, has_aux=True))(parameters)
    for number, (state, expected) in enumerate(zip(states[:-1], output.hidden_states, strict=False)):
        assert_close(np.asarray(state)[mask], expected.detach().numpy()[mask], f"state {number}")
    # In reference semantics what stands on padding is read too.
    assert_close(states[-1], output.last_hidden_state.detach().numpy(), "last state")
    gradients = traverse_util.flatten_dict(nnx.to_pure_dict(gradients))
    parameters = dict(theirs.named_parameters())
    assert {torch_name(path) for path in gradients} == parameters.keys()
    for path, value in gradients.items():
        name = torch_name(path)
        assert_close(to_torch_layout(path, value), parameters[name].grad.numpy(), f"gradient of {name}")


@every_family
def test_weights_go_both_ways_bit_for_bit(family):
    ours, theirs = make_pair(family)
    before, state = arrays(theirs), to_state_dict(ours)
    assert state.keys() == before.keys()
    for name, value in before.items():
        np.testing.assert_array_equal(state[name], value, err_msg=name)
    theirs.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})


@every_family
@pytest.mark.parametrize("layout", ["one file", "shards", "bin", "larger model"])
def test_a_folder_of_transformers_is_read_as_it_was_saved(family, layout, tmp_path):
    theirs = make_torch(family)
    theirs.save_pretrained(tmp_path, max_shard_size="8KB" if layout == "shards" else "1GB")
    file = tmp_path / "model.safetensors"
    if layout == "bin":
        file.unlink()
        torch.save(theirs.state_dict(), tmp_path / "pytorch_model.bin")
    elif layout == "larger model":
        file.unlink()
        inside = {f"model.{name}": value for name, value in theirs.state_dict().items()}
        torch.save(
            inside | {"lm_head.weight": torch.ones(2), "pooler.dense.bias": torch.ones(2)},
            tmp_path / "pytorch_model.bin",
        )
    assert file.exists() == (layout == "one file")
    config = read_encoder_config(tmp_path)
    assert config == read_encoder_values(TINY[family])
    weights = read_encoder_weights(tmp_path, config.model_type)
    for name, value in arrays(theirs).items():
        np.testing.assert_array_equal(weights.tensors[name], value, err_msg=name)
    model = LinearClassifier.from_pretrained(str(tmp_path), 2)
    ids, mask = make_texts(config, 5)
    with torch.no_grad():
        output = theirs(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask).long())
    assert_close(call(model, ids, mask).encoder_output, output.last_hidden_state.numpy(), "output")


@every_family
def test_sizes_come_back_from_what_is_saved_of_them(family):
    config = read_encoder_values(TINY[family])
    values = json.loads(json.dumps(encoder_values(config)))
    assert read_saved_encoder(values) == config
    with pytest.raises(UserError, match=r"^encoder\.dmi: no such field; did you mean"):
        read_saved_encoder(values | {"dmi": 3})
    with pytest.raises(UserError, match="only 'gelu' is supported"):
        read_encoder_values(TINY[family] | {"hidden_act": "relu", "activation": "relu", "hidden_activation": "relu"})


@every_family
def test_words_alone_give_what_their_ids_give(family):
    ours, _ = make_pair(family)
    ids, mask = make_texts(ours.config, 7)
    words = ours.embeddings.look_up(jnp.asarray(ids))
    ours_of_words = nnx.jit(type(ours).encode_words)(ours, words, jnp.asarray(mask))
    np.testing.assert_array_equal(ours_of_words, call(ours, ids, jnp.asarray(mask)))


@every_family
def test_computing_blocks_again_and_dropout_change_nothing_else(family):
    """Rematerialized gradients are those of the kept activations, with dropout on."""
    config = read_encoder_values({**TINY[family], "hidden_dropout_prob": 0.3, "dropout": 0.3, "mlp_dropout": 0.3})
    ids, mask = make_texts(config, 7)

    def gradient(rematerialize):
        settings = ModelConfig(num_classes=2, rematerialize=rematerialize)
        model = LinearClassifier(settings, config, rngs=nnx.Rngs(0))
        assert model.transformer.rematerialize == rematerialize
        model.train()
        graph, parameters, rest = nnx.split(model, nnx.Param, ...)

        def loss(parameters):
            return nnx.merge(graph, parameters, rest)(ids, mask, jax.random.key(3)).logits[:, 0].sum()

        return traverse_util.flatten_dict(nnx.to_pure_dict(jax.jit(jax.grad(loss))(parameters)))

    kept, again = gradient(False), gradient(True)
    for path, value in kept.items():
        np.testing.assert_allclose(again[path], value, atol=1e-5 * max(1, np.abs(value).max()), err_msg=str(path))


def test_every_encoder_is_tested():
    assert {read_encoder_values(values).model_type for values in TINY.values()} == ENCODERS.keys()


@every_family
def test_more_tokens_than_positions_are_refused(family):
    ours, _ = make_pair(family)
    ids = jnp.full((1, ours.config.max_tokens + 1), 3)
    with pytest.raises(ValueError, match=rf"the encoder has {ours.config.max_tokens} positions"):
        ours(ids, jnp.ones(ids.shape, bool))


def test_amsdff_stands_on_any_of_them():
    config = read_encoder_values(TINY["roberta"])
    model = EnhancedAMSDFF(ModelConfig(num_classes=3, num_attention_heads=4), config, rngs=nnx.Rngs(0))
    names = to_state_dict(model)
    assert "transformer.encoder.layer.1.attention.self.query.weight" in names
