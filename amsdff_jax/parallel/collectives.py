"""What the devices of a compiled function send each other."""

import re
from typing import NamedTuple

import jax

from amsdff_jax.parallel.hlo import count_bytes, read_computations

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute", "collective-broadcast")
# On TPUs: steps of one operation, each in what is computed beside it; and the computation that is a reduce-scatter.
_CHAIN = re.compile(r'chain_id="\d+"')
_SUM_OF_PARTS = "%all-reduce-scatter"
_DEVICES = re.compile(r"num_partitions=(\d+)")


class Collective(NamedTuple):
    """A collective operation of a compiled function."""

    kind: str  # such as "all-reduce"
    size: int  # bytes of its results on one device; of a reduce-scatter those of all devices, which it sums


def find_collectives(executable: jax.stages.Compiled) -> list[Collective]:
    """The collective operations of a compiled function, in the order of its program; one in a loop stands once.

    Results of an operation that goes on beside others are counted with its operands, where HLO names both.
    """
    found, chains = [], set()
    program = executable.as_text() or ""
    devices = _DEVICES.search(program)
    for computation in read_computations(program):
        for instruction in computation.instructions:
            kind, chain = instruction.operation.removesuffix("-start"), _CHAIN.search(instruction.line)
            if kind not in KINDS or (chain and chain[0] in chains):
                continue
            if chain:
                chains.add(chain[0])
            size = count_bytes(instruction.result)
            if kind == "reduce-scatter" and devices:
                size *= int(devices[1])
            sums_parts = computation.name.startswith(_SUM_OF_PARTS)
            found.append(Collective("reduce-scatter" if sums_parts else kind, size))
    return found
