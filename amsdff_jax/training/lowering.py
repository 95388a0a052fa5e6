"""The train step without weights and texts, for devices that need not be here."""

from typing import Any, NamedTuple

import jax
import numpy as np

from amsdff_jax.base.errors import UserError
from amsdff_jax.config import Config
from amsdff_jax.data.batches import BATCH_TYPES, Batch
from amsdff_jax.data.encoded_labels import label_kind
from amsdff_jax.models.pretrained import PretrainedClassifier
from amsdff_jax.models.state_dict import parameter_names
from amsdff_jax.parallel.data_parallel import DataParallel
from amsdff_jax.training.optimizer import make_optimizer, peak_learning_rates
from amsdff_jax.training.step import TrainState, initial_state, make_train_step, split_model

STEPS = 1000  # of the run; the schedule divides by them


class LoweredTrainStep(NamedTuple):
    """A train step that is yet to be compiled, and what the state is like that it reads and writes, places included."""

    lowered: jax.stages.Lowered
    state: TrainState


def lower_train_step(
    model: PretrainedClassifier, config: Config, parallel: DataParallel, length: int
) -> LoweredTrainStep:
    """The step of `make_train_step` as `DataParallel.compile_train_step` gives it to a run.

    Args:
      model: for the platform of the devices; of its numbers only shapes and types matter (see `abstract_model`).
      config: of the run.
      parallel: the devices, which may be those of a topology.
      length: tokens that the texts are padded to.

    Raises:
      UserError: a batch that the devices do not divide, rates that decide nothing, or `parallel.mode=pmap`, which
        JAX compiles only for devices that are here.
    """
    if parallel.mode == "pmap":
        raise UserError("parallel.mode: pmap compiles only for devices that are here; expected sharded or fsdp")
    parallel.check_batch_size(config.train.batch_size, config.train.accumulation_steps)
    rates = peak_learning_rates(parameter_names(model), config.train)
    graphs, variables = jax.eval_shape(lambda model: split_model(model, rates), model)
    state = jax.eval_shape(lambda variables: initial_state(variables, rates, config, STEPS)[0], variables)
    state = parallel.describe_state(state)
    optimizer = make_optimizer(variables.trainable, rates, config.train, STEPS)
    weights = np.ones(model.config.num_classes, np.float32)
    update = make_train_step(graphs.train, config, optimizer, weights, gather=parallel.gather)
    step: Any = parallel.compile_train_step(update, state)
    texts: Any = jax.ShapeDtypeStruct((config.train.batch_size, length), np.int32)
    kind = BATCH_TYPES[label_kind(config.task.kind)]
    shape = (config.train.batch_size, model.config.num_classes) if kind is np.bool_ else texts.shape[:1]
    labels: Any = jax.ShapeDtypeStruct(shape, kind)
    batch = Batch(texts, texts, labels)
    key = jax.eval_shape(lambda: jax.random.key(config.seed))
    lowered = step.lower(state, parallel.describe_batch(batch), parallel.describe_replicated(key))
    return LoweredTrainStep(lowered, state)
