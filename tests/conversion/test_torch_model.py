"""Flax and PyTorch side by side, on the same random weights: outputs, gradients and updates are equal."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx, traverse_util

torch = pytest.importorskip("torch", reason="needs PyTorch")

from torch.nn import functional

from amsdff_jax.config import MODEL_NAMES, Config, EncoderConfig, LossConfig, ModelConfig
from amsdff_jax.conversion.torch_model import TorchClassifier, TorchOutput, load_arrays, make_twin
from amsdff_jax.data.batches import Batch
from amsdff_jax.interop.encoder_files import read_encoder_config, read_encoder_weights
from amsdff_jax.interop.hub import find_encoder
from amsdff_jax.models.encoders.distilbert import DistilBertEncoder
from amsdff_jax.models.losses import combine, loss_parts
from amsdff_jax.models.pretrained import PretrainedClassifier
from amsdff_jax.models.registry import MODELS
from amsdff_jax.models.state_dict import load_state_dict, parameter_names, to_state_dict, to_torch_layout, torch_name
from amsdff_jax.training.optimizer import peak_learning_rates, unit_schedule
from amsdff_jax.training.step import initial_state, make_train_step, split_model, update_model
from tests.compiled import call
from tests.test_parity import LARGE_EPSILON

ENCODER = EncoderConfig(
    vocab_size=37, max_position_embeddings=19, dim=24, n_layers=2, n_heads=3, hidden_dim=28, dropout=0.0,
    attention_dropout=0.0,
)  # fmt: skip
NO_DROPOUT = {
    "dropout_rate": 0.0, "attention_dropout_rate": 0.0, "expert_dropout_rate": 0.0, "pooling_dropout_rate": 0.0,
    "classifier_dropout_rates": (0.0, 0.0),
}  # fmt: skip
C = 5

both_semantics = pytest.mark.parametrize("mask_padding", [True, False], ids=["masked", "reference"])
all_models = pytest.mark.parametrize("name", MODEL_NAMES)


def make_pair(
    name: str, mask_padding: bool, encoder: EncoderConfig = ENCODER, **fields
) -> tuple[PretrainedClassifier, TorchClassifier]:
    """A Flax model and a PyTorch model with the same weights, drawn by PyTorch."""
    torch.manual_seed(3)
    config = ModelConfig(name=name, num_classes=C, mask_padding=mask_padding, **NO_DROPOUT, **fields)
    theirs = make_twin(config, encoder)
    for buffer_name, buffer in theirs.named_buffers():  # statistics that are not the neutral ones
        if buffer_name.endswith(("running_mean", "running_var")):
            buffer.uniform_(0.5, 1.5)
    ours = nnx.eval_shape(lambda: MODELS[name](config, encoder, rngs=nnx.Rngs(0)))
    load_state_dict(ours, arrays(theirs), "twin")
    return ours, theirs.eval()


def arrays(model: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: value.detach().numpy().copy() for name, value in model.state_dict().items()}


def make_batch(seed: int, rows: int = 6, length: int = 11, vocab_size: int = 37) -> Batch:
    random = np.random.default_rng(seed)
    lengths = random.integers(1, length + 1, rows)
    mask = (np.arange(length) < lengths[:, None]).astype(np.int32)
    ids = random.integers(1, vocab_size, (rows, length)).astype(np.int32) * mask
    return Batch(ids, mask, random.integers(0, C, rows).astype(np.int32))


def run(theirs: TorchClassifier, batch: Batch) -> TorchOutput:
    return theirs(torch.from_numpy(batch.input_ids).long(), torch.from_numpy(batch.attention_mask))


def torch_loss(logits: torch.Tensor, labels: np.ndarray) -> torch.Tensor:
    labels = torch.from_numpy(labels).long()
    ce = functional.cross_entropy(logits, labels, reduction="none")
    focal = (1 - torch.exp(-ce)) ** 2 * ce
    smooth = functional.cross_entropy(logits, labels, label_smoothing=0.1)
    return 0.4 * ce.mean() + 0.4 * focal.mean() + 0.2 * smooth


def assert_close(ours: np.ndarray, theirs: np.ndarray, what: str) -> None:
    """Within 1e-5 of the largest number, or 1e-6 where that is small."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape, what
    assert np.abs(ours - theirs).max(initial=0) <= 1e-5 * np.abs(theirs).max(initial=0) + 1e-6, what


