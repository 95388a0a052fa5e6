"""The numbers of an inspection as tables of strings, for the terminal and the page alike."""

import dataclasses
from collections.abc import Iterable, Sequence

from amsdff_jax.inspection.corpus import TITLES
from amsdff_jax.inspection.findings import share
from amsdff_jax.inspection.results import Inspection


@dataclasses.dataclass(frozen=True)
class NumberTable:
    """A table whose first column holds names and whose others hold numbers.

    Attributes:
      title: of the table.
      columns: their heads.
      rows: their cells.
      chosen: the row that the config stands for; -1: none.
      bars: for every number a share from 0 to 1 that a bar may show; (): none.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    chosen: int = -1
    bars: Sequence[Sequence[float]] = ()


def class_table(inspection: Inspection) -> NumberTable:
    """Texts by class, the most frequent first."""
    classes = inspection.classes
    order = sorted(range(len(classes.class_names)), key=lambda index: -classes.counts["train"][index])
    counts = [[classes.counts[split][index] for split in inspection.sources] for index in order]
    names = [classes.class_names[index] for index in order]
    return _shares("Classes", "class", names, counts, inspection)


def length_table(inspection: Inspection) -> NumberTable:
    """Tokens of the texts."""
    splits = inspection.lengths
    return NumberTable(
        f"Tokens ({inspection.tokenizer})",
        _columns("", inspection),
        [
            ("all tokens", *(f"{one.tokens:,}" for one in splits)),
            ("mean of a text", *(f"{one.tokens / one.texts:.1f}" for one in splits)),
            ("shortest text", *(f"{one.smallest:,}" for one in splits)),
            *(
                (f"{100 * quantile:g} % have at most", *(f"{one.quantiles[quantile]:,}" for one in splits))
                for quantile in splits[0].quantiles
            ),
            ("longest text", *(f"{one.largest:,}" for one in splits)),
            ("not in the vocabulary", *(share(one.unknown_tokens, one.tokens) for one in splits)),
        ],
    )


def truncation_table(inspection: Inspection) -> NumberTable:
    """What several `max_length`s would cut."""
    limits = list(inspection.lengths[0].truncated)
    rows = (
        (str(limit), *(f"{share(one.truncated[limit], one.texts)} / {share(one.lost[limit], one.tokens)}"
                       for one in inspection.lengths))
        for limit in limits
    )  # fmt: skip
    chosen = limits.index(inspection.max_length)
    return _marked("Cut by max_length: texts / tokens", _columns("max_length", inspection), rows, chosen)


def bucket_table(inspection: Inspection) -> NumberTable:
    """Padded lengths and what they cost."""
    rows = ((", ".join(map(str, one.lengths)), f"{100 * one.padding:.1f} %") for one in inspection.buckets)
    chosen = next(index for index, one in enumerate(inspection.buckets) if one.of_config)
    title = f"Buckets at max_length={inspection.max_length}"
    return _marked(title, ("lengths", "padding"), rows, chosen)


def duplicate_table(inspection: Inspection) -> NumberTable:
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
    columns = ("texts of", "the same", f"similarity {duplicates.similarity:g} or more")
    return NumberTable("Texts that are there again", columns, rows)


def text_issue_table(inspection: Inspection) -> NumberTable:
    """Texts by what is odd about them."""
    numbers: dict[str, dict[str, int]] = {}
    for issue in inspection.text_issues:
        numbers.setdefault(issue.name, {})[issue.split] = issue.texts
    rows = [(name, *(f"{found.get(split, 0):,}" for split in inspection.sources)) for name, found in numbers.items()]
    return NumberTable("Odd texts", _columns("", inspection), rows)


def script_table(inspection: Inspection) -> NumberTable:
    """Letters by script, the most frequent first."""
    systems = inspection.writing_systems
    scripts = list(dict.fromkeys(script for one in systems for script in one.letters))
    counts = [[one.letters.get(script, 0) for one in systems] for script in scripts]
    return _shares("Letters by script", "script", scripts, counts, inspection)


def _columns(first: str, inspection: Inspection) -> tuple[str, ...]:
    return first, *(TITLES[split] for split in inspection.sources)


def _shares(
    title: str, first: str, names: Sequence[str], counts: Sequence[Sequence[int]], inspection: Inspection
) -> NumberTable:
    totals = [sum(column) for column in zip(*counts, strict=True)]
    rows = [
        (name, *(f"{count:,} ({share(count, total)})" for count, total in zip(row, totals, strict=True)))
        for name, row in zip(names, counts, strict=True)
    ]
    shares = [[count / max(total, 1) for count, total in zip(row, totals, strict=True)] for row in counts]
    largest = max((max(row) for row in shares), default=1) or 1
    bars = [[value / largest for value in row] for row in shares]
    return NumberTable(title, _columns(first, inspection), rows, bars=bars)


def _marked(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], chosen: int) -> NumberTable:
    marked = [
        (f"{first} (config)" if number == chosen else first, *others) for number, (first, *others) in enumerate(rows)
    ]
    return NumberTable(title, columns, marked, chosen)
