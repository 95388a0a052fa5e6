"""The text of a compiled program: HLO as XLA writes it."""

import re
from typing import NamedTuple

# An instruction: its name, "=", the shape of its result or a tuple of shapes, the operation, its operands.
_INSTRUCTION = re.compile(r"\s+(?:ROOT )?(%\S+) = (.+?) ([\w-]+)\(([^)]*)\)")
_ARRAY = re.compile(r"\b(pred|[a-z]+(\d+)\w*)\[([\d,]*)\](?:\{[^}]*\})?")


class Instruction(NamedTuple):
    """An instruction of a computation."""

    name: str  # such as "%add.1"
    result: str  # the shapes of its arrays, such as "(f32[2,3]{1,0:T(8,128)}, s32[])"
    operation: str  # such as "all-reduce-start"
    operands: tuple[str, ...]  # names
    line: str  # all of it


class Computation(NamedTuple):
    """A function of a program."""

    name: str
    is_entry: bool
    instructions: list[Instruction]


def read_computations(program: str) -> list[Computation]:
    """The computations of a program, in its order."""
    found = []
    for text in re.split(r"\n(?=(?:ENTRY )?%\S+ \()", program)[1:]:
        first, *lines = text.splitlines()
        matches = [match for line in lines if (match := _INSTRUCTION.match(line))]
        instructions = [
            Instruction(name, result, operation, tuple(re.findall(r"%[^\s,]+", operands)), match.string)
            for match in matches
            for name, result, operation, operands in [match.groups()]
        ]
        found.append(Computation(first.removeprefix("ENTRY ").split(" ")[0], first.startswith("ENTRY"), instructions))
    return found


def find_arrays(shapes: str) -> list[str]:
    """The arrays of a text of HLO, each with its type, its sizes and its layout, such as `f32[2,3]{1,0}`."""
    return [match[0] for match in _ARRAY.finditer(shapes)]


def count_bytes(shapes: str) -> int:
    """Bytes of the arrays whose shapes stand in a text of HLO."""
    total = 0
    for _, bits, sizes in _ARRAY.findall(shapes):
        number = 1
        for size in filter(None, sizes.split(",")):
            number *= int(size)
        total += number * max(int(bits or 8) // 8, 1)
    return total
