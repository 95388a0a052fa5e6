"""Looks at all texts that a config names and tells what they are like."""

import contextlib
import dataclasses
import errno
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.escaping import printable
from amsdff_jax.base.files import folder_of, user_errors, user_path, write_json, write_text
from amsdff_jax.base.validation import require
from amsdff_jax.config import Config
from amsdff_jax.data.file_sets import would_read
from amsdff_jax.data.saved_tokenizer import Tokenizer
from amsdff_jax.data.sources import DataSplits, complete_splits, load_source
from amsdff_jax.data.tokenization import load_tokenizer
from amsdff_jax.inspection.agreement import measure_agreement
from amsdff_jax.inspection.class_balance import count_classes
from amsdff_jax.inspection.corpus import Corpus
from amsdff_jax.inspection.duplicates import find_duplicates
from amsdff_jax.inspection.encodings import find_text_issues
from amsdff_jax.inspection.findings import collect_warnings
from amsdff_jax.inspection.label_check import check_labels
from amsdff_jax.inspection.label_files import check_new, removed_file
from amsdff_jax.inspection.label_issues import LabelIssues
from amsdff_jax.inspection.lengths import measure_lengths
from amsdff_jax.inspection.results import Inspection
from amsdff_jax.inspection.show import print_inspection, render_page
from amsdff_jax.inspection.writing_systems import find_writing_systems
from amsdff_jax.interop.hub import find_tokenizer
from amsdff_jax.reporting.console import make_console

logger = logging.getLogger(__name__)


def inspect_data(
    config: Config,
    name: str,
    output: str | Path,
    json_file: str | Path = "",
    similarity: float = 0.8,
    labels: bool = False,
    apply: str = "",
    fraction: float = 0.0,
) -> Inspection:
    """Inspects the splits that `config` names, prints what is found and writes it as a page.

    Needs the encoder's tokenizer, and its weights only if labels are judged.

    Args:
      config: the settings that training would have.
      name: what the page calls the data.
      output: the HTML file; folders are made, a file of that name is replaced.
      json_file: the same as JSON; "": none.
      similarity: see `find_duplicates`.
      labels: whether the labels of the training split are judged; all of them, ranked, are written beside the page.
      apply, fraction: as for `check_labels`; "": no cleaned file.

    Returns:
      All that was found.

    Raises:
      UserError: anything wrong with settings, data, tokenizer or the files to write.
    """
    require(0.6 <= similarity <= 1, "--similarity", similarity, "from 0.6 to 1")
    files = [user_path(file) for file in (output, json_file) if file]
    ranking = files[0].with_suffix(".labels.csv")
    cleaned = check_new(apply) if apply else None
    written = [*files, ranking] if labels else files
    names = [(file, str(file)) for file in written]
    names += [(file, f"--apply={apply}") for file in (cleaned, removed_file(cleaned))] if cleaned else []
    _check_distinct(config, names)
    with contextlib.ExitStack() as folders:
        for file, place in names:  # before the work, not after it
            with user_errors(place, "written", "name another file"):
                folders.enter_context(folder_of(file))
                if file.is_dir():
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        tokenizer = load_tokenizer(find_tokenizer(config.data.tokenizer, config.model.encoder))
        source = load_source(config.data, config.task.kind)
        source[0].require_single(f"amsdff inspect{' --labels' * labels}", certain=labels)
        issues = check_labels(config, source[0], tokenizer, ranking, cleaned, fraction) if labels else None
        splits = complete_splits(source, config.data, config.seed)
        inspection = inspect_splits(splits, tokenizer, config, name, similarity, issues)
        for file in files:
            with user_errors(file, "written", "name another file"):
                if file == files[0]:
                    write_text(file, render_page(inspection))
                else:
                    write_json(file, dataclasses.asdict(inspection))
    # After the files, so that a reader who closes the pipe early does not lose them.
    console = make_console()
    print_inspection(inspection, console)
    for file in written:
        console.print(f"written: {printable(str(file))}", soft_wrap=True)
    return inspection


def _check_distinct(config: Config, written: Sequence[tuple[Path, str]]) -> None:
    """Raises `UserError` if a file would be written over another one, or over the data's, or be read as one of them."""
    taken: dict[Path, str] = {}
    paths = (config.data.train_file, config.data.validation_file, config.data.test_file)
    paths = [path for path in paths if path and config.data.source == "files"]
    for file, place in written:
        reason = taken.get(file.resolve())
        if any(would_read(path, file) for path in paths):
            reason = "holds the data" if file.exists() else "would be read as the data are"
        if reason:
            raise UserError(f"{place}: {file} {reason}; name another file")
        taken[file.resolve()] = "is written for another of the flags --output, --json, --labels and --apply"


def inspect_splits(
    splits: DataSplits,
    tokenizer: Tokenizer,
    config: Config,
    name: str = "data",
    similarity: float = 0.8,
    labels: LabelIssues | None = None,
) -> Inspection:
    """Inspects datasets that are in memory; see `inspect_data`. `labels` is what `check_labels` says of them."""
    corpus = Corpus(splits)
    logger.info("tokenizing %d texts", len(corpus))
    lengths, buckets = measure_lengths(corpus, tokenizer, config)
    logger.info("looking for duplicates")
    duplicates = find_duplicates(corpus, similarity)
    logger.info("looking at encodings and scripts")
    classes, text_issues = count_classes(corpus), find_text_issues(corpus)
    writing_systems = find_writing_systems(corpus)
    agreement = measure_agreement(corpus, ordered=config.task.kind == "ordinal")
    return Inspection(
        name=printable(name),
        sources={split: printable(data.name) for split, data in zip(corpus.names, corpus.datasets, strict=True)},
        tokenizer=printable(config.data.tokenizer or config.model.encoder),
        max_length=config.data.max_length,
        findings=collect_warnings(
            config, corpus, classes, agreement, lengths, duplicates, text_issues, writing_systems, labels
        ),
        classes=classes,
        lengths=lengths,
        buckets=buckets,
        duplicates=duplicates,
        text_issues=text_issues,
        writing_systems=writing_systems,
        labels=labels,
        agreement=agreement,
    )
