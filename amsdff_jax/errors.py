"""The exception for users' mistakes, where those who catch it import it from."""

from amsdff_jax.base.errors import UserError

__all__ = ["UserError"]
