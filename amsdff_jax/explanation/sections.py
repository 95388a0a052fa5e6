"""What the page says of one text, section by section."""

from collections.abc import Callable

import numpy as np

from amsdff_jax.base.escaping import shorten
from amsdff_jax.explanation.ablation import POOLS
from amsdff_jax.explanation.explain import Explanation, LeftOut
from amsdff_jax.explanation.html import Mark, bar, escape, marked_text, name, percent, signed, table

MOST_CLASSES = 10  # in the table of probabilities
NUMBERED_WORDS = 12  # words with their number in the text
LISTED_WORDS = 15
STRONGEST_TOKENS = 3  # of a head
GOOD_COMPLETENESS = 0.01


def text_article(explanation: Explanation, title: str) -> str:
    """Everything about one text."""
    label, probability = explanation.class_names[explanation.winner], explanation.probabilities.max()
    heading = f"<h2>{title}: {name(label)}, {percent(probability)}</h2>"
    sections = (_classes, _words, _attention, _experts, _left_out, _numbers)
    body = "".join(f"<section>{section(explanation)}</section>" for section in sections)
    return f"<article>{heading}{body}</article>"


def shown_text(explanation: Explanation) -> tuple[str, str]:
    """As much of the text as the model has read, and HTML for what was cut off."""
    reading = explanation.reading
    text = reading.text[: reading.characters_read]
    cut = f'<span class="muted"> … {len(reading.text) - len(text):,} more characters</span>'
    return text, cut if reading.truncated else ""


def named_parts(explanation: Explanation) -> list[tuple[str, LeftOut]]:
    """The scales and pools that the model has, as a table calls them."""
    kinds = (("Scale", explanation.scales), ("Pool", explanation.pools))
    return [(f"{kind}, {part.name}", part) for kind, parts in kinds for part in parts]


def word_text(explanation: Explanation, index: int) -> str:
    """A word as it stands in the text."""
    word = explanation.reading.words[index]
    return explanation.reading.text[word.start : word.end]


def _classes(explanation: Explanation) -> str:
    probabilities = explanation.probabilities
    ranked = [int(index) for index in np.argsort(-probabilities, kind="stable")]
    chosen = ranked[:MOST_CLASSES]
    if explanation.target not in chosen:
        chosen.append(explanation.target)
    rows = [
        [name(explanation.class_names[index]), percent(probabilities[index]), signed(explanation.logits[index]),
         bar(probabilities[index], 1, "weight")]
        for index in chosen
    ]  # fmt: skip
    rest = len(ranked) - len(chosen)
    caption = f"{rest} less likely classes are left out." if rest else ""
    return _notes(explanation) + table(caption, ["Class", "Probability", "Logit", ""], rows, "tnnb")


def _notes(explanation: Explanation) -> str:
    reading, notes = explanation.reading, []
    if explanation.target != explanation.winner:
        notes.append(f"What follows explains <b>{_target(explanation)}</b>, not the most likely class.")
    if reading.truncated:
        notes.append(
            f"The text is longer than the model reads: it saw {len(reading.tokens):,} tokens, the first "
            f"{reading.characters_read:,} of {len(reading.text):,} characters. The rest had no say."
        )
    if not reading.words:
        notes.append("The text holds no word: what the model says comes from its special tokens alone.")
    if reading.unknown:
        notes.append(f"{_count(reading.unknown, 'token')} unknown to the vocabulary, which the model reads as one and "
                     "the same, whatever stands there.")  # fmt: skip
    if reading.replaced:
        notes.append(f"{_count(reading.replaced, 'code unit')} not valid Unicode and replaced by “\ufffd”.")
    return f"<ul>{''.join(f'<li>{note}</li>' for note in notes)}</ul>" if notes else ""


