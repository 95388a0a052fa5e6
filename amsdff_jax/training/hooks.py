"""What a caller adds to a `Trainer`: metrics of its own, and a function to call after every evaluation."""

import math
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.validation import shown
from amsdff_jax.evaluation.evaluator import Evaluation
from amsdff_jax.evaluation.metrics import METRICS
from amsdff_jax.parallel.data_parallel import DataParallel

if TYPE_CHECKING:
    from amsdff_jax.training.trainer import Trainer

Metric = Callable[[np.ndarray, np.ndarray], float]  # labels [N] or [N,C], probabilities [N,C] -> a number
OnEvaluation = Callable[[dict[str, Any], "Trainer"], bool | None]  # record of the history, trainer -> whether to end


class HookError(UserError):
    """A function of the caller's has failed, on this host or another."""


class Hooks:
    """Calls the functions of a caller. All hosts must do so together, and all learn of an error on one of them."""

    def __init__(
        self,
        metrics: Mapping[str, Metric] | None,
        on_evaluation: OnEvaluation | None,
        best_metric: str,
        parallel: DataParallel,
        task: str = "single",
    ):
        """Takes the functions.

        Args:
          metrics: by name; see `Trainer`.
          on_evaluation: see `Trainer`; None: there is none.
          best_metric: the metric that must be a number.
          task: the kind of task, whose metrics have names of their own.

        Raises:
          UserError: a name that is taken, or that trackers would refuse; something that is no function.
        """
        if metrics is not None and not isinstance(metrics, Mapping):
            raise UserError(f'metrics: expected functions by name, such as {{"name": f}}, got {shown(metrics)}')
        functions: dict[str, Any] = {f"metrics: {name!r}": metric for name, metric in (metrics or {}).items()}
        functions["on_evaluation"] = on_evaluation
        for name, function in functions.items():
            if not callable(function) and not (name == "on_evaluation" and function is None):
                raise UserError(f"{name}: expected a function, got {shown(function)}")
        self._metrics, self._on_evaluation = dict(metrics or {}), on_evaluation
        self._best_metric, self._parallel = best_metric, parallel
        for name in self._metrics:
            if name in METRICS[task].names:
                raise UserError(f"metrics: {name!r} is computed already; expected another name")
            if not re.fullmatch(r"[\w.-]+", str(name), re.ASCII):
                raise UserError(f"metrics: expected names of letters, digits, '_', '.' and '-', got {name!r}")

    def compute_metrics(self, evaluation: Evaluation) -> dict[str, float | None]:
        """The caller's metrics by name, None where one is not finite.

        Raises:
          HookError: a function failed, or did not give a number.
        """
        return {
            name: self._call(f"metrics: {name!r}", self._compute, name, evaluation) for name in sorted(self._metrics)
        }

    def after_evaluation(self, record: dict[str, Any], trainer: "Trainer") -> bool:
        """Calls `on_evaluation`; whether the run is to end, on any host.

        Raises:
          HookError: it failed.
        """
        if self._on_evaluation is None:
            return False
        ends = self._call("on_evaluation", self._ask, record, trainer)
        return bool(self._parallel.any_host(ends))

    def _compute(self, name: str, evaluation: Evaluation) -> float | None:
        value = float(self._metrics[name](evaluation.labels, evaluation.probabilities))
        if math.isfinite(value):
            return value
        if name == self._best_metric:
            raise ValueError(f"it gave {value}, and train.best_metric needs a finite number")
        return None

    def _ask(self, record: dict[str, Any], trainer: "Trainer") -> bool:
        assert self._on_evaluation is not None
        answer = self._on_evaluation(record, trainer)
        if answer is not None and not isinstance(answer, (bool, np.bool_)):
            raise TypeError(f"it gave {answer!r:.80}, expected True to end the run, False or None")
        return bool(answer)

    def _call(self, what: str, function: Callable[..., Any], *arguments: Any) -> Any:
        result, error = None, None
        try:
            result = function(*arguments)
        except Exception as problem:  # the code of a user raises anything
            error = problem
        if self._parallel.any_host(error is not None):
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}" if error else "on another host"
            raise HookError(f"{what}: failed ({reason})") from error
        return result
