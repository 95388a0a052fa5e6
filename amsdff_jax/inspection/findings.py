"""What of all that was measured needs a person's attention, in sentences."""

import dataclasses
from collections.abc import Iterator, Sequence

from amsdff_jax.base.validation import first_of
from amsdff_jax.config import Config, DataConfig
from amsdff_jax.data.suspect_labels import repeated_headers, suspect_classes
from amsdff_jax.inspection.agreement import LOWEST_ALPHA, Agreement
from amsdff_jax.inspection.class_balance import ClassBalance
from amsdff_jax.inspection.corpus import TITLES, Corpus
from amsdff_jax.inspection.duplicates import Duplicates, Match
from amsdff_jax.inspection.encodings import TextIssue
from amsdff_jax.inspection.label_issues import LabelIssues
from amsdff_jax.inspection.lengths import Lengths
from amsdff_jax.inspection.writing_systems import WritingSystems
from amsdff_jax.reporting.escape import plural

FEW_TEXTS = 10  # fewer training texts than this teach a class little
SHARES_DIFFER = 0.1  # total variation distance between splits
MUCH_TRUNCATED = 0.1  # share of texts
MUCH_UNKNOWN = 0.01  # share of tokens
HARMLESS = ("decomposed letters", "invisible characters")  # the tokenizers of most encoders take care of them


@dataclasses.dataclass(frozen=True)
class Finding:
    """One sentence for the top of a report."""

    kind: str  # `warning`: figures will mislead or data is broken; `note`: worth knowing
    # of the report that has the details: duplicates, labels, classes, agreement, lengths, encodings or scripts
    section: str
    message: str
    examples: tuple[Match, ...] = ()  # the most telling ones


def collect_warnings(
    config: Config,
    corpus: Corpus,
    classes: ClassBalance,
    agreement: tuple[Agreement, ...],
    lengths: tuple[Lengths, ...],
    duplicates: Duplicates,
    text_issues: tuple[TextIssue, ...],
    writing_systems: tuple[WritingSystems, ...],
    labels: LabelIssues | None = None,
) -> tuple[Finding, ...]:
    """All findings, warnings first."""
    findings = [
        *_overlaps(duplicates),
        *_conflicts(duplicates),
        *_labels(corpus, config.data),
        *_label_issues(labels),
        *_classes(classes),
        *_agreement(agreement),
        *_text_issues(text_issues),
        *_lengths(lengths, config.data),
        *_scripts(writing_systems),
    ]
    return tuple(sorted(findings, key=lambda finding: finding.kind != "warning"))


def share(number: int, total: int) -> str:
    """A percentage with as many digits as it takes to tell it from 0 and from 100."""
    if number in (0, total):
        return "100 %" if number else "0 %"
    percent = 100 * number / total
    if percent < 0.01:
        return "below 0.01 %"
    if percent > 99.99:
        return "above 99.99 %"
    return f"{percent:.{2 if percent < 1 or percent > 99 else 1}f} %"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _of(split: str) -> str:
    return f"the {TITLES[split]} split"


def _overlaps(duplicates: Duplicates) -> Iterator[Finding]:
    for overlap in duplicates.overlaps:
        if overlap.split == overlap.other:
            kind, words, where = "note", ("the same as an earlier one of", "nearly the same as another one of"), "it"
        else:
            kind, words, where = "warning", ("also in", "nearly the same as one of"), _of(overlap.other)
        numbers, examples = (overlap.exact, overlap.near), (overlap.exact_examples, overlap.near_examples)
        for number, word, matches in zip(numbers, words, examples, strict=True):
            if number:
                what = f"{plural(number, 'text')} of {_of(overlap.split)} {_are(number)} {word} {where}"
                yield Finding(kind, "duplicates", f"{what} ({share(number, overlap.texts)})", matches)


def _conflicts(duplicates: Duplicates) -> Iterator[Finding]:
    conflicts = duplicates.conflicts
    number, near = conflicts.distinct, conflicts.near
    if number:
        what = f"{plural(number, 'text')} {_are(number)} under more than one label ({conflicts.texts:,} times in all)"
        yield Finding("warning", "duplicates", what, conflicts.examples)
    if near:
        what = f"{plural(near, 'text')} {_are(near)} nearly the same as one with another label"
        yield Finding("warning", "duplicates", what, conflicts.near_examples)


def _labels(corpus: Corpus, config: DataConfig) -> Iterator[Finding]:
    for sentence in suspect_classes(corpus.datasets[0]):
        yield Finding("warning", "classes", sentence)
    for split, dataset in zip(corpus.names, corpus.datasets, strict=True):
        for sentence in repeated_headers(dataset, config):
            yield Finding("warning", "classes", f"in {_of(split)} {sentence}")


