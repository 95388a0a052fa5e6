"""What a run would need and take on slices of TPUs that are not here: its train step is compiled for them."""

import contextlib
import logging
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax

from amsdff_jax.base.errors import UserError
from amsdff_jax.config import Config
from amsdff_jax.data.windows import Windows
from amsdff_jax.models.pretrained import PretrainedClassifier, find_encoder_config
from amsdff_jax.models.registry import MODELS
from amsdff_jax.models.variables import abstract_model
from amsdff_jax.parallel.collectives import Collective, find_collectives
from amsdff_jax.parallel.data_parallel import DataParallel
from amsdff_jax.parallel.topology import Chip, Topology, find_topology
from amsdff_jax.parallel.traffic import hbm_traffic
from amsdff_jax.training.lowering import LoweredTrainStep, lower_train_step

logger = logging.getLogger(__name__)


class StepPlan(NamedTuple):
    """The train step of a run on a slice. Sizes are bytes of one chip, operations and traffic are those of one chip.

    Attributes:
      topology: name of the slice.
      mode: of `config.parallel`, how the chips share weights and optimizer.
      chip: what is published of its chips.
      chips: how many it has.
      rows: texts of a batch on each chip.
      length: tokens of each text, padding included.
      weights: of the model, BatchNorm's statistics included.
      optimizer: the optimizer's state.
      held: all that lies there between two steps, the batch and the program included.
      temporary: what a step allocates beside it.
      collectives: what the chips send each other.
      flops: floating-point operations.
      traffic: bytes that go between HBM and chip.
    """

    topology: str
    mode: str
    chip: Chip
    chips: int
    rows: int
    length: int
    weights: int
    optimizer: int
    held: int
    temporary: int
    collectives: list[Collective]
    flops: float
    traffic: int

    @property
    def batch_size(self) -> int:
        """Texts of a batch over all chips."""
        return self.rows * self.chips

    @property
    def arithmetic_seconds(self) -> float:
        """What the operations take at the chip's peak rate."""
        return self.flops / self.chip.flops

    @property
    def memory_seconds(self) -> float:
        """What the traffic takes at the full bandwidth of the memory."""
        return self.traffic / self.chip.memory_bandwidth

    @property
    def computing_seconds(self) -> float:
        """The longer of both, for they overlap."""
        return max(self.arithmetic_seconds, self.memory_seconds)

    @property
    def link_seconds(self) -> float:
        """What the collectives take as a ring over all chips of the slice."""
        return self.link_seconds_on(self.chips)

    @property
    def seconds(self) -> float:
        """Of a step, if the sums of gradients overlap with nothing."""
        return self.seconds_on(self.chips)

    @property
    def largest_rows(self) -> int:
        """About how many texts a chip's memory holds, if all that a step allocates grows with them.

        From few texts a chip that is too low: part of it, such as the gradients, does not grow.
        """
        return max(int((self.chip.memory - self.held) / self.temporary * self.rows), 0)

    @property
    def speed(self) -> float:
        """Texts a second over all chips."""
        return self.batch_size / self.seconds

    def bytes_sent(self, *kinds: str) -> int:
        """Bytes of the collectives of these kinds, by default of all."""
        return sum(size for kind, size in self.collectives if not kinds or kind in kinds)

    def link_seconds_on(self, chips: int) -> float:
        """What the collectives take on another number of chips with as many texts each.

        Each chip of a ring sends its share on `chips - 1` times, and for sums that all chips get once more for them to
        come round: over a link to either neighbour, half of it each way. The time from chip to chip is left out.
        """
        links = min(chips - 1, 2)
        sent = (chips - 1) / chips * (self.bytes_sent() + self.bytes_sent("all-reduce"))
        return sent / (links * self.chip.link_bandwidth) if links else 0.0

    def seconds_on(self, chips: int) -> float:
        """What a step takes on another number of chips with as many texts each."""
        return self.computing_seconds + self.link_seconds_on(chips)


