"""An inspection as one HTML page that needs nothing but itself: no script, no other file."""

import difflib
import html
import re
from collections.abc import Iterable, Sequence

from amsdff_jax.inspection.charts import length_histogram, share_bar
from amsdff_jax.inspection.corpus import TITLES, Sample
from amsdff_jax.inspection.duplicates import Match, Overlap
from amsdff_jax.inspection.encodings import CHECKS
from amsdff_jax.inspection.findings import share
from amsdff_jax.inspection.results import Inspection
from amsdff_jax.inspection.style import STYLE

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
        "classes": _classes(inspection),
        "lengths": _lengths(inspection) + _buckets(inspection),
        "duplicates": _duplicates(inspection),
        "encodings": _oddities(inspection),
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
        f"<title>{title}</title><style>{STYLE}</style></head>\n<body><h1>{title}</h1>"
        f'<p class="soft">{sources}. Tokens: {html.escape(inspection.tokenizer)}.</p>'
        f"{_findings(inspection)}<nav>{links}</nav>{sections}</body></html>\n"
    )


def _findings(inspection: Inspection) -> str:
    if not inspection.findings:
        return "<p>Nothing needs attention: no leak, no conflict, no odd text.</p>"
    items = (
        f'<li class="{finding.kind}"><b>{finding.kind}</b> {html.escape(finding.message)} '
        f'<a href="#{finding.section}">details</a></li>'
        for finding in inspection.findings
    )
    return f'<ul class="findings">{"".join(items)}</ul>'


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], chosen: int = -1, barred: bool = False) -> str:
    """A table of cells that are HTML already; `chosen` is the row to stand out, `barred` makes room for bars."""
    heads = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    start = '<td class="barred">' if barred else "<td>"
    body = []
    for number, (first, *others) in enumerate(rows):
        cells = "".join(f"{start}{cell}</td>" for cell in others)
        body.append(f"{'<tr class=chosen>' if number == chosen else '<tr>'}<td>{first}</td>{cells}</tr>")
    return f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'


def _barred(number: int, total: int, largest: float = 1.0) -> str:
    """A count with its share of `total`, and a bar that is full at a share of `largest`."""
    return f"{number:,} ({share(number, total)}){share_bar(number / max(total, 1) / largest)}"


def _titles(inspection: Inspection) -> list[str]:
    return [TITLES[split] for split in inspection.sources]


def _classes(inspection: Inspection) -> str:
    classes = inspection.classes
    totals = {split: sum(counts) for split, counts in classes.counts.items()}
    largest = max(float(classes.shares(split).max()) for split in totals)
    order = sorted(range(len(classes.class_names)), key=lambda index: -classes.counts["train"][index])
    rows = (
        (
            html.escape(classes.class_names[index]),
            *(_barred(classes.counts[split][index], total, largest) for split, total in totals.items()),
        )
        for index in order
    )
    return _table(["class", *_titles(inspection)], rows, barred=True)


def _lengths(inspection: Inspection) -> str:
    all_lengths = inspection.lengths
    histograms = "".join(
        f"<h3>{TITLES[one.split].capitalize()}</h3>{length_histogram(one, inspection.max_length, TITLES[one.split])}"
        for one in all_lengths
    )
    quantiles = _table(
        ["split", "texts", "tokens", "mean", "least",
         *(f"{100 * quantile:g} % have at most" for quantile in all_lengths[0].quantiles), "most", "unknown tokens"],
        ((TITLES[one.split], f"{one.texts:,}", f"{one.tokens:,}", f"{one.tokens / one.texts:.1f}", f"{one.smallest:,}",
          *(f"{length:,}" for length in one.quantiles.values()), f"{one.largest:,}",
          f"{one.unknown_tokens:,} ({share(one.unknown_tokens, one.tokens)})") for one in all_lengths),
    )  # fmt: skip
    limits = list(all_lengths[0].truncated)
    cut = _table(
        ["max_length",
         *(f"{TITLES[one.split]}: {what}" for one in all_lengths for what in ("texts cut", "tokens lost"))],
        ((f"{limit}{' (config)' if limit == inspection.max_length else ''}",
          *(cell for one in all_lengths
            for cell in (share(one.truncated[limit], one.texts), share(one.lost[limit], one.tokens))))
         for limit in limits),
        chosen=limits.index(inspection.max_length),
    )  # fmt: skip
    return (
        '<p class="soft">In tokens, special ones included. The last bar holds all longer texts.</p>'
        f"{histograms}{quantiles}<h3>What max_length cuts</h3>{cut}"
    )