def _label_issues(labels: LabelIssues | None) -> Iterator[Finding]:
    if labels and labels.suspected:
        what = f"{plural(labels.suspected, 'label')} of {_of('train')} {_are(labels.suspected)} probably wrong"
        examples = tuple(Match(1.0, (suspect.sample,)) for suspect in labels.suspects[:FEW_TEXTS])
        where = f"all, ranked, are in {labels.ranking}"
        yield Finding("warning", "labels", f"{what} ({share(labels.suspected, labels.texts)}); {where}", examples)
    if labels and labels.not_judged:
        have = "1 class has" if len(labels.not_judged) == 1 else f"{len(labels.not_judged):,} classes have"
        yield Finding("note", "labels", f"{have} too few texts to judge their labels: {first_of(labels.not_judged)}")


def _classes(classes: ClassBalance) -> Iterator[Finding]:
    def with_counts(counts: Sequence[int], allowed: range, what: str) -> Iterator[Finding]:
        names = [name for name, count in zip(classes.class_names, counts, strict=True) if count in allowed]
        if names:
            have = "1 class has" if len(names) == 1 else f"{len(names):,} classes have"
            yield Finding("warning", "classes", f"{have} {what}: {first_of(names)}")

    for split, counts in classes.counts.items():
        yield from with_counts(counts, range(1), f"no text in {_of(split)}")
    few = f"fewer than {FEW_TEXTS} training texts"
    yield from with_counts(classes.counts["train"], range(1, FEW_TEXTS), few)
    for split in classes.counts:
        distance = classes.distance("train", split)
        if distance > SHARES_DIFFER:
            what = f"classes are mixed otherwise in {_of(split)} than in {_of('train')}"
            yield Finding("warning", "classes", f"{what}: {100 * distance:.0f} % of its texts would need another class")


def _agreement(agreement: tuple[Agreement, ...]) -> Iterator[Finding]:
    for one in agreement:
        if one.alpha is not None and one.alpha < LOWEST_ALPHA:
            what = f"the raters of {_of(one.split)} agree little: Krippendorff's alpha ({one.metric}) {one.alpha:.3f}"
            yield Finding("warning", "agreement", f"{what}, below {LOWEST_ALPHA}")


def _text_issues(text_issues: tuple[TextIssue, ...]) -> Iterator[Finding]:
    by_name: dict[str, list[TextIssue]] = {}
    for issue in text_issues:
        by_name.setdefault(issue.name, []).append(issue)
    for name, found in by_name.items():
        total = sum(issue.texts for issue in found)
        where = ", ".join(f"{TITLES[issue.split]} {issue.texts:,}" for issue in found)
        verb = _are(total) if name == "empty" else "has" if total == 1 else "have"
        kind = "note" if name in HARMLESS else "warning"
        examples = tuple(Match(1.0, (sample,)) for issue in found for sample in issue.examples)
        yield Finding(kind, "encodings", f"{plural(total, 'text')} {verb} {name} ({where})", examples)


def _lengths(lengths: tuple[Lengths, ...], config: DataConfig) -> Iterator[Finding]:
    train, max_length = lengths[0], config.max_length
    truncated = train.truncated[max_length]
    if truncated > MUCH_TRUNCATED * train.texts and config.long_texts == "windows":
        what = f"{share(truncated, train.texts)} of the training texts are read in windows of max_length={max_length}"
        left_out = share(train.beyond_windows[max_length], train.tokens)
        what += f"; max_windows={config.max_windows} leaves {left_out} of their tokens out of an epoch"
        yield Finding("note", "lengths", what)
    elif truncated > MUCH_TRUNCATED * train.texts:
        what = f"max_length={max_length} truncates {share(truncated, train.texts)} of the training texts"
        lost = f"drops {share(train.lost[max_length], train.tokens)} of their tokens"
        others = "(data.long_texts=head_tail: in the middle; windows: none)"
        places = {"truncate": f"at the end {others}", "head_tail": "in the middle"}
        enough = f"{train.quantiles[0.95]:,} tokens would hold 95 % of the texts"
        yield Finding("note", "lengths", f"{what} and {lost} {places[config.long_texts]}; {enough}")
    for one in lengths:
        if one.unknown_tokens > MUCH_UNKNOWN * one.tokens:
            what = f"{share(one.unknown_tokens, one.tokens)} of the tokens of {_of(one.split)}"
            where = f"are not in the tokenizer's vocabulary ({one.texts_with_unknown:,} texts)"
            yield Finding("warning", "lengths", f"{what} {where}; another encoder may know them")


def _scripts(writing_systems: tuple[WritingSystems, ...]) -> Iterator[Finding]:
    for systems in writing_systems:
        (_, usual), *others = [*systems.main.items()] or [("", 0)]
        if others:
            named = ", ".join(f"{script} {number:,}" for script, number in others[:5])
            total = sum(number for _, number in others)
            what = f"{plural(total, 'text')} {_are(total)} mostly in another script"
            where = f"than the other {usual:,} of {_of(systems.split)} ({named})"
            examples = tuple(Match(1.0, (sample,)) for sample in systems.foreign)
            yield Finding("note", "scripts", f"{what} {where}", examples)
