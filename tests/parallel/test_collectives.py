"""What devices send each other, read off compiled functions."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec

from amsdff_jax.parallel.collectives import Collective, find_collectives
from amsdff_jax.parallel.data_parallel import AXIS, DataParallel

SUM_OF_PARTS = Collective("reduce-scatter", 8 * 3 * 5 * 4)  # a part is 3 x 5


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda rows: jax.lax.psum(rows, AXIS), [Collective("all-reduce", 3 * 5 * 4)]),
        (lambda rows: jax.lax.psum(rows.sum(), AXIS)[None], [Collective("all-reduce", 4)]),
        (lambda rows: jax.lax.all_gather(rows, AXIS).sum(0), [Collective("all-gather", 8 * 3 * 5 * 4)]),
        (lambda rows: jax.lax.psum_scatter(jnp.tile(rows, (8, 1)), AXIS, tiled=True), [SUM_OF_PARTS]),
        (lambda rows: rows + 1, []),
    ],
)
def test_kinds_and_sizes_on_one_device(function, expected):
    mesh = DataParallel().mesh
    rows = jax.ShapeDtypeStruct((8 * 3, 5), jnp.float32)
    spread = jax.shard_map(function, mesh=mesh, in_specs=PartitionSpec(AXIS), out_specs=PartitionSpec(AXIS))
    assert find_collectives(jax.jit(spread).lower(rows).compile()) == expected


def test_what_tpus_fuse_is_counted_once_and_whole():
    steps = """HloModule jit_step, num_partitions=4
%begin (x: f32[6]) -> f32[24] {
  %all-gather.1 = bf16[24]{0} all-gather(%x), channel_id=7, frontend_attributes={chain_id="0"}
}
%end (x: f32[6]) -> f32[24] {
  ROOT %all-gather.2 = bf16[24]{0:T(8)S(1)} all-gather(%x), channel_id=7, frontend_attributes={chain_id="0"}
}
%all-reduce-scatter.3 (x: f32[20], y: f32[4]) -> (f32[5], f32[1]) {
  %all-reduce.4 = (f32[20]{0}, f32[4]{0}) all-reduce(%x, %y), channel_id=1
}
ENTRY %main (x: f32[6]) -> f32[] {
  %all-reduce.5 = f32[] all-reduce(%x), channel_id=1
}
"""
    executable = SimpleNamespace(as_text=lambda: steps)
    gather, sums, total = find_collectives(executable)
    assert (gather, sums, total) == (("all-gather", 48), ("reduce-scatter", 96), ("all-reduce", 4))