def _buckets(inspection: Inspection) -> str:
    rows = (
        (", ".join(map(str, buckets.lengths)), f"{100 * buckets.padding:.1f} %", "config" if buckets.of_config else "")
        for buckets in inspection.buckets
    )
    own = next(number for number, buckets in enumerate(inspection.buckets) if buckets.of_config)
    return (
        f"<h3>Buckets at max_length={inspection.max_length}</h3>"
        '<p class="soft">Padded lengths of training batches, the best for their number, and the share of padding in an '
        "epoch. Every length is compiled once.</p>"
        f"{_table(['lengths', 'padding', ''], rows, chosen=own)}"
    )


def _duplicates(inspection: Inspection) -> str:
    duplicates = inspection.duplicates
    rows = (
        (TITLES[overlap.split], _other(overlap), f"{overlap.exact:,} ({share(overlap.exact, overlap.texts)})",
         f"{overlap.near:,} ({share(overlap.near, overlap.texts)})")
        for overlap in duplicates.overlaps
    )  # fmt: skip
    parts = [
        '<p class="soft">The same: equal after Unicode NFKC, case folding and with whitespace as single spaces; '
        "within a split, all but the first of each. Nearly the same: not that, but the sets of runs of five letters "
        f"or digits have a Jaccard similarity of at least {duplicates.similarity:g}. A pair of just that similarity "
        f"is found with probability {100 * duplicates.recall:.2f} %, more similar ones more surely. Empty texts are "
        "left out.</p>",
        _table(["texts of", "are in", "the same", "nearly the same"], rows),
    ]
    for overlap in reversed(duplicates.overlaps):
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
    if match.similarity < 1 and len(match.samples) == 2:
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
    """Both texts as HTML, with the words that only one of them has marked."""
    words = [re.findall(r"\w+|\W", text) for text in (one, other)]
    results: tuple[list[str], list[str]] = ([], [])
    matcher = difflib.SequenceMatcher(None, *words, autojunk=False)
    for operation, *bounds in matcher.get_opcodes():
        for side, (start, end) in enumerate((bounds[:2], bounds[2:])):
            text = html.escape("".join(words[side][start:end]))
            results[side].append(f"<mark>{text}</mark>" if operation != "equal" and text else text)
    return "".join(results[0]), "".join(results[1])


def _oddities(inspection: Inspection) -> str:
    if not inspection.oddities:
        return "<p>None.</p>"
    meanings = {check.name: check.meaning for check in CHECKS}
    by_name: dict[str, dict[str, int]] = {}
    for oddity in inspection.oddities:
        by_name.setdefault(oddity.name, {})[oddity.split] = oddity.texts
    rows = (
        (f'{name}<br><span class="soft">{html.escape(meanings[name])}</span>',
         *(f"{numbers.get(split, 0):,}" for split in inspection.sources))
        for name, numbers in by_name.items()
    )  # fmt: skip
    examples = "".join(
        f"<details><summary>{oddity.name.capitalize()}, {TITLES[oddity.split]} split ({oddity.texts:,})</summary>"
        f"{''.join(_match(Match(1.0, (sample,))) for sample in oddity.examples)}</details>"
        for oddity in inspection.oddities
    )
    return _table(["texts with", *_titles(inspection)], rows) + examples


def _scripts(inspection: Inspection) -> str:
    systems = inspection.writing_systems
    scripts = dict.fromkeys(script for one in systems for script in one.letters)
    rows = (
        (script, *(_barred(one.letters.get(script, 0), sum(one.letters.values())) for one in systems))
        for script in scripts
    )
    foreign = "".join(
        f"<details><summary>{TITLES[one.split].capitalize()}: texts mostly in another script "
        f"({sum(list(one.main.values())[1:]):,})</summary>"
        f"{''.join(_match(Match(1.0, (sample,))) for sample in one.foreign)}</details>"
        for one in systems
        if one.foreign
    )
    return (
        '<p class="soft">Letters by Unicode script. Languages that share a script are not told apart.</p>'
        f"{_table(['script', *_titles(inspection)], rows, barred=True)}{foreign}"
    )
