"""What TPUs would get, compiled by libtpu for a slice that is not here: `make test-tpu`."""

import re

import jax
import jax.export
import numpy as np
import pytest
from flax import nnx

from amsdff_jax.config import Config, EncoderConfig
from amsdff_jax.data.batches import Batch
from amsdff_jax.evaluation.inference import make_forward
from amsdff_jax.export.stablehlo import PROGRAM, WEIGHTS, write_stablehlo
from amsdff_jax.models.model_folder import SavedModel
from amsdff_jax.models.registry import MODELS
from amsdff_jax.models.state_dict import parameter_names
from amsdff_jax.models.variables import abstract_model, make_inference_variables
from amsdff_jax.parallel.collectives import Collective, find_collectives
from amsdff_jax.parallel.data_parallel import SMALLEST_SPLIT, DataParallel
from amsdff_jax.parallel.hlo import count_bytes
from amsdff_jax.parallel.topology import find_topology
from amsdff_jax.parallel.traffic import hbm_traffic
from amsdff_jax.training.lowering import lower_train_step
from amsdff_jax.training.step import split_model

pytestmark = pytest.mark.tpu_compile

ENCODER = EncoderConfig(vocab_size=31, max_position_embeddings=16, dim=24, n_layers=2, n_heads=3, hidden_dim=20)
TEXTS, LENGTH, CLASSES = 8, 16, 3
CONFIG = Config().replace(model={"num_classes": CLASSES, "num_attention_heads": 3}, train__batch_size=TEXTS)
HOST = re.compile(r" (infeed|outfeed|send|recv)(-done)?\(|callback|S\(5\)")  # what goes through the host's memory


@pytest.fixture(scope="module")
def parallel():
    """The four chips of a slice."""
    pytest.importorskip("libtpu", reason="needs libtpu, which compiles for TPUs")
    return DataParallel("sharded", find_topology("v5e:2x2").devices)


def make_abstract(name, encoder=ENCODER):
    return abstract_model(lambda rngs: MODELS[name](CONFIG.model, encoder, rngs=rngs, platform="tpu"))


def sizes(tree):
    return [array.size * array.dtype.itemsize for array in jax.tree.leaves(tree)]


@pytest.mark.parametrize("name", ["linear", "amsdff"])
def test_a_train_step_sums_its_gradients_together_and_nothing_else_moves(parallel, name):
    lowered, state = lower_train_step(make_abstract(name), CONFIG, parallel, LENGTH)
    executable = lowered.compile()
    program, collectives = executable.as_text(), find_collectives(executable)
    assert {collective.kind for collective in collectives} == {"all-reduce"}  # no activation is gathered
    gradients = sizes(state.variables.trainable)
    # Those of matrices are summed in the type of the products, bfloat16, the others in float32: two sums, and beside
    # them the weight of the batch, its counts, and statistics of BatchNorm.
    large = [collective.size for collective in collectives if collective.size > sum(gradients) / 20]
    assert len(large) <= 2
    assert sum(gradients) / 2 <= sum(large) <= sum(gradients)
    assert len(collectives) <= len(gradients) / 6
    assert not HOST.search(program)
    # Every array of the state is written where it was read: weights and optimizer do not lie there twice.
    aliases = re.findall(r"(?:may|must)-alias", program.partition("\n")[0])
    assert len(aliases) == len(jax.tree.leaves(state))
    assert executable.memory_analysis().alias_size_in_bytes >= sum(sizes(state))


def test_attention_multiplies_what_the_layers_before_it_wrote(parallel):
    encoder = EncoderConfig(vocab_size=31, max_position_embeddings=256, dim=256, n_layers=2, n_heads=4, hidden_dim=1024)
    config = CONFIG.replace(train__batch_size=64)
    executable = lower_train_step(make_abstract("linear", encoder=encoder), config, parallel, 256).lowered.compile()
    program = executable.as_text()
    # Queries, keys, values and their gradients are not copied into another layout.
    copied = sum(map(count_bytes, re.findall(r" = (\S+) copy\(", program)))
    assert copied < hbm_traffic(program) / 20


