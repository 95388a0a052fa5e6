"""All that an inspection finds, as one object."""

import dataclasses

from amsdff_jax.inspection.agreement import Agreement
from amsdff_jax.inspection.class_balance import ClassBalance
from amsdff_jax.inspection.duplicates import Duplicates
from amsdff_jax.inspection.encodings import TextIssue
from amsdff_jax.inspection.findings import Finding
from amsdff_jax.inspection.label_issues import LabelIssues
from amsdff_jax.inspection.lengths import Buckets, Lengths
from amsdff_jax.inspection.writing_systems import WritingSystems


@dataclasses.dataclass(frozen=True)
class Inspection:
    """What the texts of a config are like."""

    name: str  # what reports call it
    sources: dict[str, str]  # split -> the name of its dataset, such as a file's path
    tokenizer: str  # where it is from, as the config names it
    max_length: int  # the config's, in tokens
    findings: tuple[Finding, ...]  # what needs attention, warnings first
    classes: ClassBalance
    lengths: tuple[Lengths, ...]
    buckets: tuple[Buckets, ...]  # for training; first those that the config leads to
    duplicates: Duplicates
    text_issues: tuple[TextIssue, ...]
    writing_systems: tuple[WritingSystems, ...]
    labels: LabelIssues | None = None  # None: they were not looked at
    agreement: tuple[Agreement, ...] = ()  # of raters, in every split that has any
