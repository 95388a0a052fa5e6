"""What a program that was compiled for TPUs moves between a chip and its HBM."""

import re

from amsdff_jax.parallel.collectives import count_bytes

# An instruction of HLO: its name, "=", the shape of its result or a tuple of shapes, the operation, its operands.
_INSTRUCTION = re.compile(r"\s+(?:ROOT )?(%\S+) = (.+?) ([\w-]+)\(([^)]*)\)")
_BODY = re.compile(r"\bbody=(%[\w.-]+)")
_ARRAY = re.compile(r"\b[a-z]+\d*\w*\[[\d,]*\](?:\{[^}]*\})?")
_ON_CHIP = re.compile(r"S\([1-9]\d*\)")  # in a layout: a memory other than HBM
# Operations that name arrays or parts of them, or wait for what a `-start` has begun.
_MOVES_NOTHING = re.compile(r"parameter|constant|tuple|get-tuple-element|bitcast|opt-barrier|while|.*-done")


def hbm_traffic(program: str) -> int:
    """Bytes that one run of a compiled program reads from HBM and writes there; of a loop one turn.

    XLA's own "bytes accessed" counts what is read from the chip's own memory too, into which the compiler fetches in
    advance, and a copy in four slices as four copies: three times as much for a train step.

    Args:
      program: HLO as the compiler has scheduled it. Its fusions read an operand whole, so that a look-up in a table
        counts as the table.
    """
    computations = dict(_split(program))
    entry = next(name for name in computations if computations[name][0].startswith("ENTRY"))
    total, waiting = 0, [entry]
    while waiting:
        found = [match for line in computations[waiting.pop()] if (match := _INSTRUCTION.match(line))]
        shapes = {match[1]: match[2] for match in found}
        for match in found:
            waiting += _BODY.findall(match.string)
            total += _moved(match[2], match[3], [shapes.get(name, "") for name in set(_names(match[4]))])
    return total


def _split(program: str) -> list[tuple[str, list[str]]]:
    """The computations of a program: the name of each, and its lines, of which the first has the name."""
    parts = re.split(r"\n(?=(?:ENTRY )?%\S+ \()", program)[1:]
    return [(re.search(r"%\S+", part)[0], part.splitlines()) for part in parts]  # type: ignore[index]


def _names(operands: str) -> list[str]:
    return re.findall(r"%[^\s,]+", operands)


def _moved(result: str, operation: str, operands: list[str]) -> int:
    if _MOVES_NOTHING.fullmatch(operation):
        return 0
    if operation in ("copy-start", "slice-start"):  # gives (what is read from, what is written to, ...)
        source, target, *_ = _ARRAY.findall(result)
        size = count_bytes(target)
        return sum(size for array in (source, target) if not _ON_CHIP.search(array))
    arrays = [array for shape in (result, *operands) for array in _ARRAY.findall(shape)]
    return sum(count_bytes(array) for array in arrays if not _ON_CHIP.search(array))
