"""The one exception that stands for a mistake the user can fix."""

from amsdff_jax.base.escaping import printable, shorten

LONGEST_MESSAGE = 2000  # characters


class UserError(ValueError):
    """A mistake in a file, a setting or a command, told in one line.

    The message names the file, field or row, says what was expected and gives the way out. The
    scripts print it without a traceback and exit with code 2; in a notebook it is a `ValueError`.
    """

    def __init__(self, message: str):
        # What comes from a file may be long, and hold newlines and terminal codes.
        super().__init__(shorten(printable(shorten(message, LONGEST_MESSAGE)), LONGEST_MESSAGE))
