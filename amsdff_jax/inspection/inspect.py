"""Looks at all texts that a config names and tells what they are like."""

import dataclasses
import errno
import logging
import os
from pathlib import Path

from amsdff_jax.base.escaping import printable
from amsdff_jax.base.files import user_errors, user_path, write_json, write_text
from amsdff_jax.base.validation import require
from amsdff_jax.config import Config
from amsdff_jax.data.sources import DataSplits, load_data
from amsdff_jax.data.tokenization import PreTrainedTokenizerFast, load_tokenizer
from amsdff_jax.inspection.class_balance import count_classes
from amsdff_jax.inspection.corpus import Corpus
from amsdff_jax.inspection.duplicates import find_duplicates
from amsdff_jax.inspection.encodings import find_text_issues
from amsdff_jax.inspection.findings import collect_warnings
from amsdff_jax.inspection.lengths import measure_lengths
from amsdff_jax.inspection.results import Inspection
from amsdff_jax.inspection.show import print_inspection, render_page
from amsdff_jax.inspection.writing_systems import find_writing_systems
from amsdff_jax.interop.hub import find_tokenizer
from amsdff_jax.reporting.console import make_console

logger = logging.getLogger(__name__)


def inspect_data(
    config: Config, name: str, output: str | Path, json_file: str | Path = "", similarity: float = 0.8
) -> Inspection:
    """Inspects the splits that `config` names, prints what is found and writes it as a page.

    Needs the encoder's tokenizer, not its weights.

    Args:
      config: the settings that training would have.
      name: what the page calls the data.
      output: the HTML file; folders are made, a file of that name is replaced.
      json_file: the same as JSON; "": none.
      similarity: see `find_duplicates`.

    Returns:
      All that was found.

    Raises:
      UserError: anything wrong with settings, data, tokenizer or the files to write.
    """
    require(0.6 <= similarity <= 1, "--similarity", similarity, "from 0.6 to 1")
    files = [user_path(file) for file in (output, json_file) if file]
    require(len(files) == len(set(files)), "--json", json_file, "another file than --output")
    for file in files:  # before the work, not after it
        with user_errors(file, "written", "name another file"):
            file.parent.mkdir(parents=True, exist_ok=True)
            if file.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    tokenizer = load_tokenizer(find_tokenizer(config.data.tokenizer, config.model.encoder))
    splits = load_data(config.data, config.seed, config.task.kind)
    splits.require_single("amsdff inspect")
    inspection = inspect_splits(splits, tokenizer, config, name, similarity)
    for file in files:
        with user_errors(file, "written", "name another file"):
            if file == files[0]:
                write_text(file, render_page(inspection))
            else:
                write_json(file, dataclasses.asdict(inspection))
    # After the files, so that a reader who closes the pipe early does not lose them.
    console = make_console()
    print_inspection(inspection, console)
    for file in files:
        console.print(f"written: {printable(str(file))}", soft_wrap=True)
    return inspection


def inspect_splits(
    splits: DataSplits, tokenizer: PreTrainedTokenizerFast, config: Config, name: str = "data", similarity: float = 0.8
) -> Inspection:
    """Inspects datasets that are in memory; see `inspect_data`."""
    corpus = Corpus(splits)
    logger.info("tokenizing %d texts", len(corpus))
    lengths, buckets = measure_lengths(corpus, tokenizer, config)
    logger.info("looking for duplicates")
    duplicates = find_duplicates(corpus, similarity)
    logger.info("looking at encodings and scripts")
    classes, text_issues = count_classes(corpus), find_text_issues(corpus)
    writing_systems = find_writing_systems(corpus)
    return Inspection(
        name=printable(name),
        sources={split: printable(data.name) for split, data in zip(corpus.names, corpus.datasets, strict=True)},
        tokenizer=printable(config.data.tokenizer or config.model.encoder),
        max_length=config.data.max_length,
        findings=collect_warnings(config, corpus, classes, lengths, duplicates, text_issues, writing_systems),
        classes=classes,
        lengths=lengths,
        buckets=buckets,
        duplicates=duplicates,
        text_issues=text_issues,
        writing_systems=writing_systems,
    )
