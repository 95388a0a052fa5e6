"""An inspection as one HTML page that needs nothing but itself: no script, no other file."""

import difflib
import html
import re
from collections.abc import Iterable, Sequence

from amsdff_jax.inspection.charts import length_histogram, share_bar
from amsdff_jax.inspection.corpus import TITLES, Sample
from amsdff_jax.inspection.duplicates import Match, Overlap
from amsdff_jax.inspection.encodings import CHECKS
from amsdff_jax.inspection.results import Inspection
from amsdff_jax.inspection.style import STYLE
from amsdff_jax.inspection.tables import (
    NumberTable,
    bucket_table,
    class_table,
    duplicate_table,
    length_table,
    script_table,
    text_issue_table,
    truncation_table,
)

SECTIONS = {
    "classes": "Classes",
    "lengths": "Lengths",
    "duplicates": "Duplicates and leaks",
    "encodings": "Odd texts",
    "scripts": "Scripts",
}


def render_page(inspection: Inspection) -> str:
    """The whole page. Whatever comes from the data is escaped."""
    title = f"Texts of {html.escape(inspection.name)}"
    contents = {
        "classes": _table(class_table(inspection)),
        "lengths": _lengths(inspection),
        "duplicates": _duplicates(inspection),
        "encodings": _text_issues(inspection),
        "scripts": _scripts(inspection),
    }
    sources = ", ".join(
        f"{TITLES[one.split]}: {one.texts:,} texts from {html.escape(inspection.sources[one.split])}"
        for one in inspection.lengths
    )
    links = "".join(f'<a href="#{name}">{heading}</a>' for name, heading in SECTIONS.items())
    sections = "".join(
        f'<section id="{name}"><h2>{heading}</h2>{contents[name]}</section>' for name, heading in SECTIONS.items()
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{title}</title><style>{STYLE}</style></head>\n<body><h1>{title}</h1>"
        f'<p class="soft">{sources}. Tokens: {html.escape(inspection.tokenizer)}.</p>'
        f"{_findings(inspection)}<nav>{links}</nav>{sections}</body></html>\n"
    )


def _findings(inspection: Inspection) -> str:
    if not inspection.findings:
        return "<p>Nothing needs attention: no leak, no conflict, no odd text.</p>"
    items = (
        f'<li class="{finding.kind}"><strong>{finding.kind}</strong> {html.escape(finding.message)} '
        f'<a href="#{finding.section}">details</a></li>'
        for finding in inspection.findings
    )
    return f'<ul class="findings">{"".join(items)}</ul>'


def _table(numbers: NumberTable) -> str:
    heads = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in numbers.columns)
    body = []
    for number, (first, *others) in enumerate(numbers.rows):
        cells = [f"<td>{html.escape(cell)}</td>" for cell in others]
        if numbers.bars:
            cells = [
                f'<td class="barred">{html.escape(cell)}{share_bar(share)}</td>'
                for cell, share in zip(others, numbers.bars[number], strict=True)
            ]
        row = '<tr class="chosen">' if number == numbers.chosen else "<tr>"
        body.append(f"{row}<td>{html.escape(first)}</td>{''.join(cells)}</tr>")
    return f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'


def _lengths(inspection: Inspection) -> str:
    histograms = "".join(
        f"<h3>{TITLES[one.split].capitalize()}</h3>{length_histogram(one, inspection.max_length, TITLES[one.split])}"
        for one in inspection.lengths
    )
    cut, buckets = truncation_table(inspection), bucket_table(inspection)
    return (
        '<p class="soft">In tokens, special ones included. The last bar holds all longer texts.</p>'
        f"{histograms}{_table(length_table(inspection))}"
        f"<h3>{html.escape(cut.title)}</h3>{_table(cut)}<h3>{html.escape(buckets.title)}</h3>"
        '<p class="soft">Padded lengths of training batches, the best for their number, and the share of padding in an '
        f"epoch. Every length is compiled once.</p>{_table(buckets)}"
    )