def compare_outputs(ours: PretrainedClassifier, theirs: TorchClassifier, batch: Batch) -> None:
    output = call(ours, batch.input_ids, batch.attention_mask)._asdict()
    with torch.no_grad():
        expected = vars(run(theirs, batch))
    real = batch.attention_mask.astype(bool)
    for field, value in output.items():
        if value is None:
            assert expected[field] is None, field
            continue
        value, other = np.asarray(value), expected[field].numpy()
        # In masked semantics nothing reads what stands on padding.
        if value.shape[:2] == real.shape and ours.config.mask_padding:
            value, other = value[real], other[real]
        assert_close(value, other, field)


def compare_gradients(ours: PretrainedClassifier, theirs: TorchClassifier, batch: Batch) -> None:
    before = arrays(theirs)
    ours.train()
    theirs.train()
    torch_loss(run(theirs, batch).logits, batch.labels).backward()
    load_arrays(theirs, before, "twin")  # the statistics as they were; here the pass leaves no trace
    graph, parameters, rest = nnx.split(ours, nnx.Param, ...)
    rest = nnx.to_pure_dict(rest)

    def loss(parameters):
        logits = nnx.merge(graph, parameters, rest)(batch.input_ids, batch.attention_mask).logits
        parts = loss_parts(logits, batch.labels, LossConfig())
        return combine({part: value.mean() for part, value in parts.items()}, LossConfig())

    gradients = jax.jit(jax.grad(loss))(nnx.to_pure_dict(parameters))
    expected = {parameter: value.grad.numpy() for parameter, value in theirs.named_parameters()}
    for path, value in traverse_util.flatten_dict(gradients).items():
        parameter = torch_name(path)
        assert_close(to_torch_layout(path, value), expected[parameter], parameter)


def compare_updates(ours: PretrainedClassifier, theirs: TorchClassifier, batches: list[Batch]) -> None:
    config = Config.from_dict({"train": {
        "head_learning_rate": 1e-4, "encoder_learning_rate": 1e-4, "decay_all": True, "warmup_ratio": 0.3,
        "epsilon": LARGE_EPSILON,
    }})  # fmt: skip
    rates = peak_learning_rates(parameter_names(ours), config.train)
    graphs, variables = split_model(ours, rates)
    state, optimizer = initial_state(variables, rates, config, total_steps=7)
    step = jax.jit(make_train_step(graphs.train, config, optimizer, np.ones(C, np.float32)))

    adamw = torch.optim.AdamW(theirs.parameters(), lr=1e-4, weight_decay=0.01, eps=LARGE_EPSILON)
    schedule = torch.optim.lr_scheduler.LambdaLR(adamw, lambda step: float(unit_schedule(7, 0.3)(step)))
    theirs.train()
    for number, batch in enumerate(batches):
        state, metrics = step(state, batch, jax.random.key(0))
        adamw.zero_grad()
        loss = torch_loss(run(theirs, batch).logits, batch.labels)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        adamw.step()
        schedule.step()
        assert_close(metrics["loss"], loss.detach(), f"loss {number}")
        # Of millions of squares, whose sum in float32 depends on its order.
        np.testing.assert_allclose(metrics["gradient_norm"], norm, rtol=1e-4, err_msg=f"step {number}")
    update_model(ours, state.variables)
    expected = arrays(theirs)
    for name, value in to_state_dict(ours).items():
        assert_close(value, expected[name], name)


@both_semantics
@all_models
def test_outputs_are_equal(name, mask_padding):
    compare_outputs(*make_pair(name, mask_padding), make_batch(1))


@both_semantics
@all_models
def test_gradients_are_equal(name, mask_padding):
    compare_gradients(*make_pair(name, mask_padding), make_batch(2))


@pytest.mark.parametrize(("name", "mask_padding"), [("amsdff", False), *((name, True) for name in MODEL_NAMES)])
def test_five_updates_are_equal(name, mask_padding):
    compare_updates(*make_pair(name, mask_padding), [make_batch(seed) for seed in range(5)])