def plan_run(config: Config, topologies: Sequence[str], modes: Sequence[str] = ()) -> list[StepPlan]:
    """Compiles the train step of a run for each slice and in each mode, with texts of as many tokens as a step reads.

    That is `data.max_length`, or what `data.max_windows` windows hold, of texts with a special token at either end.

    No weights and texts are read, and of the encoder its `config.json` alone.

    Args:
      config: of the run; `model.num_classes` is set.
      topologies: names of slices, as `find_topology` takes them.
      modes: of `config.parallel`; (): that of the run.

    Raises:
      UserError: settings or slices that do not go together, or steps of which none fits a chip's memory. One of several
        that does not fit is left out, with a warning.
    """
    if not config.model.num_classes:
        raise UserError(
            "model.num_classes: 0 stands for as many as the data has, and a plan reads no data; give their number, as "
            "in --config.model.num_classes=4"
        )
    pieces, name = config.train.accumulation_steps, config.model.name
    if pieces > 1:
        raise UserError(
            f"train.accumulation_steps: expected 1, got {pieces}; the compiler counts a loop over pieces once, so plan "
            f"one of them, --config.train.batch_size={config.train.batch_size // pieces}"
        )
    if name in ("lstm", "gru"):
        raise UserError(f"model.name: {name} cannot be planned; the compiler counts its loop over the tokens once")
    runs = [config.replace(parallel__mode=mode) for mode in modes or (config.parallel.mode,)]
    found = [find_topology(name) for name in topologies]
    model = planned_model(config, "tpu")
    # All are lowered first, which takes seconds: what does not go together is told before minutes of compiling.
    steps = [_lower(model, run, topology) for topology in found for run in runs]
    plans: list[StepPlan] = []
    for step in steps:
        try:
            plans.append(_plan_step(step))
        except UserError as error:
            if step is steps[-1] and not plans:
                raise
            logger.warning("left out: %s", error)
    return plans


def planned_model(config: Config, platform: str) -> PretrainedClassifier:
    """The model of a run on `platform` without its numbers.

    Raises:
      UserError: no such encoder, or one that does not fit.
    """
    _, sizes = find_encoder_config(config.model)
    if config.data.max_length > sizes.max_tokens:
        raise UserError(
            f"data.max_length: expected at most {sizes.max_tokens}, the encoder's positions, "
            f"got {config.data.max_length}"
        )
    kind = MODELS[config.model.name]
    model = abstract_model(lambda rngs: kind(config.model, sizes, rngs=rngs, platform=platform))
    if config.data.long_texts == "windows":
        model.read_in_windows(Windows(config.data.max_length, config.data.window_overlap, prefix=1, suffix=1))
    return model


class _Step(NamedTuple):
    """A run's train step for a slice, and the tokens that its texts are padded to."""

    config: Config
    topology: Topology
    length: int
    lowered: LoweredTrainStep


def _lower(model: PretrainedClassifier, config: Config, topology: Topology) -> _Step:
    length = config.data.max_length
    if model.windows is not None:
        length = model.windows.length(config.data.max_windows)
    parallel = DataParallel(config.parallel.mode, topology.devices)
    return _Step(config, topology, length, lower_train_step(model, config, parallel, length))


def _plan_step(step: _Step) -> StepPlan:
    """Compiles a step.

    Raises:
      UserError: it does not fit the memory of a chip, or libtpu is too old.
    """
    config, topology, length, (lowered, state) = step
    chips, mode = len(topology.devices), config.parallel.mode
    logger.info("%s, %s: compiling the train step; that takes minutes", topology.name, mode)
    try:
        with _outside_jax_cache():
            executable = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        reason = str(error).partition("Ran out of memory")[2].partition("\n")[0]
        raise UserError(
            f"train.batch_size: {config.train.batch_size} texts of {length} tokens on {topology.name} do not fit, "
            f"{config.train.batch_size // chips} a chip (out of memory{reason}); take fewer, or "
            "--config.model.rematerialize=True, or --config.parallel.mode=fsdp"
        ) from None
    memory, cost, program = executable.memory_analysis(), executable.cost_analysis(), executable.as_text()
    if memory is None or not cost or not program:
        raise UserError(f"--topology={topology.name}: this libtpu does not tell what a step costs; install a newer one")
    held = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    return StepPlan(
        topology.name,
        mode,
        topology.chip,
        chips,
        config.train.batch_size // chips,
        length,
        _bytes(state.variables),
        _bytes(state.optimizer_state),
        held + memory.generated_code_size_in_bytes,
        memory.temp_size_in_bytes,
        find_collectives(executable),
        cost["flops"],
        hbm_traffic(program),
    )


def _bytes(tree: object) -> int:
    """What one chip has of the arrays."""
    arrays = jax.tree.leaves(tree)
    return sum(math.prod(array.sharding.shard_shape(array.shape)) * array.dtype.itemsize for array in arrays)


@contextlib.contextmanager
def _outside_jax_cache() -> Iterator[None]:
    """Keeps what is compiled meanwhile out of JAX's cache, from which a program for a topology cannot be read back."""
    name = "jax_persistent_cache_min_compile_time_secs"
    before = jax.config.values[name]
    jax.config.update(name, float("inf"))
    try:
        yield
    finally:
        jax.config.update(name, before)