def _words(explanation: Explanation) -> str:
    heading = f"<h3>Words: integrated gradients for {_target(explanation)}</h3>"
    attributions, values = explanation.attributions, explanation.word_attributions
    if not len(values):
        return f"{heading}<p>No word, nothing to attribute.</p>"
    strongest = [int(index) for index in np.argsort(-np.abs(values), kind="stable")]
    largest = abs(values[strongest[0]])
    numbered = set(strongest[:NUMBERED_WORDS])
    marks = [
        Mark(
            word.start, word.end, values[index] / largest if largest else 0.0,
            f"{shorten(word_text(explanation, index))}: {signed(values[index])}",
            signed(values[index]) if index in numbered else "",
        )
        for index, word in enumerate(explanation.reading.words)
    ]  # fmt: skip
    text, cut = shown_text(explanation)
    rows = [
        [name(shorten(word_text(explanation, index))), signed(values[index]),
         bar(values[index], largest, "signed")]
        for index in strongest[:LISTED_WORDS]
    ]  # fmt: skip
    rest = len(strongest) - len(rows)
    caption = f"The strongest {len(rows)} words; the other {rest} are in the table of all numbers." if rest > 0 else ""
    return (
        f"{heading}{marked_text(text, marks, 'signed', cut)}"
        f'<p class="muted">Blue with a solid line and “+”: for {_target(explanation)}; orange with a dashed line and '
        f"“−”: against. Numbers are logits; the strongest shade is {signed(largest)[1:]}.</p>"
        f"<p>The logit of {_target(explanation)} is {signed(attributions.logit)}, and "
        f"{signed(attributions.baseline_logit)} for the same text with every word replaced by padding. The words "
        f"make up the difference of {signed(attributions.difference)}: together they give "
        f"{signed(attributions.tokens.sum())}. {_completeness(explanation)}</p>"
        + table(caption, ["Word", "Logits", ""], rows, "tnb")
    )  # fmt: skip


def _completeness(explanation: Explanation) -> str:
    attributions = explanation.attributions
    sentence = (
        f"Completeness error: {abs(attributions.error):.4f}, {100 * attributions.relative_error:.2f} % of the "
        f"difference, with gradients at {attributions.gradients} points."
    )
    if attributions.relative_error <= GOOD_COMPLETENESS:
        return sentence
    return (f'{sentence} <span class="warning">That is more than 1 %, the most that was to be: take the numbers '
            "of the words for as uncertain as that.</span>")  # fmt: skip


def _attention(explanation: Explanation) -> str:
    heads = explanation.cls_attention
    if explanation.token_attention is None and heads is None:
        kind = f"A classifier of the kind “{escape(explanation.model_name)}”"
        if explanation.pools:
            kind = "This model, which pools by the maximum alone (<code>model.pools</code>),"
        return (f"<h3>Attention</h3><p>{kind} has no attention over the tokens that would show what its one vector is "
                "made of.</p>")  # fmt: skip
    tokens = len(explanation.reading.tokens)
    parts = [
        "<h3>Attention: what is read</h3>",
        f'<p class="muted">Weights add up to 100 % over the {_plural(tokens, "token")}; an even share would be '
        f"{percent(1 / tokens)}. Attention shows what goes into the pooled vector, not what it speaks for.</p>",
    ]
    if explanation.token_attention is not None:
        parts += ["<h4>Attention pool</h4>", _weights(explanation, explanation.token_attention)]
    if heads is not None:
        parts += [f"<h4>Learned query, mean of its {len(heads)} heads</h4>", _weights(explanation, heads.mean(axis=0))]
        rows = [
            [f"Head {number}", ", ".join(
                f"{name(shorten(_token_text(explanation, int(index)), 20))}&nbsp;{percent(head[index])}"
                for index in np.argsort(-head, kind="stable")[:STRONGEST_TOKENS]
            )]
            for number, head in enumerate(heads, start=1)
        ]  # fmt: skip
        parts.append(table("", ["Learned query", "Reads most of"], rows, "tt"))
        every = "".join(
            f"<h4>Head {number}</h4>{_weights(explanation, head)}" for number, head in enumerate(heads, start=1)
        )
        parts.append(f"<details><summary>The text as each head reads it</summary>{every}</details>")
    return "".join(parts)


def _weights(explanation: Explanation, weights: np.ndarray) -> str:
    largest = weights.max()
    numbered = set(np.argsort(-weights, kind="stable")[:STRONGEST_TOKENS].tolist())
    marks = [
        Mark(
            token.start, token.end, weights[index] / largest, f"{token.name}: {percent(weights[index])}",
            percent(weights[index]) if index in numbered else "", token.name if token.word is None else "",
        )
        for index, token in enumerate(explanation.reading.tokens)
    ]  # fmt: skip
    text, cut = shown_text(explanation)
    return marked_text(text, marks, "weight", cut)


