"""What the page shows of explanations: tables and shaded texts, for `explanation.html.j2`."""

import collections
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from amsdff_jax.base.escaping import shorten
from amsdff_jax.explanation.ablation import POOLS
from amsdff_jax.explanation.explain import Explanation, LeftOut
from amsdff_jax.reporting.escape import percent, signed
from amsdff_jax.reporting.shading import Mark, ShadedText, shade
from amsdff_jax.reporting.table import Column, Table, columns

MOST_CLASSES = 10  # in the table of probabilities
NUMBERED_WORDS = 12  # words with their number in the text
LISTED_WORDS = 15
LISTED_WINDOWS = 40
STRONGEST_TOKENS = 3  # of a head
MOST_SHARED_WORDS = 15


def text_facts(explanation: Explanation) -> dict[str, Any]:
    """Everything about one text."""
    heads = explanation.cls_attention
    return {
        "explanation": explanation,
        "label": answer(explanation),
        "target": explanation.class_names[explanation.target],
        "classes": _classes(explanation),
        "words": _words(explanation) if explanation.reading.words else None,
        "windows": _windows(explanation),
        "token_attention": _weights(explanation, explanation.token_attention),
        "mean_head": _weights(explanation, None if heads is None else heads.mean(axis=0)),
        "heads": [_weights(explanation, head) for head in _heads(explanation)],
        "head_table": _head_table(explanation),
        "experts": _experts(explanation),
        "parts": _parts(explanation),
        "absent_pools": [name for name in POOLS.values() if name not in {part.name for part in explanation.pools}],
        "numbers": _numbers(explanation),
    }


def answer(explanation: Explanation) -> str:
    """What the model says of the text: its label, or all of them."""
    return ", ".join(explanation.class_names[index] for index in explanation.labels) or "no label"


def comparison_facts(one: Explanation, other: Explanation) -> dict[str, Any]:
    """Tables of a number for either text, and the second's less the first's; None for what the model has not."""
    classes = list(zip(one.class_names, one.probabilities, other.probabilities, strict=True))
    experts = None
    if one.expert_gates is not None and other.expert_gates is not None:
        gates = zip(one.expert_gates, other.expert_gates, strict=True)
        experts = [(f"Expert {number}", *pair) for number, pair in enumerate(gates, start=1)]
    parts = [
        (title, one.contribution(left), other.contribution(right))
        for (title, left), (_, right) in zip(_named_parts(one), _named_parts(other), strict=True)
    ]
    return {
        "target": one.class_names[one.target],
        "classes": _pairs("Class", classes, percent),
        "experts": experts and _pairs("Expert", experts, percent),
        "parts": parts and _pairs("Left out", parts, signed),
        "words": (shared := _shared_words(one, other)) and _pairs("Word", shared, signed),
    }


def _pairs(heading: str, rows: Sequence[tuple[str, float, float]], number: Callable[[float], str]) -> Table:
    if number is percent:
        kind, largest, difference = "weight", 1.0, "Difference, in points"
    else:
        kind, difference = "signed", "Difference"
        largest = max(abs(value) for _, *values in rows for value in values)
    bars = Column("", kind)
    titles = [Column(heading, "text"), Column("Text 1"), bars, Column("Text 2"), bars, Column(difference)]
    cells = []
    for title, one, other in rows:
        shown = (number(one), _share(one, largest), number(other), _share(other, largest))
        points = f"{100 * (other - one):+.1f}".replace("-", "−")
        cells.append((shorten(title), *shown, signed(other - one) if kind == "signed" else points))
    return Table(titles, cells)


def _share(value: float, largest: float) -> float:
    return float(value / largest) if largest > 0 else 0.0


def _shared_words(one: Explanation, other: Explanation) -> list[tuple[str, float, float]]:
    """The strongest words of both texts, with the sums over their places."""

    def totals(explanation: Explanation) -> dict[str, float]:
        total: dict[str, float] = collections.defaultdict(float)
        for index, value in enumerate(explanation.word_attributions):
            total[_word_text(explanation, index).casefold()] += float(value)
        return total

    first, second = totals(one), totals(other)
    shared = [(word, first[word], second[word]) for word in first if word in second]
    return sorted(shared, key=lambda row: -max(abs(row[1]), abs(row[2])))[:MOST_SHARED_WORDS]


def _named_parts(explanation: Explanation) -> list[tuple[str, LeftOut]]:
    """The scales and pools that the model has, as a table calls them."""
    kinds = (("Scale", explanation.scales), ("Pool", explanation.pools))
    return [(f"{kind}, {part.name}", part) for kind, parts in kinds for part in parts]


def _word_text(explanation: Explanation, index: int) -> str:
    word = explanation.reading.words[index]
    return explanation.reading.text[word.start : word.end]


def _strongest(values: np.ndarray) -> list[int]:
    return np.argsort(-np.abs(values), kind="stable").tolist()


def _shade(explanation: Explanation, marks: Sequence[Mark], kind: str) -> ShadedText:
    """As much of the text as the model has read, and how much it has not."""
    return shade(explanation.reading.text, marks, kind, explanation.reading.unread)


def _classes(explanation: Explanation) -> Table:
    probabilities = explanation.probabilities
    chosen = _strongest(probabilities)[:MOST_CLASSES]
    if explanation.target not in chosen:
        chosen.append(explanation.target)
    if explanation.ordered:
        chosen.sort()
    rows = []
    for index in chosen:
        share = float(probabilities[index])
        rows.append((explanation.class_names[index], percent(share), signed(explanation.logits[index]), share))
    rest = len(probabilities) - len(chosen)
    title = f"{rest} less likely classes are left out." if rest else ""
    return Table([*columns("Class", "Probability", "Logit"), Column("", "weight")], rows, title)


