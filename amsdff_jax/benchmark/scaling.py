"""How the speed of training grows with the devices, and how much of the time is not spent in the step."""

import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp

from amsdff_jax.base.records import read_log
from amsdff_jax.config import Config
from amsdff_jax.data.sources import load_data
from amsdff_jax.parallel.data_parallel import Device
from amsdff_jax.reporting.console import make_console
from amsdff_jax.reporting.table import Table, columns, to_rich
from amsdff_jax.training.recorder import STEPS_OF_SPEED
from amsdff_jax.training.train_run import make_trainer
from amsdff_jax.training.trainer import Trainer

WARM_UP = 10  # steps before the clock starts: the first ones compile


class Speed(NamedTuple):
    """Medians over the rounds of one number of devices."""

    devices: int  # how many
    texts_per_second: float  # of the training loop, checkpoints and evaluations apart
    outside_step: float  # share of the loop's time in which no step was computing


def measure_scaling(config: Config, devices: Sequence[Device], counts: Sequence[int], rounds: int) -> list[Speed]:
    """Trains on each number of devices in turn, `rounds` times over.

    What a step takes by itself is measured right after, on the same batches, which lie on the devices already.
    """
    data = load_data(config.data, config.seed, config.task.kind)
    endless = {"train__epochs": 10_000, "train__max_steps": 0}  # longer than it is ever measured
    never = dict.fromkeys(("train__checkpoint_every", "train__evaluate_every"), 10**9)
    config = config.replace(**endless, **never, train__log_every=1, train__trackers="")
    with tempfile.TemporaryDirectory(prefix="amsdff-scaling-") as folder:
        trainers = {count: make_trainer(config, data, Path(folder) / str(count), devices[:count]) for count in counts}
        results = [[_measure(trainer) for trainer in trainers.values()] for _ in range(rounds)]
    by_count = zip(counts, zip(*results, strict=True), strict=True)
    return [Speed(count, *map(statistics.median, zip(*measured, strict=True))) for count, measured in by_count]


def print_scaling(speeds: Sequence[Speed]) -> None:
    """Prints a table, the first row of which is what the others are compared with."""
    rows = []
    for devices, texts_per_second, outside_step in speeds:
        ratio = texts_per_second / speeds[0].texts_per_second
        rows.append((str(devices), f"{texts_per_second:.1f}", f"{ratio:.2f}", f"{outside_step:.1%}"))
    titles = columns("devices", "texts per second", "times the first", "loop time outside the step")
    make_console().print(to_rich(Table(titles, rows)))


def _measure(trainer: Trainer) -> tuple[float, float]:
    """Texts per second of the loop's last steps, and the share of their time outside the step."""
    first = int(trainer.state.step)
    last = first + WARM_UP + STEPS_OF_SPEED
    trainer.train(max_steps=last)
    record = read_log(trainer.workdir / "metrics.jsonl")[-1]
    # The clock of the loop runs from the end of one step to the end of another.
    batches = list(trainer.stream.batches(last - STEPS_OF_SPEED + 1, last))
    texts = sum(int(batch.attention_mask.any(-1).sum()) for batch in batches)
    state = jax.block_until_ready(jax.tree.map(jnp.copy, trainer.state))
    start = time.perf_counter()
    for batch in batches:
        state, _ = trainer.train_step(state, batch, trainer.key)
    jax.block_until_ready(state)
    seconds = time.perf_counter() - start
    return record["examples_per_second"], 1 - seconds / (texts / record["examples_per_second"])
