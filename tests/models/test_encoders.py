"""Every family of encoders beside transformers' own class for it, on the same random weights."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx, traverse_util

torch = pytest.importorskip("torch", reason="needs PyTorch")

from transformers import AutoConfig, AutoModel
from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position
from transformers.models.mpnet.modeling_mpnet import MPNetEncoder

from amsdff_jax import UserError
from amsdff_jax.config import EncoderConfig, ModelConfig
from amsdff_jax.config.encoder_families import encoder_values, read_encoder_values, read_saved_encoder
from amsdff_jax.config.encoders import DebertaConfig
from amsdff_jax.interop.encoder_files import read_encoder_config, read_encoder_weights
from amsdff_jax.models.attention import attend, attend_locally
from amsdff_jax.models.baselines import LinearClassifier
from amsdff_jax.models.dropout import Dropout
from amsdff_jax.models.encoders.blocks import Encoder
from amsdff_jax.models.encoders.deberta import distance_places
from amsdff_jax.models.encoders.modernbert import Rotation
from amsdff_jax.models.encoders.mpnet import distance_buckets
from amsdff_jax.models.encoders.registry import ENCODERS, make_encoder
from amsdff_jax.models.encoders.relative import shift
from amsdff_jax.models.state_dict import load_state_dict, to_state_dict, to_torch_layout, torch_name, torch_shape
from tests.tiny_encoders import BERT_SIZES, TINY, every_family, same_on_padding

LENGTHS = (3, 7, 16)  # of the longest text


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
    read = mask | same_on_padding(ours.config.model_type)
    assert_close(np.asarray(states[-1])[read], output.last_hidden_state.detach().numpy()[read], "last state")
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
    assert model.encoder_config == config
    for name, value in to_state_dict(model.transformer).items():
        np.testing.assert_array_equal(value, weights.tensors[name], err_msg=name)


@pytest.mark.parametrize("model_type", ["xlm-roberta", "camembert"])
def test_kin_of_roberta_are_roberta(model_type):
    compare(*make_pair("roberta", model_type=model_type, type_vocab_size=1), LENGTHS[1])


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

    @nnx.jit
    def both(model, ids, mask):
        return model(ids, mask), model.encode_words(model.embeddings.look_up(ids), mask)

    np.testing.assert_array_equal(*both(ours, jnp.asarray(ids), jnp.asarray(mask)))


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


FULL_SIZES = {family: {"model_type": family} for family in TINY} | {
    "deberta-v2": {key: value for key, value in TINY["deberta-v2"].items() if key not in BERT_SIZES}
    | {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
    | {"position_buckets": 256}
}


@every_family
def test_tensors_of_full_size_are_transformers(family):
    """What a `config.json` leaves out is on both sides the same."""
    values = FULL_SIZES[family]
    with torch.device("meta"):
        theirs = AutoModel.from_config(AutoConfig.for_model(**values))
        theirs.pooler = None
    config = read_encoder_values(values)
    ours = nnx.eval_shape(lambda: make_encoder(config, rngs=nnx.Rngs(0)))
    shapes = traverse_util.flatten_dict(nnx.to_pure_dict(nnx.state(ours, nnx.Param)))
    found = {torch_name(path): torch_shape(path, value.shape) for path, value in shapes.items()}
    assert found == {name: tuple(value.shape) for name, value in theirs.state_dict().items()}
    for name, value in encoder_values(config).items():
        if name not in ("global_attn_every_n_layers", "global_rope_theta", "local_rope_theta"):  # there in other forms
            assert getattr(theirs.config, name, value) == value, name


@every_family
def test_half_precision_is_for_products_alone(family):
    """What comes out is float32, and the annotated types hold on the way."""
    config = read_encoder_values(TINY[family])
    encoder = nnx.eval_shape(lambda: make_encoder(config, dtype=jnp.bfloat16, rngs=nnx.Rngs(0)))
    encoder.eval()
    ids, mask = jax.ShapeDtypeStruct((2, 9), jnp.int32), jax.ShapeDtypeStruct((2, 9), jnp.bool)
    output = nnx.eval_shape(lambda encoder, ids, mask: encoder(ids, mask), encoder, ids, mask)
    assert (output.shape, output.dtype) == ((2, 9, 24), jnp.float32)


def test_every_encoder_is_tested():
    assert {read_encoder_values(values).model_type for values in TINY.values()} == ENCODERS.keys()


@every_family
def test_more_tokens_than_positions_are_refused(family):
    ours, _ = make_pair(family)
    ids = jnp.full((1, ours.config.max_tokens + 1), 3)
    with pytest.raises(ValueError, match=rf"the encoder has {ours.config.max_tokens} positions"):
        ours(ids, jnp.ones(ids.shape, bool))


WINDOW = 3


def attended(length: int, mask: np.ndarray) -> np.ndarray:
    """[S,S]: which keys reach which query through `attend_locally`, seen by its gradient."""
    random = np.random.default_rng(0)
    query, key, value = (jnp.asarray(random.normal(size=(1, length, 2, 4)), jnp.float32) for _ in range(3))

    def sums(value):
        return attend_locally(query, key, value, jnp.asarray(mask)[None], WINDOW, Dropout(0.0), None)[0].sum(axis=-1)

    return np.asarray(jnp.abs(jax.jit(jax.jacrev(sums))(value)).sum(axis=(1, 3, 4)) > 0)


@pytest.mark.parametrize("length", [2, 9, 10, 12, 17])  # 9 tokens are three windows, from 10 on there are blocks
def test_local_attention_ends_where_its_window_ends(length):
    places = np.arange(length)
    mask = places != 4
    near = np.abs(places[:, None] - places) <= WINDOW
    np.testing.assert_array_equal(attended(length, mask), near & mask)


def test_local_attention_in_blocks_is_attention_under_a_mask():
    random = np.random.default_rng(0)
    arrays = [jnp.asarray(random.normal(size=(3, 23, 2, 4)), jnp.float32) for _ in range(3)]
    mask = jnp.asarray(np.arange(23) < np.array([[23], [9], [1]]))
    near = jnp.abs(jnp.arange(23)[:, None] - jnp.arange(23)) <= WINDOW
    expected = attend(*arrays, mask[:, None, None] & near, Dropout(0.0), None)
    reached = np.asarray((mask[:, None] & near).any(axis=-1))
    found = np.asarray(attend_locally(*arrays, mask, WINDOW, Dropout(0.0), None))
    np.testing.assert_allclose(found[reached], np.asarray(expected)[reached], atol=1e-6)
    assert not found[~reached].any()


def test_cost_of_local_attention_grows_with_the_length():
    def operations(length: int) -> float:
        shape = jax.ShapeDtypeStruct((1, length, 2, 8), jnp.float32)
        mask = jax.ShapeDtypeStruct((1, length), jnp.bool)

        def local(query, key, value, mask):
            return attend_locally(query, key, value, mask, 16, Dropout(0.0), None)

        return jax.jit(local).lower(shape, shape, shape, mask).compile().cost_analysis()["flops"]

    assert operations(2048) == pytest.approx(2 * operations(1024), rel=0.05)


def test_rotary_positions_reach_8192():
    values = TINY["modernbert"] | {"max_position_embeddings": 8192}
    theirs = make_torch("modernbert", max_position_embeddings=8192)
    for kind, base in {"full_attention": 160_000.0, "sliding_attention": 10_000.0}.items():
        assert theirs.config.rope_parameters[kind]["rope_theta"] == base
        expected = theirs.rotary_emb(torch.zeros(1), torch.arange(8192)[None], kind)
        found = Rotation.of(read_encoder_values(values).max_tokens, 8, base)
        for ours, other in zip(found, expected, strict=True):
            # In float32 an angle of 8191 is known to 2**-12 only, on either side.
            np.testing.assert_allclose(ours, other[0, :, :4].numpy(), atol=1e-3)
            np.testing.assert_allclose(ours[:512], other[0, :512, :4].numpy(), atol=1e-4)


def test_buckets_of_distances_are_transformers():
    distance = torch.arange(511, -512, -1)
    config = DebertaConfig(position_buckets=256, pad_token_id=0)
    expected = torch.clamp(make_log_bucket_position(distance, 256, 512).long() + 256, 0, 511)
    np.testing.assert_array_equal(distance_places(config), expected.numpy())
    expected = MPNetEncoder.relative_position_bucket(-distance)  # theirs is the key's position less the query's
    np.testing.assert_array_equal(distance_buckets(512), expected.numpy())


def test_a_shift_of_distances_is_a_gather():
    length = 5
    x = np.random.default_rng(0).normal(size=(2, length, 2 * length - 1)).astype(np.float32)
    query, key = np.indices((length, length))
    np.testing.assert_array_equal(shift(jnp.asarray(x)), x[:, query, length - 1 - (query - key)])


@pytest.mark.parametrize(
    ("family", "change", "message"),
    [
        ("deberta-v2", {"share_att_key": False}, "share_att_key is False; only True is supported"),
        ("deberta-v2", {"position_buckets": -1}, "encoder position_buckets: expected a positive number"),
        ("deberta-v2", {"position_buckets": 41}, "encoder position_buckets: expected from 2"),
        ("deberta-v2", {"pos_att_type": ["p2c"]}, r"pos_att_type is \['p2c'\]; only"),
        ("modernbert", {"layer_types": ["full_attention", "full_attention", "sliding_attention"]}, "layer_types"),
        ("modernbert", {"rope_parameters": {"full_attention": {"rope_type": "yarn"}}}, "rope_type: expected 'default'"),
        (
            "modernbert",
            {"rope_parameters": {"sliding_attention": {"type": "linear", "factor": 4.0}}},
            "type: expected 'd",
        ),
        (
            "modernbert",
            {"rope_scaling": {"rope_type": "linear", "factor": 4.0}},
            "rope_scaling.rope_type: expected 'def",
        ),
        ("modernbert", {"sliding_window": 2.5}, "sliding_window: expected a whole number"),
        ("modernbert", {"mlp_bias": True}, "mlp_bias is True; only False"),
        ("roberta", {"model_type": "bert", "is_decoder": True}, "is_decoder: expected false; a decoder's"),
        ("electra", {"is_decoder": True}, "is_decoder: expected false; a decoder's"),
        ("modernbert", {"num_attention_heads": 8}, "encoder dim: expected an even number of features"),
        ("roberta", {"max_position_embeddings": 4}, "max_position_embeddings: expected at least 4 more than pad_token"),
        ("roberta", {"position_embedding_type": "relative_key"}, "only 'absolute' is supported"),
        ("mpnet", {"relative_attention_num_buckets": 16}, "only 32 is supported"),
        ("mpnet", {"pad_token_id": 0}, "pad_token_id is 0; only 1"),
        ("electra", {"embedding_size": 0}, "encoder embedding_size: expected a positive number"),
        ("electra", {"model_type": "longformer"}, "model_type is 'longformer', expected 'distilbert', 'bert', 'robe"),
    ],
)
def test_variants_that_are_not_there_are_one_line(family, change, message):
    with pytest.raises(UserError, match=message):
        read_encoder_values(TINY[family] | change)


def test_a_list_of_modernberts_blocks_says_how_often_attention_is_everywhere():
    kinds = ["full_attention", "sliding_attention", "sliding_attention", "full_attention"]
    bases = {"full_attention": {"rope_theta": 70.0}, "sliding_attention": {"rope_theta": 9.0, "rope_type": "default"}}
    config = read_encoder_values(TINY["modernbert"] | {"layer_types": kinds, "rope_parameters": bases})
    assert (config.global_attn_every_n_layers, config.global_rope_theta, config.local_rope_theta) == (3, 70.0, 9.0)


def test_a_base_in_the_scaling_of_modernbert_is_that_of_all_its_blocks():
    values = TINY["modernbert"] | {"rope_scaling": {"rope_type": "default", "rope_theta": 20.0}}
    config, theirs = read_encoder_values(values), AutoConfig.for_model(**values)
    assert (config.global_rope_theta, config.local_rope_theta) == (20.0, 20.0)
    assert {rope["rope_theta"] for rope in theirs.rope_parameters.values()} == {20.0}


def test_names_that_transformers_takes_first_are_taken_first():
    values = TINY["modernbert"] | {
        "local_attention": 128,
        "sliding_window": 16,
        "rope_scaling": {"rope_type": "default"},
    }
    assert read_encoder_values(values).local_attention == 32 == 2 * AutoConfig.for_model(**values).sliding_window
    values = {
        "model_type": "distilbert",
        "hidden_size": 24,
        "num_attention_heads": 6,
        "n_heads": 2,
        "num_hidden_layers": 3,
    }
    config, theirs = read_encoder_values(values), AutoConfig.for_model(**values)
    assert (config.dim, config.n_heads, config.n_layers) == (theirs.dim, theirs.n_heads, theirs.n_layers) == (24, 6, 3)


def test_positions_count_real_tokens_whatever_they_are_called():
    """A text may hold the padding token's own spelling."""
    ours, _ = make_pair("roberta")
    mask = jnp.arange(5)[None] < 4
    words = jnp.zeros((1, 5, ours.config.dim))
    first = ours.config.pad_token_id + 1
    table = ours.embeddings.position_embeddings.embedding[...]
    places = jnp.asarray([first, first + 1, first + 2, first + 3, first - 1])
    expected = ours.embeddings.LayerNorm(table[places] + ours.embeddings.token_type_embeddings.embedding[0])
    np.testing.assert_allclose(ours.embeddings.complete(words, mask, None)[0], expected, atol=1e-6)