def _words(explanation: Explanation) -> dict[str, Any]:
    values = explanation.word_attributions
    strongest = _strongest(values)
    largest, numbered = abs(values[strongest[0]]), set(strongest[:NUMBERED_WORDS])
    texts = [shorten(_word_text(explanation, index)) for index in range(len(values))]
    marks = [
        Mark(
            word.start,
            word.end,
            _share(values[index], largest),
            f"{texts[index]}: {signed(values[index])}",
            signed(values[index]) if index in numbered else "",
        )
        for index, word in enumerate(explanation.reading.words)
    ]
    listed = strongest[:LISTED_WORDS]
    rows = [(texts[index], signed(values[index]), _share(values[index], largest)) for index in listed]
    rest = len(strongest) - len(rows)
    title = f"The strongest {len(rows)} words; the other {rest} are in the table of all numbers." if rest > 0 else ""
    table = Table([*columns("Word", "Logits"), Column("", "signed")], rows, title)
    return {"text": _shade(explanation, marks, "signed"), "largest": largest, "table": table}


def _windows(explanation: Explanation) -> Table | None:
    """What each window of a long text says; None for a text that is read in one."""
    if not explanation.windows:
        return None
    values, tokens = explanation.window_attributions, explanation.reading.tokens
    strongest = _strongest(values)
    rows = []
    for index in sorted(strongest[:LISTED_WINDOWS]):
        first, end = explanation.windows[index]
        text = explanation.reading.text[tokens[first].start : tokens[end - 1].end]
        share = _share(values[index], abs(values[strongest[0]]))
        rows.append((f"{first + 1:,} to {end:,}", shorten(text), signed(values[index]), share))
    rest = len(strongest) - len(rows)
    title = "What each window of the text says; neighbours share the numbers of the tokens that both have."
    title += f" The {rest:,} weakest are left out." if rest else ""
    titles = [Column("Tokens", "text"), Column("Text", "text"), Column("Logits"), Column("", "signed")]
    return Table(titles, rows, title)


def _heads(explanation: Explanation) -> list[np.ndarray]:
    return [] if explanation.cls_attention is None else list(explanation.cls_attention)


def _weights(explanation: Explanation, weights: np.ndarray | None) -> ShadedText | None:
    if weights is None:
        return None
    largest, numbered = weights.max(), set(_strongest(weights)[:STRONGEST_TOKENS])
    marks = [
        Mark(
            token.start,
            token.end,
            weights[index] / largest,
            f"{token.name}: {percent(weights[index])}",
            percent(weights[index]) if index in numbered else "",
            token.name if token.word is None else "",
        )
        for index, token in enumerate(explanation.reading.tokens)
    ]
    return _shade(explanation, marks, "weight")


def _head_table(explanation: Explanation) -> Table:
    """The tokens that each head of the learned query reads most of."""
    rows = []
    for number, head in enumerate(_heads(explanation), start=1):
        pieces = []
        for index in _strongest(head)[:STRONGEST_TOKENS]:
            token = explanation.reading.tokens[index]
            text = token.name if token.word is None else explanation.reading.text[token.start : token.end]
            pieces += [", "] * bool(pieces) + [shorten(text, 20), f"\N{NO-BREAK SPACE}{percent(head[index])}"]
        rows.append((f"Head {number}", pieces))
    return Table([Column("Learned query", "text"), Column("Reads most of", "text")], rows)


def _experts(explanation: Explanation) -> Table | None:
    if explanation.expert_gates is None:
        return None
    gates = enumerate(explanation.expert_gates, start=1)
    rows = [(f"Expert {number}", percent(gate), float(gate)) for number, gate in gates]
    return Table([*columns("Expert", "Weight"), Column("", "weight")], rows, "The weight of each expert for this text.")


def _parts(explanation: Explanation) -> Table | None:
    """What each scale and pool contributes to the target's logit, and what the model says without it."""
    parts = _named_parts(explanation)
    if not parts:
        return None
    largest = max(abs(explanation.contribution(part)) for _, part in parts)
    rows = []
    for title, part in parts:
        value, winner = explanation.contribution(part), int(part.logits.argmax())
        probability = percent(part.probabilities[explanation.target])
        name = explanation.class_names[winner]
        won = name if winner == explanation.winner else (name, " (another)")
        rows.append((title, signed(value), _share(value, largest), probability, won))
    titles = [
        *columns("Left out", "Contribution"),
        Column("", "signed"),
        Column("Probability without"),
        Column("Winner without" if explanation.task == "single" else "Most likely without", "text"),
    ]
    return Table(titles, rows)


def _numbers(explanation: Explanation) -> Table:
    """All numbers, token by token."""
    titles = [Column("", "text"), Column("Token", "text"), Column("Integrated gradients")]
    values = [[signed(value) for value in explanation.attributions.tokens]]
    if explanation.token_attention is not None:
        titles.append(Column("Attention pool"))
        values.append([percent(weight) for weight in explanation.token_attention])
    for number, head in enumerate(_heads(explanation), start=1):
        titles.append(Column(f"Head {number}"))
        values.append([percent(weight) for weight in head])
    tokens = enumerate(explanation.reading.tokens, start=1)
    names = [(str(place), token.name) for place, token in tokens]
    return Table(titles, [(*name, *numbers) for name, *numbers in zip(names, *values, strict=True)])
