"""What devices send each other, read off compiled functions."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec

from amsdff_jax.parallel.collectives import Collective, find_collectives
from amsdff_jax.parallel.data_parallel import AXIS, DataParallel


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda rows: jax.lax.psum(rows, AXIS), [Collective("all-reduce", 3 * 5 * 4)]),
        (lambda rows: jax.lax.psum(rows.sum(), AXIS)[None], [Collective("all-reduce", 4)]),
        (lambda rows: jax.lax.all_gather(rows, AXIS).sum(0), [Collective("all-gather", 8 * 3 * 5 * 4)]),
        (lambda rows: rows + 1, []),
    ],
)
def test_kinds_and_sizes_on_one_device(function, expected):
    mesh = DataParallel().mesh
    rows = jax.ShapeDtypeStruct((8 * 3, 5), jnp.float32)
    spread = jax.shard_map(function, mesh=mesh, in_specs=PartitionSpec(AXIS), out_specs=PartitionSpec(AXIS))
    assert find_collectives(jax.jit(spread).lower(rows).compile()) == expected
