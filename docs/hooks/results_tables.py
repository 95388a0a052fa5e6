"""Puts the tables of `results/` into the pages.

`<!-- table: FOLDER -->` or `<!-- table: FOLDER NAME -->`: of the folder's README.md, which `amsdff experiments` and
`amsdff plan` write, the first, or the one under the heading that begins with this name.

`<!-- benchmarks: FOLDER -->`: of every JSON file in the folder, which `amsdff benchmark --output=FILE` writes.
`<!-- models: FOLDER -->`: the same in one table, one model per file.

A link before a mark is for those who read the page where nothing is put in, and goes.
"""

import re
from pathlib import Path

from mkdocs.exceptions import PluginError

from amsdff_jax.base.files import read_json
from amsdff_jax.benchmark.summary import make_model_table, to_page
from amsdff_jax.reporting.table import to_markdown

LINK = r"^(?:\[[^\]]*\]\(\S+\) )?"
BENCHMARKS = re.compile(LINK + r"<!-- benchmarks: (\S+) -->$", re.MULTILINE)
MODELS = re.compile(LINK + r"<!-- models: (\S+) -->$", re.MULTILINE)
MARK = re.compile(LINK + r"<!-- table: (\S+?)(?: (\S+))? -->$", re.MULTILINE)
NOTHING = "Nothing has been measured yet."
TABLE = re.compile(r"^\|.*\|\n(?:\|.*\|\n?)+", re.MULTILINE)


def on_page_markdown(markdown, page, config, **_):
    """Replaces every mark of a page."""
    results = Path(config.config_file_path).parent / "results"
    markdown = BENCHMARKS.sub(lambda mark: "\n\n".join(map(to_page, _measured(results / mark[1]))) or NOTHING, markdown)
    markdown = MODELS.sub(lambda mark: _models(_measured(results / mark[1])), markdown)
    return MARK.sub(lambda mark: _table(results / mark[1] / "README.md", mark[2], page.file.src_uri), markdown)


def _models(measured: list) -> str:
    return to_markdown(make_model_table(measured)) if measured else NOTHING


def _measured(folder: Path) -> list:
    return [read_json(file, "what amsdff benchmark writes") for file in sorted(folder.glob("*.json"))]


def _table(report: Path, dataset: str | None, page: str) -> str:
    text = report.read_text(encoding="utf-8") if report.exists() else ""
    if dataset:
        text = text.partition(f"\n## {dataset}:")[2]
    found = TABLE.search(text)
    if not found:
        raise PluginError(f"{page}: {report} has no table{f' of {dataset}' if dataset else ''}")
    return found[0].rstrip()
