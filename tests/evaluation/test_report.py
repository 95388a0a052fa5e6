"""Tables are exact for programs, and harmless in a spreadsheet where they are for reading."""

import csv

import numpy as np
import pytest

from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.evaluation.evaluator import Evaluation
from amsdff_jax.evaluation.report import write_report

NAMES = ("=1+1", "-2", 'b,"c"', "@d\ne")
TEXTS = ["=HYPERLINK(1)", "+x", "-x", "@x", "\tx", "\rx", "x=1", "-1"]


@pytest.fixture
def report(tmp_path):
    """Files of a report on texts that are all taken for another class than theirs."""
    labels = np.arange(len(TEXTS)) % len(NAMES)
    logits = np.eye(len(NAMES), dtype=np.float32)[(labels + 1) % len(NAMES)]
    dataset = TextDataset(TEXTS, labels, NAMES, text_pairs=TEXTS[::-1], name="data")
    per_class = [{"class": name, "precision": 0.5} for name in NAMES]
    write_report(tmp_path, dataset, Evaluation(labels, logits, 0, 1.0), {"per_class": per_class})

    def read(name):
        with (tmp_path / name).open(newline="", encoding="utf-8") as stream:
            return list(csv.reader(stream))

    return read


def test_texts_and_names_in_the_table_of_errors_are_no_formulas(report):
    rows = report("errors.csv")[1:]
    assert [row[5] for row in rows] == ["'=HYPERLINK(1)", "'+x", "'-x", "'@x", "'\tx", "'\rx", "x=1", "-1"]
    assert [row[6] for row in rows] == [row[5] for row in rows][::-1]
    assert {row[1] for row in rows} == {row[2] for row in rows} == {"'=1+1", "-2", 'b,"c"', "'@d\ne"}


def test_names_in_the_other_tables_are_exact(report):
    assert [row[0] for row in report("confusion_matrix.csv")[1:]] == list(NAMES)
    assert [row[0] for row in report("per_class.csv")[1:]] == list(NAMES)
    assert [row[1] for row in report("predictions.csv")[1:]] == [*NAMES, *NAMES]
