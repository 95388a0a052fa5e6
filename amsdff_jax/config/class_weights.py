"""The setting `loss.class_weights`, in each of the forms in which it may be written."""

import ast
import math
import numbers
import re
from typing import Any

from amsdff_jax.base.validation import nearest, require

FIELD = "loss.class_weights"
FORMS = (
    "'balanced', or weights of 0 or more, one a class: in the order of the classes, such as '(1.0, 2.0)', or by name, "
    "such as '{neg: 1.0, pos: 2.0}', in quotes on the command line"
)

ClassWeights = str | tuple[float, ...] | tuple[tuple[str, float], ...]

_NAMED = re.compile(r"""\s*(?:"([^"]*)"|'([^']*)'|([^,]*?))\s*:\s*([^,:\s]+)\s*(?:,\s*|$)""")


def parse_class_weights(value: Any) -> ClassWeights:
    """The setting in a form that is hashable, and the same after a way through JSON.

    Args:
      value: a string, a list or array of weights, a mapping from names to weights, or pairs of both.

    Returns:
      "", "balanced", the weights, or pairs of name and weight sorted by name.

    Raises:
      UserError: the value is none of these, or holds a weight that is negative or not finite.
    """
    weights = _parse(value) if isinstance(value, str) else value
    if isinstance(weights, str):
        require(weights in ("", "balanced"), FIELD, weights, FORMS + nearest(weights, ("balanced",)))
        return weights
    if hasattr(weights, "items"):
        weights = list(weights.items())
    elif hasattr(weights, "tolist"):
        weights = weights.tolist()
    require(isinstance(weights, (tuple, list)), FIELD, value, FORMS)
    pairs = [item for item in weights if isinstance(item, (tuple, list)) and len(item) == 2]
    if not pairs:
        require(all(map(_is_weight, weights)), FIELD, value, FORMS)
        return tuple(map(float, weights))
    require(len(pairs) == len(weights) and all(_is_weight(weight) for _, weight in pairs), FIELD, value, FORMS)
    named = {str(name): float(weight) for name, weight in pairs}
    require(len(named) == len(pairs), FIELD, value, "every class once")
    return tuple(sorted(named.items()))


def _parse(text: str) -> Any:
    """What a string from the command line stands for; the string itself where it stands for nothing."""
    if text.startswith("{") and text.endswith("}"):
        return _parse_named(text[1:-1].strip()) or text
    if text.startswith(("(", "[")):
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            return text
    return text


def _parse_named(text: str) -> list[tuple[str, float]]:
    """Names may be in quotes and need not be; Python would read 1_1 as 11, and YAML no as false."""
    pairs, place = [], 0
    while place < len(text):
        match = _NAMED.match(text, place)
        if not match:
            return []
        *names, weight = match.groups()
        try:
            pairs.append((next(name for name in names if name is not None), float(weight)))
        except ValueError:
            return []
        place = match.end()
    return pairs


def _is_weight(weight: Any) -> bool:
    return isinstance(weight, numbers.Real) and not isinstance(weight, bool) and 0 <= float(weight) < math.inf
