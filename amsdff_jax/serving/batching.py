"""Texts of many requests, gathered into batches for one thread that computes."""

import asyncio
import contextlib
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class FullError(Exception):
    """As many items wait as may."""


class _Job(Generic[Item, Answer]):
    """The items of one request, and the answers that there are already."""

    def __init__(self, items: Sequence[Item]):
        self.items, self.arrived = items, time.monotonic()
        self.answers: list[Answer] = []
        self.taken, self.dropped = 0, False
        self.loop = asyncio.get_running_loop()
        self.done: asyncio.Future[list[Answer]] = self.loop.create_future()

    def answer(self, answers: Sequence[Answer]) -> None:
        self.answers += answers
        if len(self.answers) == len(self.items):
            self._end(lambda: self.done.set_result(self.answers))

    def fail(self, error: Exception) -> None:
        self._end(lambda: self.done.set_exception(error))

    def _end(self, end: Callable[[], None]) -> None:
        def once() -> None:
            if not self.done.done():
                end()

        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits any more
            self.loop.call_soon_threadsafe(once)


class Batcher(Generic[Item, Answer]):
    """A queue of bounded length, and the thread that empties it.

    The thread takes what has waited longest, at most a batch. It waits for more no longer than the oldest item may be
    delayed; while it computes, the next batch gathers by itself.
    """

    def __init__(
        self,
        name: str,
        compute: Callable[[list[Item]], Sequence[Answer]],
        *,
        batch_size: int,
        max_delay_s: float,
        max_waiting: int,
        prepare: Callable[[], None] = lambda: None,
    ):
        """Starts the thread.

        Args:
          name: of the thread.
          compute: items -> an answer for each; it is called by the thread alone.
          batch_size: items that are computed together at most.
          max_delay_s: for so long an item may wait for others.
          max_waiting: items in the queue.
          prepare: is called once by the thread, before anything is computed.
        """
        self._compute, self._prepare = compute, prepare
        self._batch_size, self._max_delay_s, self._max_waiting = batch_size, max_delay_s, max_waiting
        self._jobs: deque[_Job[Item, Answer]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self.waiting = 0  # items in the queue
        self.ready = threading.Event()
        self.failure: Exception | None = None  # of the preparation
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    async def submit(self, items: Sequence[Item]) -> list[Answer]:
        """The answers to some items; if the caller is cancelled, those that still wait are dropped.

        Raises:
          FullError: there is no room for them.
        """
        job = _Job[Item, Answer](items)
        with self._changed:
            if self.waiting + len(items) > self._max_waiting:
                raise FullError
            self._jobs.append(job)
            self.waiting += len(items)
            self._changed.notify()
        try:
            return await job.done
        finally:
            self._drop(job)

    def close(self, timeout_s: float) -> bool:
        """Ends the thread after the batch that it computes; whether it has ended in time."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _drop(self, job: _Job) -> None:
        with self._changed:
            job.dropped = True
            if job in self._jobs:
                self._jobs.remove(job)
                self.waiting -= len(job.items) - job.taken

    def _run(self) -> None:
        try:
            self._prepare()
        except Exception as error:  # whoever waits for the thread to be ready is told
            self.failure = error
            return
        self.ready.set()
        while parts := self._take():
            error = self._answer(parts)
            for job, own in parts if error else ():
                # One by one, for what fails is of one request, and not of those that it came together with.
                error = self._answer([(job, own)]) if len(parts) > 1 and not job.dropped else error
                if error:
                    job.fail(error)

    def _answer(self, parts: Sequence[tuple[_Job, Sequence[Any]]]) -> Exception | None:
        """Computes pieces of jobs together and hands out their answers, or says why it cannot be done."""
        try:
            answers = list(self._compute(list(itertools.chain.from_iterable(items for _, items in parts))))
        except Exception as error:
            return error
        place = 0
        for job, own in parts:
            job.answer(answers[place : place + len(own)])
            place += len(own)
        return None

    def _take(self) -> list[tuple[_Job, Sequence[Any]]]:
        """The next batch, as pieces of jobs; none once the queue is closed."""
        with self._changed:
            while not self._closed:
                if not self._jobs:
                    self._changed.wait()
                    continue
                left = self._jobs[0].arrived + self._max_delay_s - time.monotonic()
                if self.waiting >= self._batch_size or left <= 0:
                    break
                self._changed.wait(left)
            if self._closed:
                return []
            parts, room = [], self._batch_size
            while self._jobs and room:
                job = self._jobs[0]
                own = job.items[job.taken : job.taken + room]
                parts.append((job, own))
                job.taken += len(own)
                room -= len(own)
                self.waiting -= len(own)
                if job.taken == len(job.items):
                    self._jobs.popleft()
            return parts
