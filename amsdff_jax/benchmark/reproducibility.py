"""Whether a run gives the same numbers when it is interrupted, and on any number of devices.

Trains the first steps of a run again and again, each time in another way, and compares.
"""

import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.records import read_log
from amsdff_jax.config import PARALLEL_MODES, Config
from amsdff_jax.data.sources import DataSplits, load_data
from amsdff_jax.parallel.data_parallel import Device
from amsdff_jax.reporting.console import make_console
from amsdff_jax.reporting.table import Column, Table, columns, to_rich
from amsdff_jax.training.step import TrainState
from amsdff_jax.training.train_run import make_trainer

# Relative, between numbers summed in another order. Rounding alone makes 6e-7 on the quickstart, until one of the
# 12,288 maxima of the eighth batch, whose two largest tokens are 6e-6 apart, changes its token: max pooling gives the
# gradient to the largest token alone, so that goes another way, and the losses and norms after it are 1e-5 to 3e-5
# apart.
TOLERANCE = 1e-4


class Trajectory(NamedTuple):
    """The first steps of a run."""

    loss: np.ndarray  # [steps] float64, of each step
    gradient_norm: np.ndarray  # [steps] float64, before clipping
    state: TrainState  # after the last step, as NumPy arrays


class Comparison(NamedTuple):
    """How far a run trained in another way is from the run on one device that nothing interrupted."""

    name: str  # the other way: where it was resumed, or how many devices in which mode
    loss: np.ndarray  # [steps] relative difference of each step's loss
    gradient_norm: np.ndarray  # [steps] relative difference of each step's gradient norm
    batch_statistics: float  # largest difference of a BatchNorm statistic, as a share of the largest one in its array
    bitwise: bool  # whether losses, gradient norms and the whole training state are the same to the last bit
    # whether the two are as equal as they must be: bitwise after a resume, within `TOLERANCE` on other devices
    equal: bool


def provide_devices(number: int) -> list[Device]:
    """As many of the machine's accelerators, or, where it has fewer, simulated ones on the CPU.

    Must come before anything is computed.

    Raises:
      UserError: there are fewer, and JAX has begun to compute.
    """
    with contextlib.suppress(RuntimeError):  # JAX has begun to compute, with the devices that it has
        jax.config.update("jax_num_cpu_devices", number)
    devices = jax.devices()
    devices = devices if len(devices) >= number else jax.devices("cpu")
    if len(devices) < number:
        raise UserError(f"{number} devices wanted, but this process has {len(devices)} and began to compute with them")
    return devices[:number]


