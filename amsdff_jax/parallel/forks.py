"""Forked processes: JAX's threads do not come along, and what waits for them would wait for ever."""

import os

from amsdff_jax.base.errors import UserError

_computing_process: int | None = None


def claim_process() -> None:
    """Says that this process computes, before it does.

    Raises:
      UserError: it was forked from one that has said so.
    """
    global _computing_process
    if _computing_process is None:
        _computing_process = os.getpid()
    if _computing_process != os.getpid():
        raise UserError(
            f"process {os.getpid()} was forked from process {_computing_process}, which had loaded a model already: "
            "JAX does not work on in a fork, it would wait for ever; load the model after the fork (gunicorn without "
            "--preload), or start the processes anew (multiprocessing.get_context('spawn'))"
        )
