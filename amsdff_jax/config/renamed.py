"""Settings that had another name once, under which they are still taken."""

import functools
import logging
from collections.abc import Mapping
from typing import Any

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.validation import shown

logger = logging.getLogger(__name__)

# By today's.
FORMER_NAMES = {"train.head_learning_rate": "train.learning_rate", "data.dataset": "data.tfds_name"}


@functools.cache  # once a process, however often settings are read
def tell(former: str, name: str) -> None:
    """Logs that a setting has another name now."""
    logger.warning("%s is now called %s, and is taken for it", former, name)


def current_name(name: str) -> str:
    """The name of today of a setting, or of a flag that ends in its name; any other is left as it is."""
    for current, former in FORMER_NAMES.items():
        if f".{name}".endswith(f".{former}"):
            return name.removesuffix(former) + current
    return name


def with_current_names(
    values: Mapping[str, Any], defaults: Mapping[str, Any] | None = None, *, silent: bool = False
) -> dict[str, Any]:
    """Nested settings under their names of today.

    Args:
      values: sections and their fields.
      defaults: of all settings, where `values` holds those too: a setting that is at its default has not been given.
      silent: a former name is none of the user's doing, as in the folder of an old run.

    Raises:
      UserError: a setting under both of its names, with different values.
    """
    values = dict(values)
    for current, former in FORMER_NAMES.items():
        (section, name), old = current.split("."), former.split(".")[1]
        fields = values.get(section)
        if not isinstance(fields, Mapping) or old not in fields:
            continue
        fields = dict(fields)
        value = fields.pop(old)
        given = name in fields and not (defaults and fields[name] == defaults[section][name])
        if given and fields[name] != value:
            raise UserError(
                f"{current}: given as {shown(fields[name])}, and as {shown(value)} under its former name {former}; "
                "leave one of them out"
            )
        if not silent:
            tell(former, current)
        values[section] = fields | {name: value}
    return values
