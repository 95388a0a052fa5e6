"""Values from outside become typed dataclasses, or one line that says which field is wrong and why."""

import contextlib
import dataclasses
import difflib
import itertools
import reprlib
import sys
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from amsdff_jax.base.errors import UserError

LONGEST = 200  # characters of a value or a name from outside, in a message
MOST_PARTS = 8  # of a list in a message
_MOST_COMPARED = 1000  # names that one is compared with, which takes a second for so many

Built = TypeVar("Built")

_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 3, 80, 80


def build(kind: type[Built], values: Any, prefix: str) -> Built:
    """Fills the dataclass `kind` from `values`, a mapping; `prefix` is the dotted name that errors start with.

    A value that has the type of its field already is taken as it is.
    """
    kinds = typing.get_type_hints(kind)
    values = without_config_dict(values)
    if not isinstance(values, Mapping):
        raise UserError(f"{prefix.rstrip('.') or 'settings'}: expected names and values, got {shown(values)}")
    arguments = {}
    for name, value in values.items():
        if name not in kinds:
            raise UserError(f"{prefix}{name!s:.{LONGEST}}: no such field{nearest(name, kinds)}")
        if dataclasses.is_dataclass(kinds[name]) and not isinstance(value, kinds[name]):
            arguments[name] = build(kinds[name], value, f"{prefix}{name}.")
        else:
            arguments[name] = coerce(value, kinds[name], f"{prefix}{name}")
    return kind(**arguments)


def without_config_dict(values: Any) -> Any:
    """A `ConfigDict` of ml_collections as nested dicts; anything else as it is.

    The package takes time to load and need not be installed: where nobody has loaded it, nothing is of its class.
    """
    loaded = sys.modules.get("ml_collections")
    return values.to_dict() if loaded and isinstance(values, loaded.ConfigDict) else values


def nearest(name: str, names: Iterable[str], cutoff: float = 0.5) -> str:
    """A hint such as `; did you mean train.epochs?`, or an empty string when nothing is near."""
    close = difflib.get_close_matches(str(name), list(itertools.islice(names, _MOST_COMPARED)), n=1, cutoff=cutoff)
    return f"; did you mean {close[0]}?" if close else ""


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """What nested mappings hold, under dotted names such as `train.epochs`."""
    flat = {}
    for name, value in values.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


def field_names(values: Mapping[str, Any]) -> list[str]:
    """The dotted names of all that nested mappings hold."""
    return list(flatten(values))


def nearest_field(name: str, names: Iterable[str]) -> str:
    """A hint like that of `nearest`, for dotted names: first a field that is called the same in another section."""
    names = list(names)
    namesakes = [other for other in names if other.split(".")[-1] == name.split(".")[-1]]
    return nearest(name, namesakes, cutoff=0.0) if namesakes else nearest(name, names)


def shown(value: Any) -> str:
    """A value as messages show it: `repr`, shortened where it is long or deeply nested."""
    return _SHORT.repr(value)


def require(condition: bool, field: str, value: Any, expected: str) -> None:
    """Raises `UserError` naming the field, what it should hold and what it holds, unless `condition` is true."""
    if not condition:
        raise UserError(f"{field}: expected {expected}, got {shown(value)}")


def require_choice(field: str, value: str, choices: tuple[str, ...]) -> None:
    """Raises `UserError` with the choices and the nearest of them, unless `value` is one."""
    require(value in choices, field, value, f"one of {', '.join(map(repr, choices))}{nearest(value, choices)}")


def first_of(parts: Sequence[str], separator: str = ", ", most: int = MOST_PARTS) -> str:
    """Parts of a message, joined; the first few of many, each shortened, and how many more there are."""
    more = f" and {len(parts) - most:,} more" if len(parts) > most else ""
    return separator.join(part if len(part) <= LONGEST else f"{part[:LONGEST]}…" for part in parts[:most]) + more


def coerce(value: Any, kind: Any, field: str) -> Any:
    """`value` as the annotated type `kind`; an int may stand for a float and a list for a tuple."""
    if kind is Any:  # the dataclass checks it by itself
        return value
    if typing.get_origin(kind) is tuple:
        if isinstance(value, (tuple, list)):
            kinds = typing.get_args(kind)
            kinds = kinds[:1] * len(value) if kinds[-1] is Ellipsis else kinds
            if len(value) == len(kinds):
                return tuple(coerce(item, item_kind, field) for item, item_kind in zip(value, kinds, strict=True))
    elif kind is float and type(value) is int:
        with contextlib.suppress(OverflowError):
            return float(value)
    elif isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    raise UserError(f"{field}: expected {_describe(kind)}, got {shown(value)}")


def _describe(kind: Any) -> str:
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a string", ...: "..."}
    if kind in names:
        return names[kind]
    parts = [_describe(part) for part in typing.get_args(kind)]
    return f"({', '.join(parts)})" if parts else str(kind)