def test_a_split_state_is_gathered_where_it_is_used(parallel):
    # Its matrices have the sizes that are split, and that the compiler sums in parts.
    encoder = EncoderConfig(
        vocab_size=4000, max_position_embeddings=LENGTH, dim=256, n_layers=2, n_heads=4, hidden_dim=1024
    )
    split = DataParallel("fsdp", list(parallel.mesh.devices.flat))
    lowered, state = lower_train_step(make_abstract("linear", encoder=encoder), CONFIG, split, LENGTH)
    executable = lowered.compile()
    program, collectives = executable.as_text(), find_collectives(executable)
    weights, moments = sizes(state.variables.trainable), sizes(state.optimizer_state)
    # A chip reads its parts of the weights and of the optimizer and writes them where they were.
    memory = executable.memory_analysis()
    assert memory.argument_size_in_bytes < 0.3 * sum(weights + moments)
    assert memory.alias_size_in_bytes >= sum(weights + moments) / 4
    assert len(re.findall(r"(?:may|must)-alias", program.partition("\n")[0])) == len(jax.tree.leaves(state))
    # Weights are gathered once, in the type of the products, in which the gradients of matrices are summed in parts.
    # That of the embeddings is not: each chip gets those of the tokens, and adds up the rows that are its own.
    sent = {kind: sum(size for found, size in collectives if found == kind) for kind, _ in collectives}
    assert sum(weights) / 2 <= sent["all-gather"] <= sum(weights)
    matrices = sum(size for size in weights if size >= 4 * SMALLEST_SPLIT) - 4 * encoder.vocab_size * encoder.dim
    assert matrices / 2 <= sent["reduce-scatter"] <= 1.1 * matrices
    assert sent["all-reduce"] <= sum(weights) / 20
    assert not HOST.search(program)


@pytest.mark.parametrize("name", ["linear", "amsdff"])
def test_an_evaluation_gathers_its_logits_alone(parallel, name):
    model = make_abstract(name)
    graphs, variables = jax.eval_shape(
        lambda model: split_model(model, dict.fromkeys(parameter_names(model), 1.0)), model
    )
    prepare = make_inference_variables(graphs.eval)
    variables = parallel.describe_replicated(jax.eval_shape(prepare, variables))
    tokens = jax.ShapeDtypeStruct((TEXTS, LENGTH), np.int32)
    batch = parallel.describe_batch(Batch(tokens, tokens, jax.ShapeDtypeStruct((TEXTS,), np.int32)))
    executable = parallel.compile_eval_step(make_forward(graphs.eval)).lower(variables, batch).compile()
    assert sum(collective.size for collective in find_collectives(executable)) <= 2 * TEXTS * CLASSES * 4
    assert not HOST.search(executable.as_text())


def test_an_exported_model_compiles(parallel, tmp_path):
    model = MODELS["amsdff"](
        CONFIG.replace(model__compute_dtype="float32").model, ENCODER, rngs=nnx.Rngs(0), platform="cpu"
    )
    write_stablehlo(SavedModel(model, None, ("a", "b", "c"), LENGTH), tmp_path)
    program = jax.export.deserialize((tmp_path / PROGRAM).read_bytes())
    with np.load(tmp_path / WEIGHTS) as stored:
        weights = parallel.describe_replicated(dict(stored))
    tokens = parallel.describe_batch(jax.ShapeDtypeStruct((TEXTS, LENGTH), np.int32))
    lowered = jax.jit(program.call).lower(weights, tokens, tokens)
    assert lowered.out_info.shape == (TEXTS, CLASSES)
    executable = lowered.compile()
    assert not HOST.search(executable.as_text())
    assert find_collectives(executable) in ([], [Collective("all-gather", TEXTS * CLASSES * 4)])
