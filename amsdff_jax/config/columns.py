"""Names of columns in one setting, such as `title,body`, by the rules of CSV."""

import csv
import io
from collections.abc import Iterable

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.validation import shown


def split_columns(names: str, setting: str = "column names") -> tuple[str, ...]:
    """The names in a setting; () for an empty one.

    Args:
      names: separated by commas; one that holds a comma stands in double quotes.
      setting: what an error calls it, such as "data.text_column".

    Raises:
      UserError: an empty name, or a quote that is not closed.
    """
    if "," not in names and not names.startswith('"'):
        return (names,) if names else ()
    try:
        split = tuple(next(csv.reader([names], strict=True)))
    except csv.Error:
        split = ()
    if not all(split) or not split:
        raise UserError(
            f"{setting}: expected a column, or several such as title,body (in double quotes a name that holds a "
            f"comma), got {shown(names)}"
        )
    return split


def write_columns(names: Iterable[str]) -> str:
    """The setting that `split_columns` makes these names of."""
    text = io.StringIO()
    csv.writer(text).writerow(names)
    return text.getvalue().removesuffix("\r\n")
