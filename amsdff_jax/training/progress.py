"""Where a run stands beside its numbers: history, best value, patience. Saved with every checkpoint."""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass
class RunProgress:
    """The part of a run's state that is not arrays.

    Attributes:
      data_fingerprint: of the training data; a resumed run must see the same.
      total_steps: updates of the whole run.
      class_names: in the order of the logits.
      history: a record for every evaluation: step, epoch, training and validation metrics.
      best_step: step of the evaluation whose weights are kept, which is the best one, or, with
        `train.keep_best=false`, the last one; 0 before the first.
      best_value: its metric, None before the first.
      stale_evaluations: evaluations since then.
      since_evaluation: sums over the texts since the last evaluation.
      since_record: sums over the texts since the last record in the log.
      ended: whether `on_evaluation` of the trainer has ended the run.
      seconds: spent in training and evaluation so far, over all sessions.
    """

    data_fingerprint: str
    total_steps: int
    class_names: list[str]
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    best_step: int = 0
    best_value: float | None = None
    stale_evaluations: int = 0
    since_evaluation: dict[str, float] = dataclasses.field(default_factory=dict)
    since_record: dict[str, float] = dataclasses.field(default_factory=dict)
    ended: bool = False
    seconds: float = 0.0

    def add_step(self, metrics: Mapping[str, float]) -> None:
        """Adds the metrics of one training step, weighted by its texts, to both sums."""
        examples = metrics["examples"]
        for sums in (self.since_evaluation, self.since_record):
            for name, value in metrics.items():
                added = examples if name == "examples" else value * examples
                sums[name] = sums.get(name, 0.0) + added

    def add_evaluation(
        self, record: dict[str, Any], metric: str, lower_is_better: bool, keep_best: bool = True
    ) -> bool:
        """Adds a record to the history; whether its weights are to be kept, as the best so far by `metric`.

        While the metric has never been defined, those of the last evaluation are.

        Args:
          keep_best: False: the last one is always taken for the best (`train.keep_best`).
        """
        self.history.append(record)
        value = record["validation"][metric]
        if value is None:  # not defined for what the model says
            better = False
        elif self.best_value is None:
            better = True
        else:
            better = value < self.best_value if lower_is_better else value > self.best_value
        kept = better or not keep_best or self.best_value is None
        if kept:
            self.best_step, self.best_value = record["step"], value
        self.stale_evaluations = 0 if better or len(self.history) == 1 else self.stale_evaluations + 1
        return kept


def take_means(sums: dict[str, float]) -> dict[str, float]:
    """Means per text from one of the sums of `RunProgress`, which starts again from nothing."""
    examples = sums.pop("examples")
    means = {name: total / examples for name, total in sums.items()}
    sums.clear()
    return means
