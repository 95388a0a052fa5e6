"""Whole runs from Python: what `amsdff train` and `amsdff evaluate` call."""

from amsdff_jax.prediction.evaluate import evaluate_model, evaluate_run
from amsdff_jax.training.train_run import make_trainer, train_run

__all__ = ["evaluate_model", "evaluate_run", "make_trainer", "train_run"]
