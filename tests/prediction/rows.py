"""Texts to predict, in files of every kind."""

import csv
import gzip
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet

from amsdff_jax.config import DataConfig
from tests.conftest import make_texts

NAMES = ("low", "high", "other")
TEXTS = [*make_texts(37, 3)[0], "", 'say "w1"\nw2, w3', "😀 \u2028 w4"]
BODY = DataConfig(text_column="body")


def read_lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


def write_file(path):
    if "*" in path.name:  # in two files
        whole = Path(write_file(path.with_name("whole.csv"))).read_bytes()
        header, body = whole.split(b"\r\n", 1)
        first, rest = body.split(b"\r\n", 1)
        for name, part in (("part2.csv", rest), ("part1.csv", first)):
            path.with_name(name).write_bytes(header + b"\r\n" + part)
        return str(path)
    values = [{"id": number, "body": text} for number, text in enumerate(TEXTS)]
    if "parquet" in path.name:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(values), path)
    else:
        with (gzip.open if path.suffix == ".gz" else open)(path, "wt", encoding="utf-8", newline="") as stream:
            if "jsonl" in path.name:
                stream.writelines(json.dumps(value, ensure_ascii=False) + "\n" for value in values)
            else:
                writer = csv.DictWriter(stream, values[0], delimiter="\t" if "tsv" in path.name else ",")
                writer.writeheader()
                writer.writerows(values)
    return str(path)
