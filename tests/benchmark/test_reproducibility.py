"""The check of a run finds what is equal and what is not."""

import jax.numpy as jnp
import numpy as np
import pytest

from amsdff_jax.benchmark.reproducibility import Trajectory, compare
from amsdff_jax.config import PARALLEL_MODES
from amsdff_jax.models.variables import Variables
from amsdff_jax.training.step import TrainState
from tests.processes import run_script


def trajectory(loss: float = 0.5, statistic: float = 2.0, weight: float = 1.0) -> Trajectory:
    state = TrainState(np.int32(2), Variables({"w": np.full(3, weight)}, {}, {"s": np.full(5, statistic)}), {})
    return Trajectory(np.array([0.7, loss]), np.array([3.0, 4.0]), state)


def test_a_resumed_run_must_be_the_same_to_the_last_bit():
    assert compare("", trajectory(), trajectory(), 0.0).equal
    for other in (trajectory(loss=0.5 + 1e-12), trajectory(statistic=2 + 1e-12), trajectory(weight=1 + 1e-12)):
        assert not compare("", trajectory(), other, 0.0).equal


def test_other_devices_may_differ_by_rounding_only():
    assert compare("", trajectory(), trajectory(loss=0.5 * (1 + 1e-6)), 1e-5).equal
    for other in (
        trajectory(loss=0.5 * (1 + 1e-4)), trajectory(loss=jnp.nan), trajectory(statistic=2.001),
        trajectory(statistic=jnp.nan),
    ):  # fmt: skip
        assert not compare("", trajectory(), other, 1e-5).equal


@pytest.mark.slow
@pytest.mark.expensive
def test_verify_run_finds_all_equal(run_arguments, tmp_path):
    arguments = ("--steps=5", "--devices=4", *run_arguments)
    code, output = run_script(tmp_path / "output.txt", "verify_run.py", *arguments)
    assert code == 0, output
    assert "resumed at 2" in output and "bitwise equal" in output
    assert all(f"4 {mode}" in output for mode in PARALLEL_MODES)
    assert "DIFFERENT" not in output
