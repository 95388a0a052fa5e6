"""An inspection as one HTML page, and on a terminal: first what needs attention, then tables."""

import difflib
import re
from collections.abc import Sequence
from typing import NamedTuple

from rich.console import Console
from rich.text import Text

from amsdff_jax.inspection.corpus import TITLES, Sample
from amsdff_jax.inspection.duplicates import Match
from amsdff_jax.inspection.encodings import CHECKS
from amsdff_jax.inspection.overview import TABLES, length_histogram
from amsdff_jax.inspection.results import Inspection
from amsdff_jax.reporting.render import render
from amsdff_jax.reporting.table import to_rich

EXAMPLES = 3  # of each finding, on a terminal
EXCERPT = 110  # characters
MOST_ROWS = 40  # of a table


class Stretch(NamedTuple):
    """A part of an excerpt, and whether another excerpt has something else in its place."""

    text: str
    differs: bool = False


class Example(NamedTuple):
    """A text on the page."""

    sample: Sample  # where it is from
    excerpts: Sequence[Sequence[Stretch]]  # of the text, and of the second one of a pair, in parts
    similarity: float = 1.0  # with the one before it; 1: no other, or the same


def render_page(inspection: Inspection) -> str:
    """The whole page, which needs nothing but itself."""
    found = {issue.name for issue in inspection.text_issues}
    return render(
        "inspection.html.j2",
        inspection=inspection,
        titles=TITLES,
        tables={name: table(inspection) for name, table in TABLES.items()},
        histograms=[(one.split, length_histogram(one, inspection.max_length)) for one in inspection.lengths],
        meanings={check.name: check.meaning for check in CHECKS if check.name in found},
        examples_of=lambda matches: [_examples(match) for match in matches],
        singles=lambda samples: [_examples(Match(1.0, (sample,))) for sample in samples],
    )


def _examples(match: Match) -> list[Example]:
    texts = [_texts(sample) for sample in match.samples]
    if len(texts) == 2:
        marked = [mark_differences(*versions) for versions in zip(*texts, strict=True)]
        excerpts = list(zip(*marked, strict=True))
    else:
        excerpts = [[[Stretch(text)] for text in versions] for versions in texts]
    similarities = [match.similarity] + [1.0] * (len(texts) - 1)
    return [Example(*each) for each in zip(match.samples, excerpts, similarities, strict=True)]


def _texts(sample: Sample) -> list[str]:
    return [sample.text] if sample.text_pair is None else [sample.text, sample.text_pair]


def mark_differences(one: str, other: str) -> tuple[list[Stretch], list[Stretch]]:
    """Both excerpts, with the words that only one of them has marked, but for where one is truncated."""
    words = [re.findall(r"\w+|\W", text) for text in (one, other)]
    results: tuple[list[Stretch], list[Stretch]] = ([], [])
    for operation, *bounds in difflib.SequenceMatcher(None, *words, autojunk=False).get_opcodes():
        sides = [words[0][slice(*bounds[:2])], words[1][slice(*bounds[2:])]]
        at_end = any(
            text.endswith("…") and end >= len(parts) - 1
            for text, end, parts in zip((one, other), bounds[1::2], words, strict=True)
        )
        for result, side in zip(results, sides, strict=True):
            if side:
                result.append(Stretch("".join(side), operation != "equal" and not at_end))
    return results


def print_inspection(inspection: Inspection, console: Console) -> None:
    """Prints everything; nothing of a text is taken for markup."""
    if not inspection.findings:
        console.print("Nothing needs attention: no leak, no conflict, no odd text.", highlight=False)
    for finding in inspection.findings:
        style = "bold yellow" if finding.kind == "warning" else "cyan"
        console.print(Text.assemble((f"{finding.kind}: ", style), finding.message), soft_wrap=True)
        for match in finding.examples[:EXAMPLES]:
            for number, sample in enumerate(match.samples):
                console.print(_line(sample, "    " if number else "  - "), soft_wrap=True)
    for table in (make(inspection) for make in TABLES.values()):
        if table.rows:
            console.print()
            console.print(to_rich(table, MOST_ROWS))


def _line(sample: Sample, start: str) -> Text:
    text = " | ".join(_texts(sample))
    short = text if len(text) <= EXCERPT else text[:EXCERPT] + "…"
    return Text.assemble(start, (f"{sample.split} {sample.id} [{sample.label}] ", "dim"), short)
