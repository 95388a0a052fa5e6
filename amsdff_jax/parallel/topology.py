"""Slices of TPUs that are not here: their devices, to compile for, and what is published of their chips."""

import importlib.util
import os
import re
from typing import NamedTuple

from jax.experimental import topologies

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.validation import nearest
from amsdff_jax.parallel.data_parallel import Device


class Chip(NamedTuple):
    """What is published of a kind of chip, in operations, bytes and bytes a second.

    Source: https://docs.cloud.google.com/tpu/docs/v5e, v5p and v6e.
    """

    flops: float  # peak rate of bfloat16 products
    memory: float  # capacity of the HBM
    memory_bandwidth: float  # between HBM and chip
    link_bandwidth: float  # of one link to a neighbour, in one direction: half a port's share of the published sum


# What libtpu would otherwise look for on the network, and say that it has not found.
WITHOUT_TPU = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # several processes may compile at once
}

CHIPS = {
    "v5e": Chip(197e12, 16e9, 819e9, 400e9 / 4 / 2),
    "v5p": Chip(459e12, 95e9, 2765e9, 1200e9 / 6 / 2),
    "v6e": Chip(918e12, 32e9, 1638e9, 800e9 / 4 / 2),
}


class Topology(NamedTuple):
    """A slice of chips.

    Attributes:
      name: as it was asked for, such as `v5e:4x4`.
      chip: of which it is made.
      devices: of all its chips. They compute nothing, but JAX compiles for them.
    """

    name: str
    chip: Chip
    devices: list[Device]


def find_topology(name: str) -> Topology:
    """The slice called `name`, a kind of chip and a shape such as `v5e:4x4` or `v5p:2x2x2`.

    It loads libtpu into the process, and gives it the environment variables of `WITHOUT_TPU` that are not set.

    Raises:
      UserError: no such kind or shape, or no libtpu, which compiles for it.
    """
    kind, _, shape = name.partition(":")
    if kind not in CHIPS or not re.fullmatch(r"[1-9]\d*(x[1-9]\d*){1,2}", shape):
        raise UserError(
            f"--topology: no slice {name!r}{nearest(kind, CHIPS)}; expected a chip ({', '.join(CHIPS)}) and a shape, "
            "such as v5e:4x4"
        )
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(
            "--topology: libtpu, which compiles for TPUs, is not installed: pip install libtpu (with the newest jax)"
        )
    for variable, value in WITHOUT_TPU.items():
        os.environ.setdefault(variable, value)
    try:
        description = topologies.get_topology_desc(topology_name=name, platform="tpu")
    except RuntimeError as error:  # JAX's own is one
        raise UserError(f"--topology={name}: libtpu gives no such slice ({' '.join(str(error).split())})") from None
    return Topology(name, CHIPS[kind], list(description.devices))
