"""A run that has ended, of the settings that a module's own fixture `config` has."""

import pytest

from amsdff_jax.training.train_run import train_run


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    """The folder of a finished run."""
    workdir = tmp_path_factory.mktemp("run")
    assert train_run(config, workdir)
    return workdir
