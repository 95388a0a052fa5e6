"""Rows of Parquet files, of which only the asked columns are decoded."""

import contextlib
import io
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from amsdff_jax.base.errors import UserError
from amsdff_jax.data.lines import LONGEST_TEXT
from amsdff_jax.data.rows import Row, empty_file, require_columns

MOST_ROWS = 1024  # decoded at once
BATCH_BYTES = 1 << 26  # of values decoded at once, taken on average
BUFFER = 1 << 20  # bytes of a column read at once
TOO_LARGE = f"expected values of at most {LONGEST_TEXT:,} bytes"
LARGEST_PACKED = 1 << 33  # bytes of a file that was packed as a whole, which is unpacked to the disk


def parquet_rows(path: str, stream: BinaryIO, packed: bool, columns: Sequence[str] | None) -> Iterator[Row]:
    """The rows of a Parquet file.

    Values have Python's types, but for points in time, which are text: Python's have no nanoseconds and no year 10,000.
    A text that is not valid UTF-8 is `bytes`.

    Args:
      packed: the stream is being unpacked and cannot be read from its end.
      columns: the only ones that are decoded and whose names must be distinct; None: all.

    Raises:
      UserError: the file holds nothing, lacks a column, or cannot be read on.
    """
    import pyarrow
    import pyarrow.parquet

    with contextlib.ExitStack() as files:
        if packed:
            stream = _unpacked(path, stream, files.enter_context(tempfile.TemporaryFile()))
        if not stream.seek(0, io.SEEK_END):
            raise empty_file(path)
        try:
            parquet = pyarrow.parquet.ParquetFile(stream, buffer_size=BUFFER, pre_buffer=False)
            names = parquet.schema_arrow.names
            asked = names if columns is None else columns
            require_columns(path, asked, names)
            first = 1
            for group in range(parquet.num_row_groups):
                yield from _group_rows(parquet, group, first, asked)
                first += parquet.metadata.row_group(group).num_rows
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:  # the last of a column's name
            raise UserError(f"{path}: not a readable Parquet file ({str(error).splitlines()[0]})") from None


def _unpacked(path: str, stream: BinaryIO, file: BinaryIO) -> BinaryIO:
    while part := stream.read(BUFFER):
        if file.tell() + len(part) > LARGEST_PACKED:
            raise UserError(f"{path}: holds more than {LARGEST_PACKED >> 30} GiB; unpack it")
        file.write(part)
    return file


def _group_rows(parquet: Any, group: int, first: int, columns: Sequence[str]) -> Iterator[Row]:
    """The rows of a row group of a `pyarrow.parquet.ParquetFile`, of which the first is row `first` of the file."""
    metadata = parquet.metadata.row_group(group)
    rows = metadata.num_rows
    sizes = dict.fromkeys(columns, 0)  # bytes, unpacked
    # Only where it matters: pyarrow ends the process where what a file says of a column is damaged.
    for index in range(metadata.num_columns if metadata.total_byte_size > LONGEST_TEXT else 0):
        chunk = metadata.column(index)
        name = next((name for name in columns if f"{chunk.path_in_schema}.".startswith(f"{name}.")), None)
        if name is not None:
            sizes[name] += chunk.total_uncompressed_size
    # A value that is much too large would be held before its own size is known.
    largest = max(sizes, key=lambda name: sizes[name], default="")
    if largest and sizes[largest] > rows * LONGEST_TEXT:
        last = first + rows - 1
        place = f"row {first}" if rows == 1 else f"rows {first} to {last}"
        for number in range(first, last + 1):
            yield Row(f"row {number}", {}, f"{place}, column {largest!r}: {sizes[largest]:,} bytes; {TOO_LARGE}")
        return
    batch_size = min(MOST_ROWS, max(1, BATCH_BYTES * rows // max(1, sum(sizes.values()))))
    for batch in parquet.iter_batches(batch_size=batch_size, row_groups=[group], columns=list(columns)):
        yield from _batch_rows(batch, first)
        first += len(batch)


def _batch_rows(batch: Any, first: int) -> Iterator[Row]:
    """The rows of a `pyarrow.RecordBatch` of which the first is row `first` of the file."""
    columns = {name: _plain(column) for name, column in zip(batch.schema.names, batch.columns, strict=True)}
    # Sizes before values, for Python takes many times the memory; one by one only where one may be too large.
    step = len(batch) if sum(column.nbytes for column in columns.values()) <= LONGEST_TEXT else 1
    for start in range(0, len(batch), step or 1):
        part = {name: column.slice(start, step) for name, column in columns.items()}
        place = f"row {first + start}"
        large = next((name for name, column in part.items() if column.nbytes > LONGEST_TEXT), None)
        if step == 1 and large is not None:
            yield Row(place, {}, f"{place}, column {large!r}: {part[large].nbytes:,} bytes; {TOO_LARGE}")
            continue
        values = [_values(column) for column in part.values()]
        for number, row in enumerate(zip(*values, strict=True), start=first + start):
            yield Row(f"row {number}", dict(zip(part, row, strict=True)))


def _plain(column: Any) -> Any:
    import pyarrow

    return column.dictionary_decode() if pyarrow.types.is_dictionary(column.type) else column


def _values(column: Any) -> list[Any]:
    """The values of a `pyarrow.Array`; a single one that Python has no type for is described by Arrow."""
    import pyarrow

    kind = column.type
    types = pyarrow.types
    if types.is_temporal(kind) and not types.is_duration(kind) and not types.is_interval(kind):
        with contextlib.suppress(pyarrow.ArrowException):  # of a time zone that is not installed
            return column.cast(pyarrow.string()).to_pylist()
    try:
        return column.to_pylist()
    except (ValueError, OverflowError, pyarrow.ArrowException):
        return [_value(column.slice(index, 1)) for index in range(len(column))]


def _value(column: Any) -> Any:
    """The value of an array of one."""
    import pyarrow

    try:
        return column.to_pylist()[0]
    except UnicodeDecodeError as error:
        return error.object if isinstance(error.object, bytes) else bytes(error.object)
    except (ValueError, OverflowError, pyarrow.ArrowException):
        return column.to_string(skip_new_lines=True).removeprefix("[").removesuffix("]").strip()
