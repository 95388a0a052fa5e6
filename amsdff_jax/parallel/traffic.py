"""What a program that was compiled for TPUs moves between a chip and its HBM."""

import re
from collections.abc import Iterable

from amsdff_jax.parallel.hlo import count_bytes, find_arrays, read_computations

_BODY = re.compile(r"\bbody=(%[\w.-]+)")
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
    computations = {found.name: found for found in read_computations(program)}
    total, waiting = 0, [name for name, found in computations.items() if found.is_entry]
    while waiting:
        instructions = computations[waiting.pop()].instructions
        shapes = {found.name: found.result for found in instructions}
        for found in instructions:
            waiting += _BODY.findall(found.line)
            total += _moved(found.result, found.operation, [shapes.get(name, "") for name in set(found.operands)])
    return total


def _moved(result: str, operation: str, operands: Iterable[str]) -> int:
    if _MOVES_NOTHING.fullmatch(operation):
        return 0
    if operation in ("copy-start", "slice-start"):  # gives (what is read from, what is written to, ...)
        source, target, *_ = find_arrays(result)
        return count_bytes(target) * sum(not _ON_CHIP.search(array) for array in (source, target))
    arrays = [array for shapes in (result, *operands) for array in find_arrays(shapes)]
    return sum(count_bytes(array) for array in arrays if not _ON_CHIP.search(array))
