"""The GPU that these tests need."""

import os

import jax
import pytest

from tests.conftest import COMPILER

# "cpu" runs the tests there, to see that they work up to the device.
PLATFORM = os.environ.get("AMSDFF_TEST_PLATFORM", "gpu")


@pytest.fixture(scope="session")
def gpu():
    """The first GPU, on which JAX computes, as users have it: with all that its compiler does."""
    if PLATFORM == "gpu":
        flags = [flag for flag in os.environ["XLA_FLAGS"].split() if flag not in COMPILER]
        os.environ["XLA_FLAGS"] = " ".join(flags)
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the worker's process needs memory too
    try:
        return jax.devices(PLATFORM)[0]
    except RuntimeError:
        pytest.skip("needs a CUDA GPU, and jax[cuda13] or jax[cuda12]")