def verify_run(config: Config, steps: int, devices: Sequence[Device]) -> tuple[Trajectory, list[Comparison]]:
    """Trains the first `steps` steps of a run on one device; stopped half-way and resumed; on all `devices`.

    Args:
      config: the run, in float32. Dropout stays as it is: masks do not depend on the devices. Idle biases are held, see
        `hold_idle_biases`.
      devices: the first is used by itself, then all together, in every mode of `config.parallel`.

    Returns:
      The run on one device, and how the others compare with it.

    Raises:
      UserError: anything wrong with settings, data, encoder or devices.
    """
    data, config = load_data(config.data, config.seed, config.task.kind), hold_idle_biases(config)
    config = config.replace(model__compute_dtype="float32")  # bfloat16 rounds by more than the devices may differ
    with tempfile.TemporaryDirectory(prefix="amsdff-verify-") as folder:
        runs = Path(folder)
        one = devices[:1]
        reference = train_steps(config, data, runs / "whole", [steps], one)
        steps = len(reference.loss)  # of a shorter run, all that it has
        if steps < 2:
            raise UserError("train.epochs: the run has one step; expected two or more, to stop and resume in between")
        resumed = train_steps(config, data, runs / "resumed", [steps // 2, steps], one)
        comparisons = [compare(f"resumed at {steps // 2}", reference, resumed, tolerance=0.0)]
        for mode in PARALLEL_MODES:
            parallel = train_steps(config.replace(parallel__mode=mode), data, runs / mode, [steps], devices)
            comparisons.append(compare(f"{len(devices)} {mode}", reference, parallel, TOLERANCE))
    return reference, comparisons


def hold_idle_biases(config: Config) -> Config:
    """The run without the updates that are made of rounding alone.

    BatchNorm takes the biases before it out again, so their gradient is 0 but for rounding, of which Adam makes
    whole steps in random directions. They change no output, but the running means carry them along.
    """
    if config.model.name != "amsdff" or not config.model.multi_scale:
        return config
    table = ((r"\.scale_convs\.\d+\.[01]\.bias$", 0.0), *config.train.learning_rate_table)
    return config.replace(train__learning_rate_table=table)


def train_steps(
    config: Config, data: DataSplits, workdir: Path, stops: Sequence[int], devices: Sequence[Device]
) -> Trajectory:
    """Trains in `workdir` up to each of the steps `stops` in turn, with a new trainer after every stop."""
    trainer = None
    for last in stops:
        trainer = make_trainer(config.replace(train__log_every=1, train__trackers=""), data, workdir, devices)
        trainer.train(max_steps=last)
    assert trainer is not None  # there is a stop
    records = read_log(workdir / "metrics.jsonl")
    steps = [record for record in records if record["kind"] == "train"]
    loss, gradient_norm = (np.array([record[name] for record in steps]) for name in ("loss", "gradient_norm"))
    return Trajectory(loss, gradient_norm, jax.device_get(trainer.state))


def compare(name: str, reference: Trajectory, other: Trajectory, tolerance: float) -> Comparison:
    """Compares `other` with `reference`; a tolerance of 0 asks for the same bits."""
    loss = _relative(other.loss, reference.loss)
    gradient_norm = _relative(other.gradient_norm, reference.gradient_norm)
    runs = (jax.tree.leaves(run.state.variables.batch_statistics) for run in (other, reference))
    statistics = zip(*runs, strict=True)
    batch_statistics = max((np.abs(a - b).max() / max(np.abs(b).max(), 1e-30) for a, b in statistics), default=0.0)
    bitwise = jax.tree.all(jax.tree.map(np.array_equal, tuple(other), tuple(reference)))
    # Written so that a NaN is not equal.
    near = all(difference <= tolerance for difference in (loss.max(), gradient_norm.max(), batch_statistics))
    return Comparison(name, loss, gradient_norm, float(batch_statistics), bitwise, bitwise if tolerance == 0 else near)


def print_comparisons(reference: Trajectory, comparisons: Sequence[Comparison]) -> bool:
    """Prints the differences step by step, then the largest of each comparison; whether all are equal."""
    console = make_console()
    titles = columns("step", "loss", "gradient norm", *(comparison.name for comparison in comparisons))
    rows = []
    for step, (loss, norm) in enumerate(zip(reference.loss, reference.gradient_norm, strict=True)):
        cells = (max(comparison.loss[step], comparison.gradient_norm[step]) for comparison in comparisons)
        rows.append((str(step + 1), f"{loss:.6f}", f"{norm:.6f}", *(f"{cell:.1e}" for cell in cells)))
    console.print(to_rich(Table(titles, rows, "larger relative difference of loss and gradient norm")))
    titles = [*columns("against 1 device", "loss", "gradient norm", "BatchNorm"), Column("", "text")]
    rows = []
    for name, loss, norm, statistics, bitwise, equal in comparisons:
        verdict = ("bitwise equal" if bitwise else "equal") if equal else "DIFFERENT"
        rows.append((name, f"{loss.max():.1e}", f"{norm.max():.1e}", f"{statistics:.1e}", verdict))
    console.print(to_rich(Table(titles, rows)))
    return all(comparison.equal for comparison in comparisons)


def _relative(values: np.ndarray, expected: np.ndarray) -> np.ndarray:
    return np.abs(values - expected) / np.abs(expected)
