"""Which scripts the texts are written in, as a hint at their languages."""

import collections
import dataclasses
import functools

import regex

from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.inspection.corpus import Corpus, Sample

EXAMPLES = 5

# In Unicode's names. A letter of several scripts is of the first: marks of both kinds of Kana are Katakana.
SCRIPTS = """
    Latin Greek Cyrillic Armenian Georgian Hebrew Arabic Syriac Thaana Devanagari Bengali Gurmukhi Gujarati Oriya Tamil
    Telugu Kannada Malayalam Sinhala Thai Lao Tibetan Myanmar Khmer Mongolian Ethiopic Cherokee Hangul Katakana Hiragana
    Han Bopomofo Coptic Gothic Tifinagh Javanese Balinese Tagalog
"""
_SCRIPT = regex.compile("|".join(rf"(?P<{name}>\p{{Script_Extensions={name}}})" for name in SCRIPTS.split()))
OTHER = "other"
JAPANESE = "Japanese"


@dataclasses.dataclass(frozen=True)
class WritingSystems:
    """The scripts of one split."""

    split: str
    letters: dict[str, int]  # of each script, most first
    main: dict[str, int]  # how many texts are mostly in each script, most first; texts without letters are in none
    foreign: tuple[Sample, ...]  # examples of texts that are mostly in another script than most


def find_writing_systems(corpus: Corpus) -> tuple[WritingSystems, ...]:
    """Counts letters and texts by script, split by split."""
    start, results = 0, []
    for name, dataset in zip(corpus.names, corpus.datasets, strict=True):
        letters, scripts = _count(dataset)
        main = collections.Counter(script for script in scripts if script)
        usual = main.most_common(1)[0][0] if main else None
        foreign = [index for index, script in enumerate(scripts) if script and script != usual]
        results.append(
            WritingSystems(
                name,
                dict(letters.most_common()),
                dict(main.most_common()),
                tuple(corpus.sample(start + index) for index in foreign[:EXAMPLES]),
            )
        )
        start += len(dataset)
    return tuple(results)


@functools.cache
def script_of(letter: str) -> str:
    """The script of a letter; `OTHER` for rare ones and for signs that no script has to itself."""
    match = _SCRIPT.match(letter)
    return (match and match.lastgroup) or OTHER


def main_script(letters: collections.Counter[str]) -> str | None:
    """The script with most letters, or None without any. Kana and the Han among them are `JAPANESE`."""
    kana = letters["Hiragana"] + letters["Katakana"]
    if kana:
        others = {script: number for script, number in letters.items() if script not in ("Hiragana", "Katakana", "Han")}
        letters = collections.Counter(others | {JAPANESE: kana + letters["Han"]})
    return letters.most_common(1)[0][0] if letters else None


def _count(dataset: TextDataset) -> tuple[collections.Counter[str], list[str | None]]:
    total: collections.Counter[str] = collections.Counter()
    scripts: list[str | None] = []
    pairs = dataset.text_pairs or [""] * len(dataset)
    for text, pair in zip(dataset.texts, pairs, strict=True):
        letters: collections.Counter[str] = collections.Counter()
        for letter, number in collections.Counter(text + pair).items():
            if letter.isalpha():
                letters[script_of(letter)] += number
        total.update(letters)
        scripts.append(main_script(letters))
    return total, scripts
