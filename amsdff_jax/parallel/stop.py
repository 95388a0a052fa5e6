"""Stopping: a signal is remembered until the loop asks, and all hosts stop in the same step."""

import signal
from collections import deque
from collections.abc import Callable
from typing import Any

import jax

from amsdff_jax.parallel.data_parallel import DataParallel


class StopRequest:
    """Whether this process was asked to stop, once its signals are caught."""

    def __init__(self) -> None:
        self._signals: list[int] = []

    def catch_signals(self) -> None:
        """From now on the first SIGINT or SIGTERM only answers `requested`; a second one ends the process at once."""

        def remember(number: int, _frame: object) -> None:
            self._signals.append(number)
            for name in (signal.SIGINT, signal.SIGTERM):
                signal.signal(name, signal.SIG_DFL)

        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, remember)

    def requested(self) -> bool:
        """Whether to finish what is at hand, save and return."""
        return bool(self._signals)


class StopCheck:
    """Asks all hosts together, for a signal may reach one of them, or all in different steps.

    With several hosts the answer of one step is read after the next was dispatched, so that no
    step waits for it; a host alone learns it at once.
    """

    def __init__(self, parallel: DataParallel, should_stop: Callable[[], bool]):
        """Takes the question that this host answers by itself."""
        self._parallel, self._should_stop = parallel, should_stop
        self._delay = 0 if jax.process_count() == 1 else 1
        self._answers: deque[Any] = deque()

    def any_host_requested_stop(self) -> bool:
        """The same answer on all hosts, all of which must ask equally often."""
        self._answers.append(self._parallel.any_host(self._should_stop()))
        return len(self._answers) > self._delay and bool(self._answers.popleft())
