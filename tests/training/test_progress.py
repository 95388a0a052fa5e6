"""Which evaluation is the best."""

import pytest

from amsdff_jax.training.progress import RunProgress


@pytest.mark.parametrize(
    ("values", "lower", "kept", "stale"),
    [
        ([0.5, 0.4, 0.6, 0.6], False, [True, False, True, False], 1),
        ([0.5, 0.4, 0.6, 0.6], True, [True, True, False, False], 2),
        ([None, None, 0.1, None, 0.2], False, [True, True, True, False, True], 0),
        ([None, None, None], False, [True, True, True], 2),
    ],
)
def test_only_what_is_better_ends_the_waiting(values, lower, kept, stale):
    """As long as a metric is not defined, as a correlation with a constant is, the last weights are kept."""
    progress = RunProgress("data", 9, ["a", "b"])
    found = [
        progress.add_evaluation({"step": step, "validation": {"metric": value}}, "metric", lower)
        for step, value in enumerate(values)
    ]
    assert found == kept and progress.stale_evaluations == stale
    assert progress.best_step == max(step for step, is_kept in enumerate(kept) if is_kept)
