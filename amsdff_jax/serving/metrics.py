"""Numbers of a server for Prometheus."""

import time
from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from amsdff_jax.serving.batching import Batcher

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Counts; nothing in it says what a text holds."""

    def __init__(self):
        self._registry = registry = CollectorRegistry()
        self._requests = Counter("amsdff_requests", "Requests", ["path", "status"], registry=registry)
        self._request_seconds = Histogram("amsdff_request_seconds", "Seconds of a request", ["path"], registry=registry)
        self._texts = Counter("amsdff_texts", "Texts that were computed", ["model"], registry=registry)
        self._sizes = Histogram("amsdff_batch_texts", "Texts of a batch", ["model"], buckets=SIZES, registry=registry)
        self._batch_seconds = Histogram("amsdff_batch_seconds", "Seconds of a batch", ["model"], registry=registry)
        self._waiting = Gauge("amsdff_waiting", "Items in a queue", ["queue"], registry=registry)

    def observe_request(self, path: str, status: int, seconds: float) -> None:
        """Counts a request that is answered."""
        self._requests.labels(path, str(status)).inc()
        self._request_seconds.labels(path).observe(seconds)

    def observe_batch(self, model: str, texts: int, compute: Callable[[], Any]) -> Any:
        """Measures a batch; returns what `compute` does."""
        start = time.perf_counter()
        answers = compute()
        self._batch_seconds.labels(model).observe(time.perf_counter() - start)
        self._sizes.labels(model).observe(texts)
        self._texts.labels(model).inc(texts)
        return answers

    def watch(self, name: str, queue: Batcher) -> None:
        """Shows how long a queue is."""
        self._waiting.labels(name).set_function(lambda: queue.waiting)

    def text(self) -> bytes:
        """All of it, in Prometheus' format."""
        return generate_latest(self._registry)
