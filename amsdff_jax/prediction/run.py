"""Labels whatever comes in, and writes what comes out."""

import itertools
import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.files import user_path
from amsdff_jax.config import DataConfig
from amsdff_jax.data.chunks import Pause
from amsdff_jax.data.file_sets import would_read
from amsdff_jax.data.texts import Text
from amsdff_jax.evaluation.model_card import recorded_columns
from amsdff_jax.prediction.classifier import BATCH_SIZE, Classifier
from amsdff_jax.prediction.inputs import Record, argument_records, check_pairs, file_records, standard_input_records
from amsdff_jax.prediction.lines import choose_format, error_of, make_layout
from amsdff_jax.prediction.outputs import Output
from amsdff_jax.prediction.prediction import AnyPrediction
from amsdff_jax.prediction.progress import describe_origin
from amsdff_jax.reporting.console import make_console

logger = logging.getLogger(__name__)


def predict(
    model: str,
    texts: Sequence[str] = (),
    file: str = "",
    data: DataConfig | None = None,
    *,
    keep_columns: Sequence[str] = (),
    output: str = "",
    format: str = "",
    resume: bool = False,
    top_k: int = 1,
    batch_size: int = BATCH_SIZE,
    compute_dtype: str = "",
    interrupted: Callable[[], bool] = lambda: False,
) -> bool:
    """Labels texts, the rows of a file, or else the lines of the standard input.

    Args:
      model: a model folder.
      texts: given one by one.
      file: CSV, TSV, JSON, JSONL or Parquet, packed or not, or several, as `read_file` takes them.
      data: names of the file's columns, and how a table is written; None: as the model was trained with.
      keep_columns: of the input, to be written beside the prediction.
      output: a file; "": the standard output.
      format: "jsonl" or "csv"; "": by the ending of `output`.
      resume: continue `output`, if it was begun with the same model, input and arguments. In the end a file's rows
        give the same bytes as without an interruption, on the same machine with the same `batch_size`; lines of the
        standard input give the same labels, but may be divided otherwise, which moves the last digit of a probability.
      top_k: number of classes to write for each text; of a model whose texts may have several labels 1 writes the
        probabilities of all, beside the labels.
      batch_size: texts that go through the model together.
      compute_dtype: "float32", "bfloat16" or "auto"; "": as saved.
      interrupted: asked after every chunk, whether to stop; a KeyboardInterrupt stops it sooner.

    Returns:
      Whether it came to the end; if not, an interrupt stopped it, and `resume` continues.

    Raises:
      UserError: anything wrong with the model, the input as a whole, or the output; a broken row is a record.
    """
    if texts and file:
        raise UserError(f"expected texts or --file, got both ({texts[0][:40]!r} and {file})")
    if resume and not output:
        raise UserError("--resume: continues a file; name it with --output")
    if file and output and would_read(file, user_path(output)):
        raise UserError(f"--output={output}: is one of the files of --file={file}, or would be; name another file")
    format = choose_format(output, format)
    data = (data or recorded_columns(model)) if file else DataConfig()
    records: Iterator[Record | Pause]
    if file:
        records = _begun(file_records(file, data, keep_columns))
    elif texts:
        records = argument_records(texts, keep_columns)
    else:
        if sys.stdin.isatty():
            logger.info("type one text a line; Ctrl-D ends")
        records = standard_input_records(keep_columns)
    classifier = Classifier.from_pretrained(user_path(model), batch_size=batch_size, compute_dtype=compute_dtype)
    check_pairs(classifier.saved.reads_pairs, data.text_pair_column)
    layout = make_layout(classifier, format, top_k, keep_columns)
    scored = None if layout.class_names and layout.top_k == 1 else layout.top_k
    flags = {
        "format": format,
        "top_k": layout.top_k,
        "text_column": data.text_column,
        "text_pair_column": data.text_pair_column,
        "keep_columns": list(keep_columns),
    }
    origin = describe_origin(model, classifier, flags) if output else None
    with Output(output, layout, origin, resume) as lines:
        if lines.done:
            logger.info("%s: resuming after row %d", output, lines.done)
        tally = _Tally(lines.done)
        try:
            with _progress(bool(output)) as progress:
                task = progress.add_task(f"{lines.done:,} rows")
                # `lines.done` grows, but what is to be skipped is what is there now.
                items = _items(records, lines, lines.done)
                for answers in classifier.annotate_chunks(items, scored, skip=lines.done):
                    lines.write(answers)
                    tally.add(answers)
                    progress.update(task, description=tally.progress)
                    if interrupted():
                        raise KeyboardInterrupt
            lines.finish()
        except KeyboardInterrupt:
            way_out = "; --resume continues with the next" if output else ""
            logger.info("stopped after row %d%s", lines.done, way_out)
            return False
    tally.finish(output)
    return True


def _begun(records: Iterator[Record]) -> Iterator[Record]:
    """The same, the first one read already: what is wrong with the whole file comes out before anything is written."""
    first = list(itertools.islice(records, 1))
    return itertools.chain(first, records)


def _items(records: Iterable[Record | Pause], lines: Output, done: int) -> Iterator[tuple[Record, Text | None] | Pause]:
    """What the classifier takes: every record with its text, those that the output holds already shown to it."""
    for record in records:
        if isinstance(record, Pause):
            yield record
            continue
        if record.row <= done:
            lines.skip(record)
        yield record, record.text


class _Tally:
    """Counts what was written."""

    def __init__(self, done: int):
        self._row = done
        self._written = self._truncated = self._errors = 0
        self._first_error = ""
        self._start = time.perf_counter()

    def add(self, answers: Iterable[tuple[Record, AnyPrediction | None]]) -> None:
        for record, prediction in answers:
            error = error_of(record, prediction)
            self._row = record.row
            self._written += 1
            self._truncated += prediction is not None and prediction.truncated
            self._errors += bool(error)
            self._first_error = self._first_error or error

    @property
    def progress(self) -> str:
        """One line of how far it is."""
        errors = f", {self._errors:,} with an error" if self._errors else ""
        return f"{self._row:,} rows{errors}, {self._written / (time.perf_counter() - self._start):,.0f}/s"

    def finish(self, output: str) -> None:
        """Says what was done; raises `UserError` if no row at all could be labelled."""
        if self._errors and self._errors == self._row:
            raise UserError(f"none of the {self._errors} rows could be labelled; the first: {self._first_error}")
        truncated = f", {self._truncated:,} of them truncated to the model's length" if self._truncated else ""
        errors = f"; {self._errors:,} could not be labelled, see their error" if self._errors else ""
        goes_to = f" to {output}" if output else ""
        seconds = time.perf_counter() - self._start
        logger.info("%s rows%s in %.1f s%s%s", f"{self._written:,}", goes_to, seconds, truncated, errors)


def _progress(writes_file: bool) -> Progress:
    """Shown on a terminal that does not show the predictions themselves."""
    shown = sys.stderr.isatty() and (writes_file or not sys.stdout.isatty())
    return Progress(
        SpinnerColumn("line"),  # in ASCII
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        console=make_console(stderr=True),
        transient=True,
        disable=not shown,
    )
