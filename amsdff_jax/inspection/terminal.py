"""An inspection as tables on a terminal: first what needs attention, then the rest."""

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from amsdff_jax.inspection.corpus import TITLES, Sample
from amsdff_jax.inspection.findings import share
from amsdff_jax.inspection.results import Inspection

EXAMPLES = 3  # of each finding
CLASSES = 25  # with more, the largest and the smallest are shown
_EXCERPT = 110


def print_inspection(inspection: Inspection, console: Console) -> None:
    """Prints everything; nothing of a text is taken for markup."""
    if not inspection.findings:
        console.print("Nothing needs attention: no leak, no conflict, no odd text.", highlight=False)
    for finding in inspection.findings:
        style = "bold yellow" if finding.kind == "warning" else "cyan"
        console.print(Text.assemble((f"{finding.kind}: ", style), finding.message), soft_wrap=True)
        for match in finding.examples[:EXAMPLES]:
            for number, sample in enumerate(match.samples):
                console.print(_line(sample, first=not number), soft_wrap=True)
    for table in _tables(inspection):
        console.print()
        console.print(table)


def _line(sample: Sample, first: bool) -> Text:
    text = sample.text if sample.text_pair is None else f"{sample.text} | {sample.text_pair}"
    short = text if len(text) <= _EXCERPT else text[:_EXCERPT] + "…"
    start = "  - " if first else "    "
    return Text.assemble(start, (f"{sample.split} {sample.id} [{sample.label}] ", "dim"), short)


def _tables(inspection: Inspection) -> Iterable[Table]:
    splits = list(inspection.sources)
    yield _classes(inspection, splits)
    yield _lengths(inspection)
    yield _truncation(inspection)
    yield _buckets(inspection)
    yield _duplicates(inspection)
    if inspection.oddities:
        yield _oddities(inspection, splits)
    yield _scripts(inspection, splits)


def _table(title: str, *columns: str, rows: Iterable[Sequence[str]]) -> Table:
    """The first column holds names, the others numbers."""
    table = Table(title=Text(title), title_justify="left")
    for index, column in enumerate(columns):
        table.add_column(Text(column), justify="right" if index else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _classes(inspection: Inspection, splits: Sequence[str]) -> Table:
    counts = inspection.classes.counts
    rows = [
        (name, *(f"{counts[split][index]:,} ({share(counts[split][index], sum(counts[split]))})" for split in splits))
        for index, name in enumerate(inspection.classes.class_names)
    ]
    order = sorted(range(len(rows)), key=lambda index: -counts["train"][index])
    rows = [rows[index] for index in order]
    if len(rows) > CLASSES:
        half = CLASSES // 2
        rows = [*rows[:half], (f"… {len(rows) - 2 * half} more", *[""] * len(splits)), *rows[-half:]]
    rows.append(("all", *(f"{sum(counts[split]):,}" for split in splits)))
    return _table("Classes", "class", *(TITLES[split] for split in splits), rows=rows)


def _lengths(inspection: Inspection) -> Table:
    columns = inspection.lengths
    rows = [
        ("all tokens", *(f"{one.tokens:,}" for one in columns)),
        ("mean of a text", *(f"{one.tokens / one.texts:.1f}" for one in columns)),
        ("shortest text", *(f"{one.smallest:,}" for one in columns)),
        *(
            (f"{100 * quantile:g} % have at most", *(f"{one.quantiles[quantile]:,}" for one in columns))
            for quantile in columns[0].quantiles
        ),
        ("longest text", *(f"{one.largest:,}" for one in columns)),
        ("not in the vocabulary", *(share(one.unknown_tokens, one.tokens) for one in columns)),
    ]
    return _table(f"Tokens ({inspection.tokenizer})", "", *(TITLES[one.split] for one in columns), rows=rows)


def _truncation(inspection: Inspection) -> Table:
    rows = (
        (f"{limit}{' (config)' if limit == inspection.max_length else ''}",
         *(f"{share(one.truncated[limit], one.texts)} / {share(one.lost[limit], one.tokens)}"
           for one in inspection.lengths))
        for limit in inspection.lengths[0].truncated
    )  # fmt: skip
    return _table(
        "Cut by max_length: texts / tokens", "max_length", *(TITLES[one.split] for one in inspection.lengths), rows=rows
    )


def _buckets(inspection: Inspection) -> Table:
    rows = (
        (", ".join(map(str, buckets.lengths)), f"{100 * buckets.padding:.1f} %", "config" if buckets.of_config else "")
        for buckets in inspection.buckets
    )
    return _table(f"Buckets at max_length={inspection.max_length}", "lengths", "padding", "", rows=rows)


def _duplicates(inspection: Inspection) -> Table:
    duplicates = inspection.duplicates
    rows = (
        (TITLES[overlap.split], "the same split" if overlap.split == overlap.other else TITLES[overlap.other],
         f"{overlap.exact:,} ({share(overlap.exact, overlap.texts)})",
         f"{overlap.near:,} ({share(overlap.near, overlap.texts)})")
        for overlap in duplicates.overlaps
    )  # fmt: skip
    near = f"nearly (similarity {duplicates.similarity:g} or more)"
    return _table("Texts that are there again", "texts of", "in", "the same", near, rows=rows)


def _oddities(inspection: Inspection, splits: Sequence[str]) -> Table:
    numbers: dict[str, dict[str, int]] = {}
    for oddity in inspection.oddities:
        numbers.setdefault(oddity.name, {})[oddity.split] = oddity.texts
    rows = ((name, *(f"{found.get(split, 0):,}" for split in splits)) for name, found in numbers.items())
    return _table("Odd texts", "texts with", *(TITLES[split] for split in splits), rows=rows)


def _scripts(inspection: Inspection, splits: Sequence[str]) -> Table:
    systems = {one.split: one.letters for one in inspection.writing_systems}
    scripts = dict.fromkeys(script for split in splits for script in systems[split])
    rows = (
        (script, *(share(systems[split].get(script, 0), sum(systems[split].values())) for split in splits))
        for script in scripts
    )
    return _table("Letters by script", "script", *(TITLES[split] for split in splits), rows=rows)
