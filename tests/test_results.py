"""The tables of results in docs/results.md are those that the experiments have written."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
REPORTS = sorted((ROOT / "results").glob("*/README.md"))


@pytest.mark.parametrize("report", REPORTS, ids=[report.parent.name for report in REPORTS])
def test_the_documentation_shows_the_table_of_accuracies(report):
    table = report.read_text(encoding="utf-8").split("\n\n")[1]
    assert table.startswith("| accuracy % |")
    assert table in (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
