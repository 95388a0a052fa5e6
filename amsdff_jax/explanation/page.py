"""Explanations as one HTML page that needs nothing else: no script, no font, no picture from elsewhere."""

from collections.abc import Callable, Sequence

from amsdff_jax.base.escaping import shorten
from amsdff_jax.explanation.explain import Explanation
from amsdff_jax.explanation.html import bar, escape, name, percent, signed, table
from amsdff_jax.explanation.sections import named_parts, text_article, word_text
from amsdff_jax.explanation.style import STYLE

MOST_SHARED_WORDS = 15

MEANINGS = {
    "Probability, logit": "The model's output before and after the softmax, computed in float32 and without any "
    "calibration of its confidence.",
    "Integrated gradients": "What each word adds to the logit of the class on the straight way from a text without "
    "words to this text (Sundararajan et al., 2017). Without words means: the embedding of every word piece replaced "
    "by that of [PAD], at the same places, between the same special tokens. The pieces of a word are added up. The "
    "numbers of all words make up the logit's difference; how exactly they do is the completeness error. It is not "
    "what would happen if the word were deleted.",
    "Attention pool, learned query": "Two of the pools that make one vector of all tokens are weighted means. "
    "The first weighs a token by itself; in the second, a query that was learned in training attends to the tokens, "
    "with several heads. What a token's features hold is by then a mixture of the whole text.",
    "Experts": "Networks side by side, mixed by weights that are computed from the mean over the text.",
    "Scale": "Convolutions over so many neighbouring tokens. Left out: its features, after the activation, are 0 at "
    "every token, and all that follows is computed anew. The residual around the scales stays.",
    "Pool": "A summary of all tokens: attention pool, learned query, or maximum of every feature. Left out: its vector "
    "is 0 before the layers that fuse the pools.",
    "Contribution": "The logit with everything less the logit without the part: positive speaks for the class. Parts "
    "stand in for each other and what follows is not linear, so contributions need not add up to anything.",
}  # fmt: skip


def make_page(explanations: Sequence[Explanation], model: str, compare: bool = False) -> str:
    """The page of one or more texts.

    Args:
      explanations: of texts by the same model.
      model: what the page calls the model.
      compare: put two texts side by side, below a table of what differs. Both must explain the same class.
    """
    several = len(explanations) > 1
    articles = "".join(
        text_article(explanation, f"Text {number}" if several else "Label")
        for number, explanation in enumerate(explanations, start=1)
    )
    names = explanations[0].class_names
    kind = explanations[0].model_name
    classes = shorten(f"a classifier of the kind “{kind}” with {len(names)} classes: {', '.join(names)}", 300)
    wide = ' class="wide"' if compare else ""
    main_class = ' class="wide compare"' if compare else ""
    meanings = "".join(f"<dt>{term}</dt><dd>{meaning}</dd>" for term, meaning in MEANINGS.items())
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Why {escape(model)} says {escape(", ".join(_labels(explanations)))}</title>
<style>{STYLE}</style>
</head>
<body>
<header{wide}>
<h1>Why the model says so</h1>
<p class="muted">{name(model)}: {name(classes)}. What the numbers mean is <a href="#meanings">below</a>.</p>
</header>
<main{main_class}>
{_comparison(*explanations) if compare else ""}
{articles}
</main>
<footer{wide}>
<h2 id="meanings">What the numbers mean</h2>
<dl>{meanings}</dl>
</footer>
</body>
</html>
"""


def _labels(explanations: Sequence[Explanation]) -> list[str]:
    return [explanation.class_names[explanation.winner] for explanation in explanations[:3]]


def _comparison(one: Explanation, other: Explanation) -> str:
    target = name(one.class_names[one.target])
    parts = [
        f'<article class="both"><h2>Side by side, for {target}</h2>',
        _pairs(
            "Probability of each class.",
            list(zip(one.class_names, one.probabilities, other.probabilities, strict=True)), percent, "Class",
        ),
    ]  # fmt: skip
    if one.expert_gates is not None:
        gates = enumerate(zip(one.expert_gates, other.expert_gates, strict=True), start=1)
        parts.append(_pairs("Weight of each expert.", [(f"Expert {n}", *pair) for n, pair in gates], percent, "Expert"))
    rows = [
        (title, one.contribution(left), other.contribution(right))
        for (title, left), (_, right) in zip(named_parts(one), named_parts(other), strict=True)
    ]
    if rows:
        parts.append(_pairs(f"Contribution of each part to the logit of {target}.", rows, signed, "Left out"))
    shared = _shared_words(one, other)
    if shared:
        parts.append(
            _pairs(
                f"Words of both texts: integrated gradients for {target}, summed over a word's places.",
                shared, signed, "Word",
            )
        )  # fmt: skip
    else:
        parts.append("<p>The two texts share no word.</p>")
    return "".join(parts) + "</article>"


def _pairs(caption: str, rows: Sequence[tuple[str, float, float]], number: Callable[[float], str], heading: str) -> str:
    """A table of a number for either text, and the second's less the first's."""
    kind = "weight" if number is percent else "signed"
    largest = 1.0 if number is percent else max(abs(value) for _, *values in rows for value in values)
    cells = [
        [name(shorten(title)), number(one), bar(one, largest, kind), number(other),
         bar(other, largest, kind), signed(other - one) if kind == "signed" else _points(other - one)]
        for title, one, other in rows
    ]  # fmt: skip
    difference = "Difference" if kind == "signed" else "Difference, in points"
    return table(caption, [heading, "Text 1", "", "Text 2", "", difference], cells, "tnbnbn")


def _points(difference: float) -> str:
    return f"{100 * difference:+.1f}".replace("-", "−")


def _shared_words(one: Explanation, other: Explanation) -> list[tuple[str, float, float]]:
    totals: list[dict[str, float]] = []
    for explanation in (one, other):
        total: dict[str, float] = {}
        for index, value in enumerate(explanation.word_attributions):
            word = word_text(explanation, index).casefold()
            total[word] = total.get(word, 0.0) + float(value)
        totals.append(total)
    first, second = totals
    shared = [(word, first[word], second[word]) for word in first if word in second]
    return sorted(shared, key=lambda row: -max(abs(row[1]), abs(row[2])))[:MOST_SHARED_WORDS]
