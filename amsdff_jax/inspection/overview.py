"""The numbers of an inspection as tables and histograms, for the terminal and the page alike."""

from collections.abc import Iterable, Sequence
from typing import Any

from amsdff_jax.inspection.corpus import TITLES
from amsdff_jax.inspection.findings import share
from amsdff_jax.inspection.lengths import Lengths
from amsdff_jax.inspection.results import Inspection
from amsdff_jax.reporting.table import Column, Table, columns

MOST_TICKS = 8


def class_table(inspection: Inspection) -> Table:
    """Texts by class, the most frequent first."""
    classes = inspection.classes
    order = sorted(range(len(classes.class_names)), key=lambda index: -classes.counts["train"][index])
    counts = [[classes.counts[split][index] for split in inspection.sources] for index in order]
    names = [classes.class_names[index] for index in order]
    return _shares("Classes", "class", names, counts, inspection)


def length_table(inspection: Inspection) -> Table:
    """Tokens of the texts."""
    splits = inspection.lengths
    quantiles = [
        (f"{100 * quantile:g} % have at most", *(f"{one.quantiles[quantile]:,}" for one in splits))
        for quantile in splits[0].quantiles
    ]
    rows = [
        ("all tokens", *(f"{one.tokens:,}" for one in splits)),
        ("mean of a text", *(f"{one.tokens / one.texts:.1f}" for one in splits)),
        ("shortest text", *(f"{one.smallest:,}" for one in splits)),
        *quantiles,
        ("longest text", *(f"{one.largest:,}" for one in splits)),
        ("not in the vocabulary", *(share(one.unknown_tokens, one.tokens) for one in splits)),
    ]
    return Table(_columns("", inspection), rows, f"Tokens ({inspection.tokenizer})")


def truncation_table(inspection: Inspection) -> Table:
    """What several `max_length`s would truncate, whichever tokens are kept, and what windows would leave out."""

    def cell(one: Lengths, limit: int) -> str:
        numbers = f"{share(one.truncated[limit], one.texts)} / {share(one.lost[limit], one.tokens)}"
        return f"{numbers} / {share(one.beyond_windows[limit], one.tokens)}" if one.split == "train" else numbers

    limits = list(inspection.lengths[0].truncated)
    rows = [(str(limit), *(cell(one, limit) for one in inspection.lengths)) for limit in limits]
    title = "Truncated by max_length, at the end (truncate) or in the middle (head_tail): texts / tokens"
    title += " / tokens that an epoch of training leaves out (windows)"
    return _marked(title, _columns("max_length", inspection), rows, limits.index(inspection.max_length))


def bucket_table(inspection: Inspection) -> Table:
    """Padded lengths and what they cost."""
    rows = ((", ".join(map(str, one.lengths)), f"{100 * one.padding:.1f} %") for one in inspection.buckets)
    chosen = next(index for index, one in enumerate(inspection.buckets) if one.of_config)
    return _marked(f"Buckets at max_length={inspection.max_length}", columns("lengths", "padding"), rows, chosen)


def duplicate_table(inspection: Inspection) -> Table:
    """Texts that are there again."""
    duplicates = inspection.duplicates
    rows = [
        (
            f"{TITLES[one.split]} in {'itself' if one.split == one.other else TITLES[one.other]}",
            f"{one.exact:,} ({share(one.exact, one.texts)})",
            f"{one.near:,} ({share(one.near, one.texts)})",
        )
        for one in duplicates.overlaps
    ]
    titles = columns("texts of", "the same", f"similarity {duplicates.similarity:g} or more")
    return Table(titles, rows, "Texts that are there again")


def text_issue_table(inspection: Inspection) -> Table:
    """Texts by what is odd about them."""
    numbers: dict[str, dict[str, int]] = {}
    for issue in inspection.text_issues:
        numbers.setdefault(issue.name, {})[issue.split] = issue.texts
    rows = [(name, *(f"{found.get(split, 0):,}" for split in inspection.sources)) for name, found in numbers.items()]
    return Table(_columns("", inspection), rows, "Odd texts")


def script_table(inspection: Inspection) -> Table:
    """Letters by script, the most frequent first."""
    systems = inspection.writing_systems
    scripts = list(dict.fromkeys(script for one in systems for script in one.letters))
    counts = [[one.letters.get(script, 0) for one in systems] for script in scripts]
    return _shares("Letters by script", "script", scripts, counts, inspection)


