"""Endless texts in pieces: large enough to fill batches, small enough to bound memory and waiting."""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeVar

Item = TypeVar("Item")


class Pause:
    """Stands in a stream where nothing comes for a while, so that what has come is not held back."""


PAUSE: Final = Pause()


def chunks(
    items: Iterable[Item | Pause], smallest: int, largest: int, size: Callable[[Item], int], largest_size: int
) -> Iterator[list[Item]]:
    """Divides a stream into lists, in order.

    The first list has `smallest` items, so that the first results come soon, and every other twice as many as the
    one before, up to `largest`. A list ends early once the sizes of its items add up to `largest_size`, or at a
    pause, which is followed by an empty list.
    """
    chunk: list[Item] = []
    filled, limit = 0, smallest
    for item in items:
        if isinstance(item, Pause):
            if chunk:
                yield chunk
            yield []
            chunk, filled = [], 0
            continue
        chunk.append(item)
        filled += size(item)
        if len(chunk) >= limit or filled >= largest_size:
            yield chunk
            chunk, filled, limit = [], 0, min(2 * limit, largest)
    if chunk:
        yield chunk


def until_error(items: Iterable[Item], errors: list[Exception]) -> Iterator[Item]:
    """Yields `items`; an error of theirs ends them, and is put into `errors` for whoever can raise it in its place."""
    try:
        yield from items
    except Exception as error:
        errors.append(error)


def with_pauses(items: Iterable[Item], patience: float, depth: int) -> Iterator[Item | Pause]:
    """Yields `items` as a slow source gives them, and a `PAUSE` whenever none has come for a while.

    The source is read in a thread of its own, which nobody waits for: it may hang in a read for ever.

    Args:
      patience: seconds.
      depth: as many items are read ahead.
    """
    waiting: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(depth)
    end = object()

    def read() -> None:
        try:
            for item in items:
                waiting.put((item, None))
        except BaseException as error:  # handed over to the consumer, whatever it is
            waiting.put((end, error))
        else:
            waiting.put((end, None))

    threading.Thread(target=read, name="reader", daemon=True).start()
    while True:
        try:
            item, error = waiting.get(timeout=patience)
        except queue.Empty:
            yield PAUSE
            item, error = waiting.get()
        if error is not None:
            raise error
        if item is end:
            return
        yield item
