"""Stopping together: a signal may reach one host, or all of them in different steps."""

from collections import deque
from collections.abc import Callable
from typing import Any

import jax

from amsdff_jax.parallel.data_parallel import DataParallel


class StopVote:
    """Whether any host was asked to stop.

    With several hosts the answer of one step is read after the next was dispatched, so that no
    step waits for it; a host alone learns it at once.
    """

    def __init__(self, parallel: DataParallel, should_stop: Callable[[], bool]):
        """Takes the question that this host answers by itself."""
        self._parallel, self._should_stop = parallel, should_stop
        self._delay = 0 if jax.process_count() == 1 else 1
        self._answers: deque[Any] = deque()

    def ask(self) -> bool:
        """The same answer on all hosts, all of which must ask equally often."""
        self._answers.append(self._parallel.any_host(self._should_stop()))
        return len(self._answers) > self._delay and bool(self._answers.popleft())