def _token_text(explanation: Explanation, index: int) -> str:
    token = explanation.reading.tokens[index]
    return token.name if token.word is None else explanation.reading.text[token.start : token.end]


def _experts(explanation: Explanation) -> str:
    gates = explanation.expert_gates
    if gates is None:
        why = "Only AMSDFF has experts."
        if explanation.pools:
            why = "This model was made without its experts (<code>model.fusion=False</code>)."
        return f"<h3>Experts</h3><p>{why}</p>"
    rows = [[f"Expert {number}", percent(gate), bar(gate, 1, "weight")] for number, gate in enumerate(gates, start=1)]
    return "<h3>Expert gates</h3>" + table("The weight of each expert for this text.", ["Expert", "Weight", ""], rows,
                                           "tnb")  # fmt: skip


def _left_out(explanation: Explanation) -> str:
    heading = f"<h3>Scales and pools: what they contribute to {_target(explanation)}</h3>"
    parts = named_parts(explanation)
    if not parts:
        return f"{heading}<p>Only AMSDFF has scales and pools.</p>"
    largest = max(abs(explanation.contribution(part)) for _, part in parts)

    def row(title: str, part: LeftOut) -> list[str]:
        value = explanation.contribution(part)
        winner = int(part.logits.argmax())
        return [
            title, signed(value), bar(value, largest, "signed"), percent(part.probabilities[explanation.target]),
            name(explanation.class_names[winner]) + ("" if winner == explanation.winner else " (another)"),
        ]  # fmt: skip

    everything = percent(explanation.probabilities[explanation.target])
    caption = (
        f"By how much the logit of {_target(explanation)} falls when the part is left out, its features replaced by "
        f"zeros; its probability then, which is {everything} with everything; and the class that would win."
    )
    header = ["Left out", "Contribution", "", "Probability without", "Winner without"]
    return heading + _parts_left_out(explanation) + table(caption, header, [row(*part) for part in parts], "tnbnt")


def _parts_left_out(explanation: Explanation) -> str:
    """What an AMSDFF of the usual kind has, and this one was made without."""
    sentences = []
    if not explanation.scales:
        sentences.append("This model was made without scales (<code>model.multi_scale=False</code>).")
    absent = [title for title in POOLS.values() if title not in {part.name for part in explanation.pools}]
    if absent:
        sentences.append(f"It has no pool of the kind {' or '.join(absent)} (<code>model.pools</code>).")
    if len(explanation.pools) == 1:
        sentences.append("Without its only pool nothing of the text is left.")
    return f"<p>{' '.join(sentences)}</p>" if sentences else ""


def _numbers(explanation: Explanation) -> str:
    columns: list[tuple[str, Callable[[int], str]]] = [
        ("Integrated gradients", lambda index: signed(explanation.attributions.tokens[index]))
    ]
    if explanation.token_attention is not None:
        columns.append(("Attention pool", lambda index: percent(explanation.token_attention[index])))
    for number, head in enumerate(() if explanation.cls_attention is None else explanation.cls_attention, start=1):
        columns.append((f"Head {number}", lambda index, head=head: percent(head[index])))
    rows = [
        [f"{place}", name(token.name),
         *(value(place - 1) for _, value in columns)]
        for place, token in enumerate(explanation.reading.tokens, start=1)
    ]  # fmt: skip
    header = ["", "Token", *(title for title, _ in columns)]
    numbers = table("", header, rows, "tt" + "n" * len(columns))
    # In the order of the tab key, so that it can be scrolled without a mouse.
    scrolled = f'<div class="scroll" tabindex="0" role="region" aria-label="All numbers">{numbers}</div>'
    return f"<details><summary>All numbers, token by token</summary>{scrolled}</details>"


def _target(explanation: Explanation) -> str:
    return name(explanation.class_names[explanation.target])


def _plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _count(number: int, noun: str) -> str:
    return f"{_plural(number, noun)} {'is' if number == 1 else 'are'}"
