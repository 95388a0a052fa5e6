"""What a plan estimates and writes; what is compiled for TPUs is in `tests/tpu`."""

import json
import sys

import jax
import numpy as np
import pytest

from amsdff_jax.base.errors import UserError
from amsdff_jax.benchmark import plan as planning
from amsdff_jax.benchmark.plan import StepPlan, plan_run
from amsdff_jax.benchmark.plan_report import CHIPS, report_plan
from amsdff_jax.config import Config
from amsdff_jax.parallel import data_parallel
from amsdff_jax.parallel.collectives import Collective
from amsdff_jax.parallel.topology import Chip, Topology, find_topology

CHIP = Chip(flops=100.0, memory=1000.0, memory_bandwidth=10.0, link_bandwidth=4.0)
SUMS = [Collective("all-reduce", 7), Collective("all-reduce", 25)]


def make_plan(chips, sums=SUMS, flops=300.0, mode="sharded"):
    return StepPlan(f"v0:{chips}x1", mode, CHIP, chips, 6, 5, 40, 80, 130, 290, sums, flops, traffic=20.0)


def test_a_step_takes_the_longer_of_arithmetic_and_memory_and_then_its_sums():
    assert make_plan(1, []).seconds == 3.0  # arithmetic
    assert make_plan(1, [], flops=100.0).seconds == 2.0  # memory
    # A chip sends half of the 32 bytes to the other one, and a half of the sums: over the one link between them.
    assert make_plan(2).link_seconds == 32 / 4
    # Of three, a third twice and the sums twice, half over each of two links.
    assert make_plan(3).link_seconds == pytest.approx(2 * 2 / 3 * 32 / 8)
    # What is gathered, and sums of which each gets a part, go round once.
    parts = [Collective("all-gather", 9), Collective("reduce-scatter", 15)]
    assert make_plan(3, parts).link_seconds == pytest.approx(2 / 3 * 24 / 8)
    assert make_plan(3).seconds == 3.0 + make_plan(3).link_seconds


def test_growth_is_that_of_the_sums_alone():
    plan = make_plan(4)
    assert plan.seconds_on(1) == plan.computing_seconds
    links = [plan.link_seconds_on(chips) for chips in CHIPS[2:]]
    assert links == sorted(links)
    assert links[-1] < 2 * 32 / 8  # what a ring without end would take
    assert plan.seconds_on(4) == plan.seconds


def test_memory_says_how_many_texts_a_chip_takes():
    plan = make_plan(4)
    assert plan.largest_rows == 18  # 870 bytes are free, and 6 texts take 290
    assert plan._replace(held=2000).largest_rows == 0


def test_the_report_is_written_and_printed(tmp_path, capsys):
    plans = [make_plan(1, []), make_plan(4), make_plan(4, [Collective("all-gather", 3_000_000)], mode="fsdp")]
    report_plan(plans, "name_of_run", tmp_path / "new" / "plan")
    folder = tmp_path / "new" / "plan"
    assert {file.name for file in folder.iterdir()} == {"README.md", "plan.json", "growth.png"}
    first, second, third = json.loads((folder / "plan.json").read_text())
    assert (first["seconds"], second["collectives"][1]) == (3.0, {"kind": "all-reduce", "size": 25})
    assert (second["mode"], third["mode"]) == ("sharded", "fsdp")
    text = (folder / "README.md").read_text()
    assert "| v0:4x1 | fsdp | 0 | 0.0 | 1 | 3 | 0 |" in text  # gathered, summed
    assert text.startswith("# name_of_run\n")
    assert "\n## Memory: MB of a chip\n" in text
    assert text.count("\n| 256 | ") == 1  # growth is estimated once
    per_chip = make_plan(4).speed / 4 / make_plan(1, []).speed
    assert f"what a chip does of v0:1x1: v0:4x1 {per_chip:.0%}." in text
    assert "v0:4x1" in capsys.readouterr().out


def test_one_chip_has_nothing_to_grow_by(capsys):
    report_plan([make_plan(1, [])], "run", None)
    assert "Growth" not in capsys.readouterr().out


@pytest.fixture
def planned(tiny_encoder, monkeypatch):
    """A function that plans for two devices of this machine, called a slice."""

    def plan(modes=(), **changes):
        monkeypatch.setattr(planning, "find_topology", lambda name: Topology(name, CHIP, jax.devices()[:2]))
        config = Config().replace(
            **{
                "model": {"name": "linear", "num_classes": 3, "encoder": str(tiny_encoder), "num_attention_heads": 4},
                "data__max_length": 32,
                "train__batch_size": 6,
            }
            | changes
        )
        return plan_run(config, ["v0:2x1"], modes)

    return plan


def test_a_plan_tells_the_sizes_of_the_run_and_what_splitting_saves(planned, tiny_encoder, monkeypatch):
    from amsdff_jax.models.registry import make_model
    from amsdff_jax.models.variables import Variables

    monkeypatch.setattr(data_parallel, "SMALLEST_SPLIT", 500)
    plan, split = planned(modes=("sharded", "fsdp"))
    assert (plan.mode, split.mode) == ("sharded", "fsdp")
    model = make_model(Config().replace(model={"name": "linear", "num_classes": 3, "encoder": str(tiny_encoder)}).model)
    parameters = sum(np.asarray(value).nbytes for value in jax.tree.leaves(Variables.of(model).trainable))
    assert (plan.chips, plan.rows, plan.length, plan.weights) == (2, 3, 32, parameters)
    assert 2 * parameters <= plan.optimizer < 2 * parameters + 100  # two moments, and counters
    assert plan.weights + plan.optimizer <= plan.held
    # Every gradient is summed, some in the type of the products.
    assert sum(collective.size for collective in plan.collectives) >= parameters / 2
    assert {collective.kind for collective in plan.collectives} == {"all-reduce"}
    assert plan.flops > 0
    assert plan.traffic > plan.held
    for name in ("weights", "optimizer"):
        assert getattr(plan, name) / 2 <= getattr(split, name) < 0.6 * getattr(plan, name)
    assert split.held < plan.held
    # Weights are gathered once, and nothing else is.
    assert parameters / 2 <= split.bytes_sent("all-gather") <= parameters


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model__num_classes": 0},
            "model.num_classes: 0 stands for as many as the data has, and a plan reads no data",
        ),
        ({"data__max_length": 41}, "data.max_length: expected at most 40, the encoder's positions, got 41"),
        ({"train__accumulation_steps": 3}, "train.accumulation_steps: expected 1, got 3; .*train.batch_size=2"),
        (
            {"model__name": "gru"},
            "model.name: gru cannot be planned; the compiler counts its loop over the tokens once",
        ),
    ],
)
def test_what_cannot_be_planned_is_refused(planned, changes, message):
    with pytest.raises(UserError, match=message):
        planned(**changes)


@pytest.mark.parametrize("name", ["v5e", "v5e:", "v5:2x2", "v5e:0x2", "v5e:2", "v5e:2x2x2x2", "2x2", ""])
def test_a_slice_is_a_chip_and_a_shape(name):
    with pytest.raises(UserError, match=r"^--topology: no slice .*expected a chip \(v5e, v5p, v6e\) and a shape"):
        find_topology(name)


def test_without_libtpu_a_plan_says_what_it_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "libtpu", None)
    with pytest.raises(UserError, match=r"^--topology: libtpu.* is not installed: pip install libtpu"):
        find_topology("v5e:2x2")
