"""What the devices of a compiled function send each other."""

import re
from typing import NamedTuple

import jax

# An instruction of HLO: its name, "=", the shape of its result or a tuple of shapes, the operation, its operands.
_INSTRUCTION = re.compile(
    r"^\s*(?:ROOT )?\S+ = (\(.*?\)|\S+) "
    r"(all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute|collective-broadcast)(?:-start)?\(",
    re.MULTILINE,
)
_SHAPE = re.compile(r"\b(pred|[a-z]+(\d+)\w*)\[([\d,]*)\]")


class Collective(NamedTuple):
    """A collective operation of a compiled function."""

    kind: str  # such as "all-reduce"
    size: int  # bytes of its results on one device


def find_collectives(executable: jax.stages.Compiled) -> list[Collective]:
    """The collective operations of a compiled function, in the order of its program; one in a loop stands once.

    Results of an operation that goes on beside others are counted with its operands, where HLO names both.
    """
    program = executable.as_text() or ""
    return [Collective(kind, _bytes(shapes)) for shapes, kind in _INSTRUCTION.findall(program)]


def _bytes(shapes: str) -> int:
    total = 0
    for _, bits, sizes in _SHAPE.findall(shapes):
        number = 1
        for size in filter(None, sizes.split(",")):
            number *= int(size)
        total += number * max(int(bits or 8) // 8, 1)
    return total