@both_semantics
def test_statistics_are_equal(mask_padding):
    ours, theirs = make_pair("amsdff", mask_padding)
    batch = make_batch(3)
    ours.train()
    call(ours, batch.input_ids, batch.attention_mask)
    run(theirs.train(), batch)
    for name, value in to_state_dict(ours).items():
        if "running" in name or "tracked" in name:
            assert_close(value, arrays(theirs)[name], name)


@pytest.mark.slow
@pytest.mark.expensive
def test_full_size_distilbert_is_equal():
    sizes = EncoderConfig(dropout=0.0, attention_dropout=0.0)
    ours, theirs = make_pair("amsdff", True, sizes)
    assert sum(value.numel() for value in theirs.transformer.parameters()) == 66_362_880
    batches = [make_batch(seed, rows=9, length=17, vocab_size=sizes.vocab_size) for seed in range(5)]
    compare_outputs(ours, theirs, batches[0])
    compare_gradients(ours, theirs, batches[1])
    compare_updates(ours, theirs, batches)


ABLATIONS = [
    {"multi_scale": False}, {"fusion": False}, {"pools": ("query",)}, {"pools": ("attention", "max")},
    {"kernel_sizes": (3,), "num_experts": 1},
]  # fmt: skip


@pytest.mark.parametrize("fields", ABLATIONS, ids=str)
def test_models_without_a_part_are_equal(fields):
    ours, theirs = make_pair("amsdff", True, **fields)
    assert list(to_state_dict(ours)) == list(theirs.state_dict())
    compare_outputs(ours, theirs, make_batch(1))
    compare_gradients(ours, theirs, make_batch(2))


def test_names_are_in_pytorchs_order():
    for name in MODEL_NAMES:
        ours, theirs = make_pair(name, True)
        assert list(to_state_dict(ours)) == list(theirs.state_dict()), name


def test_texts_without_a_token_stay_finite_in_pytorch_too():
    for name in MODEL_NAMES:
        _, theirs = make_pair(name, True)
        batch = make_batch(1)
        alone = run(theirs, batch).logits.detach()
        batch.attention_mask[2] = 0
        emptied = run(theirs, batch).logits.detach()
        assert torch.isfinite(emptied).all(), name
        others = [0, 1, 3, 4, 5]
        assert_close(emptied[others], alone[others], name)


@pytest.fixture(scope="module")
def sentences():
    """Real sentences as MiniLM's tokens, the longest of 64 and the shortest of few."""
    from amsdff_jax.config import DataConfig
    from amsdff_jax.data.batches import make_batch, plan_batches
    from amsdff_jax.data.sources import load_data
    from amsdff_jax.data.tokenization import load_tokenizer, tokenize

    texts = load_data(DataConfig(source="bundled")).test.take(np.arange(24), "some")
    tokens = tokenize(texts, load_tokenizer(find_encoder("minilm-l6")), 64)
    return make_batch(tokens, plan_batches(tokens.lengths, (64,), 24)[0])


def test_the_real_encoder_equals_transformers(sentences):
    from transformers import BertModel, DistilBertConfig, DistilBertModel

    folder = find_encoder("minilm-l6")
    config, weights = read_encoder_config(folder), read_encoder_weights(folder)
    ours = nnx.eval_shape(lambda: DistilBertEncoder(config, rngs=nnx.Rngs(0)))
    load_state_dict(ours, weights.tensors, "minilm-l6")
    ours.eval()
    mask = sentences.attention_mask.astype(bool)
    features = np.asarray(ours(jnp.asarray(sentences.input_ids), jnp.asarray(mask)))[mask]

    ids, torch_mask = torch.from_numpy(sentences.input_ids).long(), torch.from_numpy(sentences.attention_mask)
    folded = DistilBertModel(DistilBertConfig(**dataclasses.asdict(config))).eval()
    folded.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in weights.tensors.items()})
    original = BertModel.from_pretrained(folder).eval()
    for theirs in (folded, original):
        with torch.no_grad():
            expected = theirs(input_ids=ids, attention_mask=torch_mask).last_hidden_state.numpy()[mask]
        assert np.abs(features - expected).max() < 1e-5, type(theirs).__name__
