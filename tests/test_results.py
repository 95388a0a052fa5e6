"""The tables that the experiments have written are in the documentation."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
REPORTS = sorted((ROOT / "results").glob("*/README.md"))
EXPERIMENTS = [report for report in REPORTS if (report.parent / "runs").is_dir()]
TITLED = {"plan": "devices.md", "label-noise": "data.md"}  # reports of several tables, and the pages that show them


@pytest.mark.parametrize("report", EXPERIMENTS, ids=[report.parent.name for report in EXPERIMENTS])
def test_the_documentation_shows_the_table_of_all_models(report):
    assert report.read_text(encoding="utf-8").split("\n\n")[1].startswith(("| accuracy % |", "| micro F1 % |"))
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    name = report.parent.name  # the table is put there when the pages are built, and in a clone there is a link
    assert f"](../results/{name}/README.md) <!-- table: {name} -->\n" in page


@pytest.mark.parametrize("name", TITLED)
def test_the_documentation_shows_every_table_of_a_report(name):
    assert {report.parent.name for report in set(REPORTS) - set(EXPERIMENTS)} == set(TITLED)
    report = ROOT / "results" / name / "README.md"
    titles = [line for line in report.read_text(encoding="utf-8").splitlines() if line.startswith("## ")]
    assert titles
    page = (ROOT / "docs" / TITLED[name]).read_text(encoding="utf-8")
    for title in titles:
        assert f"<!-- table: {report.parent.name} {title[3:].partition(':')[0]} -->\n" in page
