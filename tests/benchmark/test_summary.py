"""The tables of a comparison say what was measured, who was fastest, and who was not there."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from amsdff_jax.base.files import import_file, write_json
from amsdff_jax.benchmark.summary import describe, make_table, print_comparison, to_page

ROOT = Path(__file__).parents[2]


def measured(side, dtype, kind, median):
    quartiles = [median * 0.9, median * 1.1]
    return {"side": side, "dtype": dtype, "kind": kind, "shape": "4x10", "median": median, "quartiles": quartiles,
            "first_call": 20.0, "first_call_cached": 2.0}  # fmt: skip


@pytest.fixture
def comparison():
    results = [
        measured("amsdff-jax", "float32", "inference", 0.5), measured("torch-sdpa", "float32", "inference", 1.0),
        measured("torch-sdpa", "bfloat16", "inference", 0.8), measured("onnxruntime", "int8", "inference", 0.1),
        measured("amsdff-jax", "float32", "train step", 2.0), measured("torch-sdpa", "float32", "train step", 1.0),
        measured("torch-sdpa", "bfloat16", "train step", 3.0) | {"failed": "OutOfMemoryError: too large"},
    ]  # fmt: skip
    return {
        "environment": {"device": "a processor", "platform": "cpu", "cores": 2, "load": 0.1, "busy": False,
                        "versions": {"jax": "0.10.2"}},
        "plan": {"model": "minilm", "rounds": 3, "shapes": [[4, 10]]},
        "results": results,
        "missing": {"torch-compile bfloat16": "no compiler", "torch-eager": "not compared"},
        "matrix_rate": {"amsdff-jax float32": 80e9, "torch-sdpa float32": 100e9, "amsdff-jax bfloat16": 200e9},
        "matrix_operations": {"4x10": 10e9},
        "peak_memory": {f"{row['side']} {row['dtype']}": 3e9 for row in results},
        "epochs": {},
        "differences": {"torch-sdpa float32": 2e-6},
        "agree": True,
    }  # fmt: skip


def test_a_row_for_each_call_and_one_for_each_rival_that_is_missing(comparison):
    table = make_table(comparison)
    titles = [column.title for column in table.columns]
    rows = {tuple(row[:3]): dict(zip(titles, row, strict=True)) for row in table.rows}
    ours = rows["inference 4x10", "amsdff-jax", "float32"]
    assert (ours["ms"], ours["spread"], ours["tokens/s"]) == ("500.0", "20%", "80")
    assert ours["MFU"] == "20%"  # 10 GFLOP in 0.5 s, of 100 GFLOP/s
    assert ours["first call s (cached)"] == "20.0 (2.0)" and ours["500 steps s"] == ""
    step = rows["train step 4x10", "amsdff-jax", "float32"]
    assert (step["MFU"], step["500 steps s"]) == ("15%", "1018.0")  # three passes; 20 + 499 x 2
    # The fastest rival in floating point computed with bfloat16; int8 is beside it.
    ratios = [row["times best rival"] for row in rows.values()]
    assert ratios == ["1.60", "0.80", "1.00", "8.00", "0.50", "1.00", "", "", ""]
    assert rows["inference 4x10", "onnxruntime", "int8"]["MFU"] == ""
    why = {names[1:]: row["why not"] for names, row in rows.items() if row["why not"]}
    assert why == {
        ("torch-sdpa", "bfloat16"): "OutOfMemoryError: too large",
        ("torch-compile", "bfloat16"): "no compiler", ("torch-eager", ""): "not compared",
    }  # fmt: skip


def test_a_busy_machine_and_a_run_without_rivals_are_told_above_the_table(comparison):
    assert "a processor; load average 0.10 on 2 cores; jax 0.10.2" in describe(comparison)[0]
    comparison["environment"]["busy"] = True
    assert "busy" in describe(comparison)[0]
    comparison["results"] = comparison["results"][:1]
    assert "No rival could be measured" in describe(comparison)[0]


def test_terminal_and_documentation_show_the_same(comparison, tmp_path, capsys):
    comparison["epochs"] = {
        "amsdff-jax": {"texts": 30, "seconds": 2.0, "start_to_first_step": 1.0},
        "torch-sdpa, padded as needed": {"texts": 30, "seconds": 5.0},
    }
    print_comparison(comparison)
    printed = capsys.readouterr().out
    page = to_page(comparison)
    for text in ("500.0", "no compiler", "2.50", "torch-sdpa float32 2.0e-06"):
        assert text in printed and text in page

    pytest.importorskip("mkdocs", reason="needs the extra docs")
    hook = import_file(ROOT / "docs" / "hooks" / "results_tables.py")
    config = SimpleNamespace(config_file_path=str(tmp_path / "mkdocs.yml"))
    shown = lambda: hook.on_page_markdown("A\n\n<!-- benchmarks: gpu -->\n", None, config)  # noqa: E731
    assert "Nothing has been measured yet." in shown()
    (tmp_path / "results" / "gpu").mkdir(parents=True)
    write_json(tmp_path / "results" / "gpu" / "h100.json", comparison)
    assert page in shown()
    models = hook.on_page_markdown("<!-- models: gpu -->\n", None, config)
    assert "| minilm | train step 4x10, float32 | 2000 | 1000 | 0.50 | 20.0 |" in models