def label_table(inspection: Inspection) -> Table:
    """Labels that are probably wrong, by class, the largest estimated share first; no rows where none were judged."""
    classes = inspection.labels.classes if inspection.labels else ()
    rows = [
        (
            one.name,
            f"{one.texts:,}",
            f"{one.suspected:,} ({share(one.suspected, one.texts)})",
            f"{100 * one.rate:.1f} %",
            f"{100 * one.interval.low:.1f} to {100 * one.interval.high:.1f} %",
            one.mistaken_for,
        )
        for one in sorted(classes, key=lambda one: -one.rate)
    ]
    titles = columns("label", "training texts", "suspected", "estimated noise rate", "95 % interval", "most are rather")
    return Table(titles, rows, "Labels that are probably wrong")


def agreement_table(inspection: Inspection) -> Table:
    """How far the raters of each split agree; no rows where there are no raters."""
    agreement = inspection.agreement
    if not agreement:
        return Table(columns(""), ())
    rows = [
        ("raters", *(f"{one.raters:,}" for one in agreement)),
        ("ratings of a text, on average", *(f"{one.ratings / one.texts:.2f}" for one in agreement)),
        ("texts with two ratings or more", *(f"{one.shared:,} ({share(one.shared, one.texts)})" for one in agreement)),
        ("of these unanimous", *(f"{one.unanimous:,} ({share(one.unanimous, one.shared)})" for one in agreement)),
        (
            f"Krippendorff's alpha ({agreement[0].metric})",
            *("–" if one.alpha is None else f"{one.alpha:.3f}" for one in agreement),
        ),
    ]
    return Table(columns("", *(TITLES[one.split] for one in agreement)), rows, "Agreement of the raters")


TABLES = {
    "classes": class_table,
    "agreement": agreement_table,
    "labels": label_table,
    "lengths": length_table,
    "truncation": truncation_table,
    "buckets": bucket_table,
    "duplicates": duplicate_table,
    "scripts": script_table,
    "text_issues": text_issue_table,
}


def length_histogram(lengths: Lengths, max_length: int) -> dict[str, Any]:
    """Share of texts by tokens, with a line where `max_length` truncates; the last bar holds all longer texts."""
    largest, end = max(lengths.histogram), len(lengths.histogram) * lengths.bin_width
    bars = [
        (count / largest, f"{_tokens(index, lengths)}: {count:,} texts")
        for index, count in enumerate(lengths.histogram)
    ]
    return {
        "bars": bars,
        "highest": f"{100 * largest / lengths.texts:.0f} %",
        "ticks": [(tick / end, f"{tick:,}") for tick in _ticks(end)],
        "limit": ((max_length + 1) / end, f"max_length {max_length}") if max_length < end else None,
    }


def _tokens(index: int, lengths: Lengths) -> str:
    start = index * lengths.bin_width
    if index == len(lengths.histogram) - 1:
        return f"{start:,} tokens and more"
    if lengths.bin_width == 1:
        return f"{start:,} tokens"
    return f"{start:,} to {start + lengths.bin_width - 1:,} tokens"


def _ticks(end: int) -> range:
    magnitude = 10 ** max(len(str(end)) - 2, 0)
    step = next(factor * magnitude for factor in (1, 2, 5, 10, 20, 50) if factor * magnitude * MOST_TICKS >= end)
    return range(0, end, step)


def _columns(first: str, inspection: Inspection) -> list[Column]:
    return columns(first, *(TITLES[split] for split in inspection.sources))


def _shares(
    title: str, first: str, names: Sequence[str], counts: Sequence[Sequence[int]], inspection: Inspection
) -> Table:
    """Counts with their shares of a split, and bars of these; the longest is the largest share of all."""
    totals = [max(sum(column), 1) for column in zip(*counts, strict=True)]
    largest = max((count / total for row in counts for count, total in zip(row, totals, strict=True)), default=0) or 1
    titles = [Column(first, "text")]
    for split in inspection.sources:
        titles += [Column(TITLES[split]), Column("", "weight")]
    rows = []
    for name, row in zip(names, counts, strict=True):
        cells: list[str | float] = [name]
        for count, total in zip(row, totals, strict=True):
            cells += [f"{count:,} ({share(count, total)})", count / total / largest]
        rows.append(cells)
    return Table(titles, rows, title)


def _marked(title: str, titles: Sequence[Column], rows: Iterable[Sequence[str]], chosen: int) -> Table:
    marked = [
        (f"{first} (config)" if number == chosen else first, *others) for number, (first, *others) in enumerate(rows)
    ]
    return Table(titles, marked, title, chosen)
