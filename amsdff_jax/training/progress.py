"""Where a run stands beside its numbers: history, best value, patience. Saved with every checkpoint."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from amsdff_jax.evaluation.metrics import LOWER_IS_BETTER


@dataclasses.dataclass
class RunProgress:
    """The part of a run's state that is not arrays.

    Attributes:
      data_fingerprint: of the training data; a resumed run must see the same.
      history: a record for every evaluation: step, epoch, learning rate, training and validation metrics.
      best_step: step of the best evaluation, 0 before the first.
      best_value: its metric, None before the first.
      stale_evaluations: evaluations since then.
      totals: sums over the texts since the last evaluation.
      seconds: spent in training and evaluation so far, over all sessions.
    """

    data_fingerprint: str
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    best_step: int = 0
    best_value: float | None = None
    stale_evaluations: int = 0
    totals: dict[str, float] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0

    def add_step(self, metrics: Mapping[str, float]) -> None:
        """Adds the metrics of one training step to the totals."""
        examples = metrics["examples"]
        for name, value in metrics.items():
            if name != "examples":
                self.totals[name] = self.totals.get(name, 0.0) + value * examples
        self.totals["examples"] = self.totals.get("examples", 0.0) + examples

    def take_means(self) -> dict[str, float]:
        """Mean training metrics per text since the last call."""
        examples = self.totals.pop("examples", 0.0)
        means = {name: total / examples for name, total in self.totals.items()}
        self.totals = {}
        return means

    def add_evaluation(self, record: dict[str, Any], metric: str) -> bool:
        """Adds a record to the history; whether it is the best so far by `metric` on validation."""
        self.history.append(record)
        value = record["validation"][metric]
        if self.best_value is None:
            better = True
        elif metric in LOWER_IS_BETTER:
            better = value < self.best_value
        else:
            better = value > self.best_value
        if better:
            self.best_step, self.best_value, self.stale_evaluations = record["step"], value, 0
        else:
            self.stale_evaluations += 1
        return better
