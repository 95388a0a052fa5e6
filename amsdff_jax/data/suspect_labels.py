"""Labels that look like slips: missing values, one class written in several ways, a header among the rows."""

import re
import unicodedata
from collections.abc import Sequence
from decimal import Decimal

import numpy as np

from amsdff_jax.base.validation import first_of
from amsdff_jax.config import DataConfig
from amsdff_jax.config.columns import split_columns
from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.data.rows import join_texts

# What pandas, R, SQL and spreadsheets write where there is no value.
MISSING = frozenset(
    {"nan", "-nan", "na", "n/a", "<na>", "#n/a", "#na", "none", "null", "nil", "nat", "<null>", "#null!"}
)

# Takes no room, but is no format character for Unicode: variation selectors, fillers of Hangul, a blank of Braille.
_BLANK = frozenset(map(chr, (*range(0xFE00, 0xFE10), 0x34F, 0x115F, 0x1160, 0x3164, 0x2800)))
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")


def suspect_classes(dataset: TextDataset) -> list[str]:
    """Sentences about classes that are probably none, or probably the same as another one."""
    texts = {name: int(count) for name, count in zip(dataset.class_names, dataset.class_counts, strict=True)}
    forms = {name: _form(name) for name in texts}
    missing = [_named(name, texts) for name, form in forms.items() if form in MISSING or not form]
    same: dict[str | Decimal, list[str]] = {}
    for name, form in forms.items():
        if form:
            same.setdefault(Decimal(form) if _NUMBER.fullmatch(form) else form, []).append(name)
    twins = [
        " and ".join(_named(name, texts, _look_alike(names)) for name in names)
        for names in same.values()
        if len(names) > 1
    ]
    sentences = []
    if missing:
        what = "1 class reads" if len(missing) == 1 else f"{len(missing)} classes read"
        sentences.append(f"{what} like a missing value: {first_of(missing)}; leave such rows out")
    if twins:
        sentences.append(
            "classes that differ only in case, width, invisible characters, Unicode form or how a number is written: "
            + first_of(twins, "; ")
        )
    return sentences


def repeated_headers(dataset: TextDataset, config: DataConfig) -> list[str]:
    """A sentence about rows that hold the names of their columns, as where files with headers were put together."""
    if config.label_column not in dataset.class_names:
        return []
    rows = np.flatnonzero(dataset.of_class(dataset.class_names.index(config.label_column)))
    header = join_texts(split_columns(config.text_column))
    places = [dataset.ids[row] for row in rows.tolist() if dataset.texts[row].strip() == header]
    if not places:
        return []
    what = "1 row is" if len(places) == 1 else f"{len(places):,} rows are"
    return [f"{what} the header again ({first_of(places)}); remove it"]


def _form(name: str) -> str:
    """What is left of a name without case, width, Unicode form and all that cannot be seen."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    seen = (
        letter
        for letter in folded
        if letter.isspace() or (unicodedata.category(letter) not in ("Cc", "Cf") and letter not in _BLANK)
    )
    return " ".join("".join(seen).split())


def _look_alike(names: Sequence[str]) -> bool:
    return len({unicodedata.normalize("NFC", name) for name in names}) < len(names)


def _named(name: str, texts: dict[str, int], escape: bool = False) -> str:
    number = texts[name]
    return f"{ascii(name) if escape else repr(name)} ({number:,} text{'s' if number != 1 else ''})"
