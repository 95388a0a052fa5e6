"""The tables that the experiments have written are in the documentation."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
REPORTS = sorted((ROOT / "results").glob("*/README.md"))


@pytest.mark.parametrize("report", REPORTS, ids=[report.parent.name for report in REPORTS])
def test_the_documentation_shows_the_table_of_accuracies(report):
    assert report.read_text(encoding="utf-8").split("\n\n")[1].startswith("| accuracy % |")
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert f"<!-- table: {report.parent.name} -->\n" in page  # where the table is put when the pages are built
