"""What the devices of a compiled function send each other."""

import re
from typing import NamedTuple

import jax

# An instruction of HLO: its name, "=", the shape of its result or a tuple of shapes, the operation, its operands.
_INSTRUCTION = re.compile(
    r"\s+(?:ROOT )?\S+ = (\(.*?\)|\S+) "
    r"(all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute|collective-broadcast)(?:-start)?\("
)
_SHAPE = re.compile(r"\b(pred|[a-z]+(\d+)\w*)\[([\d,]*)\]")
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
    found, chains, sums_parts = [], set(), False
    program = executable.as_text() or ""
    devices = _DEVICES.search(program)
    for line in program.splitlines():
        if not line.startswith(" "):
            sums_parts = line.startswith(_SUM_OF_PARTS)
        instruction, chain = _INSTRUCTION.match(line), _CHAIN.search(line)
        if instruction is None or (chain and chain[0] in chains):
            continue
        if chain:
            chains.add(chain[0])
        shapes, kind = instruction.groups()
        size = count_bytes(shapes)
        if kind == "reduce-scatter" and devices:
            size *= int(devices[1])
        found.append(Collective("reduce-scatter" if sums_parts else kind, size))
    return found


def count_bytes(shapes: str) -> int:
    """Bytes of the arrays whose shapes stand in a text of HLO, such as `f32[2,3]`."""
    total = 0
    for _, bits, sizes in _SHAPE.findall(shapes):
        number = 1
        for size in filter(None, sizes.split(",")):
            number *= int(size)
        total += number * max(int(bits or 8) // 8, 1)
    return total
