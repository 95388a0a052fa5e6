"""What was planned for slices of TPUs, as tables, a picture and JSON."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from amsdff_jax.base.files import user_errors, write_json, write_text
from amsdff_jax.benchmark.plan import StepPlan
from amsdff_jax.evaluation.drawing import draw
from amsdff_jax.evaluation.plots import BLUE, GREY, ORANGE
from amsdff_jax.reporting.console import make_console
from amsdff_jax.reporting.render import render
from amsdff_jax.reporting.table import Column, Table, columns, to_rich

CHIPS = (1, 2, 4, 8, 16, 32, 64, 128, 256)  # for which growth is estimated

SENT = {"gathered MB": ("all-gather",), "summed MB": ("all-reduce", "reduce-scatter")}  # kinds of collectives


def report_plan(plans: Sequence[StepPlan], name: str, output: Path | None) -> None:
    """Prints the tables and, if there is an `output`, writes them there beside `plan.json` and a picture.

    Args:
      plans: of one run on several slices.
      name: of the run.
      output: a folder, made if need be.

    Raises:
      UserError: the folder cannot be written.
    """
    tables, notes = make_tables(plans), explain(plans)
    console = make_console()
    for table in tables:
        console.print(to_rich(table))
    for note in notes:
        console.print(note)
    if output is None:
        return
    with user_errors(output, "written"):
        output.mkdir(parents=True, exist_ok=True)
        write_json(output / "plan.json", list(map(_as_json, plans)))
        draw(output / "growth.png", [], plot_growth, plans)
        step = f"A train step of {plans[0].batch_size:,} texts of {plans[0].length} tokens; numbers are of one chip."
        write_text(output / "README.md", render("plan.md.j2", name=name, step=step, tables=tables, notes=notes))


def make_tables(plans: Sequence[StepPlan]) -> list[Table]:
    """Memory and time of a step on a chip, a row for each plan, and growth if there is a slice of several chips."""
    memory, time = [], []
    for plan in plans:
        sizes = (plan.weights, plan.optimizer, plan.held, plan.temporary)
        free = 1 - (plan.held + plan.temporary) / plan.chip.memory
        largest = f"{plan.largest_rows * plan.chips:,}"
        megabytes = (f"{size / 1e6:,.0f}" for size in sizes)
        memory.append((plan.topology, plan.mode, f"{plan.rows}", *megabytes, f"{free:.0%}", largest))
        sent = (f"{plan.bytes_sent(*kinds) / 1e6:,.0f}" for kinds in SENT.values())
        work = (f"{plan.flops / 1e9:,.0f}", f"{plan.traffic / 1e9:,.1f}", f"{len(plan.collectives)}", *sent)
        parts = (plan.arithmetic_seconds, plan.memory_seconds, plan.link_seconds, plan.seconds)
        milliseconds = (f"{1e3 * seconds:.1f}" for seconds in parts)
        time.append((plan.topology, plan.mode, *work, *milliseconds, f"{plan.speed:,.0f}"))
    what = ("weights", "optimizer", "all that stays", "temporary", "free", "largest batch")
    work = ("GFLOP", "HBM GB", "collectives", *SENT)
    parts = ("FLOP ms", "HBM ms", "links ms", "step ms", "texts/s")
    return [
        Table([Column("slice", "text"), *columns("mode", "texts a chip", *what)], memory, "Memory: MB of a chip"),
        Table([Column("slice", "text"), *columns("mode", *work, *parts)], time, "Time: of a step on a chip"),
        *map(_make_growth_table, _growing(plans)),
    ]


def _make_growth_table(plan: StepPlan) -> Table:
    """How the speed grows with the chips, each of which computes as many texts as in `plan`."""
    rows = []
    for chips in CHIPS:
        seconds = plan.seconds_on(chips)
        batch, share = chips * plan.rows, plan.seconds_on(1) / seconds
        rows.append((f"{chips}", f"{batch:,}", f"{1e3 * seconds:.1f}", f"{batch / seconds:,.0f}", f"{share:.0%}"))
    titles = columns("chips", "batch", "step ms", "texts/s", "of linear growth")
    return Table(titles, rows, f"Growth: {plan.mode}, with {plan.rows} texts a chip")


def explain(plans: Sequence[StepPlan]) -> list[str]:
    """The formulas and the numbers that went into them, a paragraph each."""
    chips = {plan.topology.partition(":")[0]: plan.chip for plan in plans}
    published = "; ".join(
        f"{kind} {chip.flops / 1e12:.0f} TFLOP/s in bfloat16, {chip.memory / 1e9:.0f} GB of HBM at "
        f"{chip.memory_bandwidth / 1e9:.0f} GB/s, links of {chip.link_bandwidth / 1e9:.0f} GB/s each way"
        for kind, chip in chips.items()
    )
    notes = [
        "Operations, traffic between chip and HBM, collectives and memory are those of the compiled program. step = "
        "max(operations / peak rate, traffic / HBM bandwidth) + (chips - 1) / chips x bytes of the collectives, those "
        "of an all-reduce twice, / bandwidth of the two links that a chip has in a ring. Nothing has been timed: real "
        "steps reach neither the peak rate nor the full bandwidth, and hide part of the collectives behind the "
        "backward pass.",
        f"Published (docs.cloud.google.com/tpu/docs): {published}.",
        "The largest batch is an estimate: all that a step allocates is taken to grow with its texts. From few texts a "
        "chip it is too low.",
    ]
    first, *others = sorted(_in_first_mode(plans), key=lambda plan: plan.chips)
    shares = (f"{plan.topology} {plan.speed / plan.chips / (first.speed / first.chips):.0%}" for plan in others)
    if others:
        notes.append(f"With the same batch on more chips, what a chip does of {first.topology}: {', '.join(shares)}.")
    return notes


def plot_growth(plans: Sequence[StepPlan]) -> Figure:
    """Texts a second against chips: every slice that was compiled for, and the growth at as many texts a chip."""
    figure = Figure(figsize=(6.5, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for plan in _growing(plans):
        linear = [chips * plan.rows / plan.seconds_on(1) for chips in CHIPS]
        grown = [chips * plan.rows / plan.seconds_on(chips) for chips in CHIPS]
        axes.plot(CHIPS, linear, "--", color=GREY, label="linear")
        axes.plot(CHIPS, grown, "o-", color=BLUE, markersize=4, label=f"{plan.rows} texts a chip")
    speeds = sorted((plan.chips, plan.speed) for plan in _in_first_mode(plans))
    axes.plot(*zip(*speeds, strict=True), "s-", color=ORANGE, label=f"{plans[0].batch_size} texts in all")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:,.0f}")
    axes.set(xlabel="chips", ylabel="texts/s, estimated")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure


def _in_first_mode(plans: Sequence[StepPlan]) -> Sequence[StepPlan]:
    return [plan for plan in plans if plan.mode == plans[0].mode]


def _growing(plans: Sequence[StepPlan]) -> Sequence[StepPlan]:
    """The first plan for several chips, which tells what they send each other; none where there is no such plan."""
    return [plan for plan in plans if plan.chips > 1][:1]


def _as_json(plan: StepPlan) -> dict:
    derived = ("batch_size", "arithmetic_seconds", "memory_seconds", "link_seconds", "seconds", "largest_rows")
    collectives = [collective._asdict() for collective in plan.collectives]
    stored = plan._asdict() | {"chip": plan.chip._asdict(), "collectives": collectives}
    return stored | {name: getattr(plan, name) for name in derived}
