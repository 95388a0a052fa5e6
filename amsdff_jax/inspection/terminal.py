"""An inspection on a terminal: first what needs attention, then tables."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from amsdff_jax.inspection.corpus import Sample
from amsdff_jax.inspection.results import Inspection
from amsdff_jax.inspection.tables import (
    NumberTable,
    bucket_table,
    class_table,
    duplicate_table,
    length_table,
    script_table,
    text_issue_table,
    truncation_table,
)

EXAMPLES = 3  # of each finding
_LONGEST_TABLE = 40  # rows; of a longer one, the first and the last half
_EXCERPT = 110


def print_inspection(inspection: Inspection, console: Console) -> None:
    """Prints everything; nothing of a text is taken for markup."""
    if not inspection.findings:
        console.print("Nothing needs attention: no leak, no conflict, no odd text.", highlight=False)
    for finding in inspection.findings:
        style = "bold yellow" if finding.kind == "warning" else "cyan"
        console.print(Text.assemble((f"{finding.kind}: ", style), finding.message), soft_wrap=True)
        for match in finding.examples[:EXAMPLES]:
            for number, sample in enumerate(match.samples):
                console.print(_line(sample, "    " if number else "  - "), soft_wrap=True)
    tables = [class_table, length_table, truncation_table, bucket_table, duplicate_table, script_table]
    if inspection.text_issues:
        tables.append(text_issue_table)
    for table in tables:
        console.print()
        console.print(_table(table(inspection)))


def _line(sample: Sample, start: str) -> Text:
    text = sample.text if sample.text_pair is None else f"{sample.text} | {sample.text_pair}"
    short = text if len(text) <= _EXCERPT else text[:_EXCERPT] + "…"
    return Text.assemble(start, (f"{sample.split} {sample.id} [{sample.label}] ", "dim"), short)


def _table(numbers: NumberTable) -> Table:
    table = Table(title=Text(numbers.title), title_justify="left")
    for index, column in enumerate(numbers.columns):
        table.add_column(Text(column), justify="right" if index else "left", overflow="fold")
    left_out = len(numbers.rows) - _LONGEST_TABLE
    for number, row in enumerate(numbers.rows):
        if left_out > 0 and number == _LONGEST_TABLE // 2:
            table.add_row(f"… {left_out} more")
        if left_out <= 0 or not _LONGEST_TABLE // 2 <= number < _LONGEST_TABLE // 2 + left_out:
            table.add_row(*map(Text, row), style="bold" if number == numbers.chosen else None)
    return table
