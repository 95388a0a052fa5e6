"""The tables of a comparison, for the terminal and the documentation."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from amsdff_jax.benchmark.workload import KINDS, OURS
from amsdff_jax.reporting.console import make_console
from amsdff_jax.reporting.escape import escape_markdown
from amsdff_jax.reporting.table import Column, Table, columns, to_markdown, to_rich

# Matrix products of a call in forward passes: the backward pass multiplies twice for each product of the forward pass.
PASSES = dict(zip(KINDS, (1, 3), strict=True))
STEPS = 500  # of the column that counts compilation in
WIDTH = 160


def describe(comparison: Mapping[str, Any]) -> list[str]:
    """What the numbers were measured on and what they say, in lines to stand above the table."""
    environment, plan = comparison["environment"], comparison["plan"]
    versions = ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
    rates = ", ".join(f"{name} {rate / 1e9:,.0f}" for name, rate in comparison["matrix_rate"].items())
    lines = [
        f"{environment['device']}; load average {environment['load']:.2f} on {environment['cores']} cores; {versions}",
        f"model: {plan['model']}; rounds of all sides in turn: {plan['rounds']}; matrix products, GFLOP/s: {rates}",
    ]
    if environment["busy"]:
        lines.insert(0, "The machine was busy when this began, and the times say little.")
    if not any(row["side"] != OURS for row in comparison["results"]):
        lines.insert(0, "No rival could be measured: the times are ours alone.")
    return lines


def explain() -> str:
    """What the columns of the table are."""
    return (
        "Milliseconds are the median of a call, their spread the distance of the quartiles; tokens are those of the "
        "padded batch. MFU, model FLOPs utilization, counts the FLOPs of the matrix products, three times as many in a "
        f"train step, as a share of the highest matrix rate in that type. {STEPS} steps: the first call, compilation "
        f"included, and {STEPS - 1} medians, added up and not run. The last column is the time of the fastest rival in "
        "any floating-point type by that of the row; above 1 is faster."
    )


def make_table(comparison: Mapping[str, Any]) -> Table:
    """A row for each kind of call, shape, side and type; at the end the sides that could not be run."""
    plan, memory = comparison["plan"], comparison["peak_memory"]
    rates: dict[str, float] = {}  # by type, of the side that multiplies fastest
    for name, rate in comparison["matrix_rate"].items():
        dtype = name.split()[1]
        rates[dtype] = max(rate, rates.get(dtype, 0.0))
    rows = []
    for kind in KINDS:
        for texts, tokens in plan["shapes"]:
            shape = f"{texts}x{tokens}"
            here = [row for row in comparison["results"] if (row["kind"], row["shape"]) == (kind, shape)]
            best = _best_rival(here)
            for row in here:
                names = (f"{kind} {shape}", row["side"], row["dtype"])
                if "failed" in row:
                    rows.append((*names, *[""] * 8, row["failed"]))
                    continue
                seconds, (low, high) = row["median"], row["quartiles"]
                operations = PASSES[kind] * comparison["matrix_operations"][shape]
                rate = rates.get(row["dtype"])  # int8 has none
                cached = row["first_call_cached"]
                training = kind == KINDS[1]
                rows.append(
                    (
                        *names,
                        f"{seconds * 1e3:.1f}",
                        f"{(high - low) / seconds:.0%}",
                        f"{texts * tokens / seconds:,.0f}",
                        f"{operations / seconds / rate:.0%}" if rate else "",
                        f"{row['first_call']:.1f}" + ("" if cached is None else f" ({cached:.1f})"),
                        f"{row['first_call'] + (STEPS - 1) * seconds:.1f}" if training else "",
                        f"{memory[' '.join(names[1:])] / 1e6:,.0f}",
                        f"{best / seconds:.2f}" if best else "",
                        "",
                    )
                )
    rows += [("not measured", *name.partition(" ")[::2], *[""] * 8, why) for name, why in comparison["missing"].items()]
    numbers = (
        "ms", "spread", "tokens/s", "MFU", "first call s (cached)", f"{STEPS} steps s", "peak MB",
        "times best rival",
    )  # fmt: skip
    names = [Column(title, "text") for title in ("batch", "side", "type")]
    has_notes = any(row[-1] for row in rows)
    shown = [*names, *map(Column, numbers), *([Column("why not", "text")] if has_notes else [])]
    return Table(shown, [row[: len(shown)] for row in rows])


def make_epoch_table(comparison: Mapping[str, Any]) -> Table:
    """A row for each side's epoch, ours first."""
    epochs = comparison["epochs"]
    rows = []
    for name, values in epochs.items():
        ratio = values["seconds"] / epochs[OURS]["seconds"]
        first = f"{values['start_to_first_step']:.1f}" if "start_to_first_step" in values else ""
        rows.append((name, f"{values['texts']:.0f}", f"{values['seconds']:.1f}", f"{ratio:.2f}", first))
    titles = columns("side", "texts", "seconds", "times as long as ours", "start to first step in s")
    return Table(titles, rows, "one epoch in bfloat16, from files to updated weights")


def make_model_table(comparisons: Iterable[Mapping[str, Any]]) -> Table:
    """A row for each kind of call and shape of several comparisons, each of a model of its own."""
    rows = []
    for comparison in comparisons:
        for ours in comparison["results"]:
            call = ours["kind"], ours["shape"]
            here = [row for row in comparison["results"] if (row["kind"], row["shape"]) == call]
            if ours["side"] != OURS or "failed" in ours:
                continue
            best = _best_rival(here)
            rows.append(
                (
                    comparison["plan"]["model"],
                    f"{' '.join(call)}, {ours['dtype']}",
                    f"{ours['median'] * 1e3:.0f}",
                    f"{best * 1e3:.0f}" if best else "",
                    f"{best / ours['median']:.2f}" if best else "",
                    f"{ours['first_call']:.1f}",
                )
            )
    numbers = ("ms", "best rival's ms", "times as fast", "first call s")
    return Table([Column("model", "text"), Column("call", "text"), *map(Column, numbers)], rows)


def to_page(comparison: Mapping[str, Any]) -> str:
    """It all in Markdown."""
    tables = [make_table(comparison), *([make_epoch_table(comparison)] if comparison["epochs"] else [])]
    parts = [escape_markdown(line) for line in describe(comparison)]
    for table in tables:
        parts += [*([f"{table.title}:"] if table.title else []), to_markdown(table)]
    return "\n\n".join([*parts, _worst(comparison)])


def print_comparison(comparison: Mapping[str, Any]) -> None:
    """Prints it all."""
    console = make_console(width=WIDTH)
    for line in describe(comparison):
        console.print(line)
    console.print(to_rich(make_table(comparison)))
    console.print(explain())
    if comparison["epochs"]:
        console.print(to_rich(make_epoch_table(comparison)))
    console.print(_worst(comparison))


def _worst(comparison: Mapping[str, Any]) -> str:
    # A NaN comes back from JSON as None.
    differences = {name: math.nan if value is None else value for name, value in comparison["differences"].items()}
    shown = ", ".join(f"{name} {value:.1e}" for name, value in differences.items())
    return f"Largest differences of logits to ours: {shown or 'nothing to compare with'}."


def _best_rival(rows: list[Mapping[str, Any]]) -> float | None:
    """Seconds of the fastest rival in floating point; None: there is none."""
    rivals = [row["median"] for row in rows if row["side"] != OURS and row["dtype"] != "int8" and "failed" not in row]
    return min(rivals, default=None)
