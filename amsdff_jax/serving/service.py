"""Models, their queues, and whether requests are taken."""

import hmac
from collections.abc import Sequence

from amsdff_jax.explanation.explain import Explanation
from amsdff_jax.serving.batching import Batcher
from amsdff_jax.serving.limits import Limits
from amsdff_jax.serving.metrics import Metrics
from amsdff_jax.serving.served_model import ServedModel

MOST_EXPLANATIONS = 16  # that wait; each takes about a second

ExplanationItem = tuple[ServedModel, str, str]  # model, text, class name


class Service:
    """What the paths of the server share.

    Attributes:
      models: by name, the default first.
      limits: of requests.
      metrics: of everything.
      explanations: the queue of texts to explain, of all models.
      draining: whether new requests are refused.
      active: requests that are being answered.
    """

    def __init__(self, models: Sequence[ServedModel], limits: Limits, token: str = ""):
        """Starts the threads; with a token, requests must bear it."""
        self.models = {model.name: model for model in models}
        self.limits, self._token = limits, token.encode()
        self.metrics, self.draining, self.active = Metrics(), False, 0
        for name, model in self.models.items():
            model.start(lambda texts, compute, name=name: self.metrics.observe_batch(name, texts, compute))
            self.metrics.watch(name, model.texts)
        self.explanations = Batcher[ExplanationItem, list[Explanation]](
            "explain",
            lambda items: [model.explain(text, class_name) for model, text, class_name in items],
            batch_size=1,
            max_delay_s=0,
            max_waiting=MOST_EXPLANATIONS,
        )
        self.metrics.watch("explain", self.explanations)

    @property
    def ready(self) -> bool:
        """Whether everything is compiled, and the end has not come."""
        return not self.draining and all(model.texts.ready.is_set() for model in self.models.values())

    @property
    def failure(self) -> Exception | None:
        """What kept a model from being compiled."""
        return next((model.texts.failure for model in self.models.values() if model.texts.failure), None)

    def admits(self, authorization: str) -> bool:
        """Whether a request with this header may be answered."""
        kind, _, token = authorization.partition(" ")
        given = token.strip().encode("utf-8", "replace")
        return not self._token or (hmac.compare_digest(given, self._token) and kind.lower() == "bearer")

    def close(self, timeout_s: float) -> bool:
        """Ends the threads; whether they have ended in time."""
        queues = [self.explanations, *(model.texts for model in self.models.values())]
        ended = [queue.close(timeout_s) for queue in queues]  # all of them, whatever the first says
        return all(ended)
