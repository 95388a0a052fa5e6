"""The report's pictures show what there is."""

import pytest

from amsdff_jax.evaluation.plots import plot_learning_curves


@pytest.mark.parametrize("number", [1, 2])
def test_learning_curves_show_every_record(number):
    records = [
        {"kind": kind, "step": step, "loss": 0.5, "accuracy": 0.7, "macro_f1": 0.6}
        for step in range(1, number + 1)
        for kind in ("train", "validation")
    ]
    for axes in plot_learning_curves(records, 1, "macro_f1").axes:
        curves = [line for line in axes.lines if not line.get_label().startswith("kept")]
        assert len(curves) == (3 if axes.get_title() == "accuracy" else 2)
        for line in curves:  # a line needs two points to be seen
            assert len(line.get_xdata()) == number
            assert number > 1 or line.get_marker() == "o"