def _duplicates(inspection: Inspection) -> str:
    duplicates = inspection.duplicates
    parts = [
        '<p class="soft">The same: equal after Unicode NFKC, case folding and with whitespace as single spaces; '
        "within a split, all but the first of each. Nearly the same: not that, but the sets of runs of five letters "
        f"or digits have a Jaccard similarity of at least {duplicates.similarity:g}. A pair of just that similarity "
        f"is found with probability {100 * duplicates.recall:.1f} %, more similar ones more surely. Empty texts are "
        "left out.</p>",
        _table(duplicate_table(inspection)),
    ]
    for overlap in duplicates.overlaps:
        of = f"{TITLES[overlap.split].capitalize()} texts in {_other(overlap)}"
        parts.append(_matches(f"{of}: the same", overlap.exact, overlap.exact_examples))
        parts.append(_matches(f"{of}: nearly the same", overlap.near, overlap.near_examples))
    conflicts = duplicates.conflicts
    parts.append(_matches("Same text, several labels", conflicts.distinct, conflicts.examples))
    parts.append(_matches("Nearly the same text, another label", conflicts.near, conflicts.near_examples))
    return "".join(parts)


def _other(overlap: Overlap) -> str:
    return "the same split" if overlap.split == overlap.other else f"the {TITLES[overlap.other]} split"


def _matches(title: str, number: int, matches: Sequence[Match]) -> str:
    if not number:
        return ""
    examples = "".join(map(_match, matches))
    shown = f"{number:,}" if number == len(matches) else f"{number:,}, here {len(matches)}"
    return f"<details><summary>{title} ({shown})</summary>{examples}</details>"


def _match(match: Match) -> str:
    shown = [[html.escape(text) for text in _texts(sample)] for sample in match.samples]
    if len(match.samples) == 2:
        marked = [mark_differences(*texts) for texts in zip(*map(_texts, match.samples), strict=True)]
        shown = [list(version) for version in zip(*marked, strict=True)]
    heads = [_origin(sample) for sample in match.samples]
    if match.similarity < 1:
        heads[0] += f", similarity {match.similarity:.3f}"
    return _example(zip(heads, shown, strict=True))


def _example(samples: Iterable[tuple[str, Sequence[str]]]) -> str:
    """A box of texts, each with a line above it; both are HTML already."""
    inner = "".join(
        f'<p class="soft">{head}</p>' + "".join(f"<p>{text or '(empty)'}</p>" for text in texts)
        for head, texts in samples
    )
    return f'<div class="example">{inner}</div>'


def _origin(sample: Sample) -> str:
    return f"{TITLES[sample.split]}, {html.escape(sample.id)}, label {html.escape(sample.label)}"


def _texts(sample: Sample) -> list[str]:
    return [sample.text] if sample.text_pair is None else [sample.text, sample.text_pair]


def mark_differences(one: str, other: str) -> tuple[str, str]:
    """Both excerpts as HTML, with the words that only one of them has marked, but for where one is cut."""
    words = [re.findall(r"\w+|\W", text) for text in (one, other)]
    results: tuple[list[str], list[str]] = ([], [])
    for operation, *bounds in difflib.SequenceMatcher(None, *words, autojunk=False).get_opcodes():
        sides = [words[0][slice(*bounds[:2])], words[1][slice(*bounds[2:])]]
        at_end = any(text.endswith("…") and end >= len(parts) - 1
                     for text, end, parts in zip((one, other), bounds[1::2], words, strict=True))  # fmt: skip
        for result, side in zip(results, sides, strict=True):
            text = html.escape("".join(side))
            result.append(f"<mark>{text}</mark>" if operation != "equal" and text and not at_end else text)
    return "".join(results[0]), "".join(results[1])


def _text_issues(inspection: Inspection) -> str:
    if not inspection.text_issues:
        return "<p>None.</p>"
    found = {issue.name for issue in inspection.text_issues}
    meanings = "".join(
        f"<dt>{check.name}</dt><dd>{html.escape(check.meaning)}</dd>" for check in CHECKS if check.name in found
    )
    examples = "".join(
        f"<details><summary>{TITLES[issue.split].capitalize()} texts: {issue.name} ({issue.texts:,})</summary>"
        f"{''.join(map(_single, issue.examples))}</details>"
        for issue in inspection.text_issues
    )
    return f'{_table(text_issue_table(inspection))}<dl class="soft">{meanings}</dl>{examples}'


def _scripts(inspection: Inspection) -> str:
    foreign = "".join(
        f"<details><summary>{TITLES[one.split].capitalize()}: texts mostly in another script "
        f"({sum(list(one.main.values())[1:]):,})</summary>{''.join(map(_single, one.foreign))}</details>"
        for one in inspection.writing_systems
        if one.foreign
    )
    return (
        '<p class="soft">Letters by Unicode script. Languages that share a script are not told apart.</p>'
        f"{_table(script_table(inspection))}{foreign}"
    )


def _single(sample: Sample) -> str:
    return _match(Match(1.0, (sample,)))
