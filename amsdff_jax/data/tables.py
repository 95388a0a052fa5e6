"""Rows of CSV and TSV files: separators, headers and quotes as people's programs write them."""

import csv
import logging
import re
from collections import deque
from collections.abc import Iterator, Sequence
from typing import BinaryIO, NamedTuple

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.validation import first_of
from amsdff_jax.config import DataConfig
from amsdff_jax.data.lines import LONGEST_TEXT, Line, decode_lines
from amsdff_jax.data.rows import Row, empty_file, require_columns

logger = logging.getLogger(__name__)

DELIMITERS = (",", "\t", ";", "|")
_NAMES = {"\t": "a tab"}  # other delimiters are shown as they are


def table_rows(
    path: str,
    stream: BinaryIO,
    columns: Sequence[str] | None,
    delimiter: str,
    config: DataConfig,
    whole: bool = False,
) -> Iterator[Row]:
    """The rows of a CSV or TSV file.

    Where `config.quoting` is "auto", quotes are those of CSV (RFC 4180), but between tabs a field is quoted only if
    that swallows no line that is a row by itself: most files of that kind have no quoting at all.

    Args:
      columns: those that rows hold, and whose names must be distinct; None: all.
      delimiter: the usual one of such files, which gives way to `config.delimiter`, to a first line such as `sep=;`,
        and to another one that makes the wanted columns of the header.
      whole: rows hold all columns, whose names must be distinct, beside `columns`, which the header must have.

    Raises:
      UserError: the file holds nothing, lacks a column, or cannot be read on.
    """
    csv.field_size_limit(4 * LONGEST_TEXT)  # lines and records have bounds of their own
    lines = _Lines(decode_lines(stream, "", path))
    records = _begin(path, lines, columns, delimiter, config)
    if whole:
        require_columns(path, records.header, records.header)
        if records.header.count("") > 1:
            raise UserError(f"{path}: has more than one column without a name; name them, or remove all but one")
    shown = records.header if columns is None or whole else columns
    wanted = [(name, records.header.index(name)) for name in shown]
    joined = 0
    while (record := records.read()) is not None:
        place = f"line {record.lines[0].number}"
        if record.hides_rows:
            joined += 1
            if joined == 1:
                last = record.lines[-1].number
                logger.warning(
                    f"{path}: {place}: a quote begins a field that ends in line {last}, though each of these lines "
                    "looks like a row; set quoting=none if quotes are letters, or quoting=double if this is one row"
                )
        if record.error:
            yield Row(place, {}, record.error)
        else:
            yield Row(place, {name: record.fields[index] for name, index in wanted})
    if joined > 1:
        logger.warning("%s: so do the lines of %d other rows", path, joined - 1)


def _begin(path: str, lines: "_Lines", columns: Sequence[str] | None, usual: str, config: DataConfig) -> "_Records":
    """The records behind the header, between the delimiter that fits it."""
    given = "\t" if config.delimiter == "\\t" else config.delimiter
    first = next(lines, None)
    if first is None:
        raise empty_file(path)
    if separator := re.fullmatch(r'"?sep=([^"\\\s]|\t)"?', first.rstrip("\r\n"), re.IGNORECASE):  # of Excel
        given = given or separator[1]
    else:
        lines.give_back(0)
    delimiters = list(dict.fromkeys((given or usual, *DELIMITERS)))
    if config.column_names:
        require_columns("column_names", columns or (), config.column_names)
        return _begin_without_header(lines, delimiters[:1] if given else delimiters, config)
    headers, wanted = {}, set(columns or ())
    for delimiter in delimiters:
        record = _Records(lines, delimiter, config.quoting).read()
        if record is None:
            raise empty_file(path)
        headers[delimiter] = record
        if wanted <= set(record.fields):
            break
        lines.give_back(0)
    else:  # none fits: take the one that makes most of the wanted columns, or else most fields
        delimiter = max(
            delimiters, key=lambda other: (len(wanted & {*headers[other].fields}), len(headers[other].fields))
        )
    record, way_out = headers[delimiter], ""
    if record.error:
        raise UserError(f"{path}: {record.error}")
    if wanted and not wanted & {*record.fields}:
        way_out = "; if this is the first row of a file without a header, name its columns (column_names)"
    if delimiter != delimiters[0]:
        way_out = f"; the header looks as if {_shown(delimiter)} separated it (delimiter){way_out}"
        if given:
            record = headers[given]
    where = f"{path}: line {record.lines[0].number}"
    require_columns(where, record.fields if columns is None else columns, record.fields, way_out)
    return _Records(lines, delimiter, config.quoting, record.fields)


def _begin_without_header(lines: "_Lines", delimiters: Sequence[str], config: DataConfig) -> "_Records":
    """The records under given names, between the first delimiter that makes as many fields."""
    header = list(config.column_names)
    for delimiter in delimiters:
        record = _Records(lines, delimiter, config.quoting, header).read()
        if record is not None and not record.error:
            if record.fields != header:  # these would be a header all the same
                lines.give_back(0)
            return _Records(lines, delimiter, config.quoting, header)
        lines.give_back(0)
    return _Records(lines, delimiters[0], config.quoting, header)


class _Lines:
    """The lines of a file as `csv.reader` takes them; those of the record in hand are kept and can be given back."""

    def __init__(self, lines: Iterator[Line]):
        self._lines = lines
        self._given_back: deque[Line] = deque()
        self.record: list[Line] = []
        self._length = 0

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        if self._length > LONGEST_TEXT:
            raise csv.Error(f"no end within {LONGEST_TEXT:,} characters")
        line = self._given_back.popleft() if self._given_back else next(self._lines)
        self.record.append(line)
        self._length += len(line.text)
        return line.text

    def begin_record(self) -> None:
        self.record, self._length = [], 0

    def give_back(self, kept: int) -> None:
        """Gives back all lines of the record but the first `kept`."""
        self._given_back.extendleft(reversed(self.record[kept:]))
        self.record = self.record[:kept]


class _Record(NamedTuple):
    """What stands in one line, or in several that a quoted field joins.

    Attributes:
      hides_rows: its lines, taken one by one, look like rows too.
    """

    lines: list[Line]
    fields: list[str]
    error: str = ""
    hides_rows: bool = False


class _Records:
    """Reads one record after another, each with as many fields as the header, which is () if it is not known yet."""

    def __init__(self, lines: _Lines, delimiter: str, quoting: str, header: Sequence[str] = ()):
        self.header = header
        self._lines, self._delimiter, self._quoting, self._columns = lines, delimiter, quoting, len(header)
        self._reader = _csv_reader(lines, delimiter, quoting)
        self._auto = quoting == "auto"
        self._tabs = self._auto and delimiter == "\t"

    def read(self) -> _Record | None:
        """The next record, with an error if it is broken; None: there is no other."""
        fields, problem = [], ""
        while not (fields or problem):  # empty lines are no records
            self._lines.begin_record()
            try:
                fields = next(self._reader)
            except StopIteration:
                return None
            except csv.Error as error:
                problem = str(error)
        lines = self._lines.record
        miscounted = bool(self._columns) and len(fields) != self._columns
        if self._tabs and (problem or miscounted or self._is_joined_by_letters(lines)):
            self._lines.give_back(1)
            lines, problem = lines[:1], ""
            fields = _split_at_tabs(lines[0].text)
            miscounted = bool(self._columns) and len(fields) != self._columns
        hides_rows = self._auto and len(lines) > 1 and not problem and self._look_like_rows(lines)
        error = ""
        if problem or miscounted:
            error = self._quotes(lines, problem) if problem else self._count(lines, fields)
            if problem or hides_rows:
                self._lines.give_back(1)
                lines = lines[:1]
        error = next((line.error for line in lines if line.error), error)
        return _Record(lines, fields, error, hides_rows and not error)

    def _is_joined_by_letters(self, lines: list[Line]) -> bool:
        """Whether a field between tabs, by its quotes, would swallow lines that are rows by themselves."""
        whole = [len(line.text.split("\t")) == self._columns for line in lines]
        return len(lines) > 1 and any(whole[1:] if whole[0] else whole[:-1])

    def _look_like_rows(self, lines: list[Line]) -> bool:
        """Whether every line has all the fields, which prose with a comma here and there has not.

        Of few fields or lines that may be chance; there no field is empty or begins with the space that follows a
        comma in prose.
        """
        if self._columns < 2:
            return False
        chance = self._columns == 2 or len(lines) == 2
        for index, line in enumerate(lines):
            fields = next(csv.reader([line.text], delimiter=self._delimiter), [])
            if index == 0 and fields:  # here the quote opens
                fields = [*fields[:-1], *fields[-1].rstrip("\r\n").split(self._delimiter)]
            if fields and len(fields) != self._columns:
                return False
            if chance and not all(field and not field[0].isspace() for field in fields):
                return False
        return True

    def _count(self, lines: list[Line], fields: list[str]) -> str:
        way_out = self._backslash(lines)
        if not way_out and len(fields) > self._columns:
            way_out = f"; put texts that hold {_shown(self._delimiter)} in double quotes"
        columns = f"{self._columns} columns ({first_of(self.header)})"
        return f"line {lines[0].number}: {len(fields)} fields, but there are {columns}{way_out}"

    def _quotes(self, lines: list[Line], problem: str) -> str:
        first, last = lines[0].number, lines[-1].number
        if backslash := self._backslash(lines):
            return f"line {first}: {problem}{backslash}"
        if "expected after" in problem and first == last:
            way_out = "double the quotes within a quoted field, or set quoting=none if quotes are letters"
            return f"line {first}: {problem}; {way_out}"
        # Read leniently, the last field of the lines before holds everything from the open quote on.
        before = lines if "expected after" not in problem else lines[:-1]
        escape = "\\" if self._quoting == "backslash" else None
        records = csv.reader([line.text for line in before], delimiter=self._delimiter, escapechar=escape)
        fields = next((fields for fields in reversed(list(records)) if fields), [""])
        opens = before[-1].number + 1 - len(re.findall(r"\r\n|\r|\n", fields[-1]))
        end = f"closed in line {last} within a text" if "expected after" in problem else "never closed"
        way_out = "close it, or set quoting=none if quotes are letters"
        return f"line {opens}: the quote that begins a field here is {end} ({problem}); {way_out}"

    def _backslash(self, lines: list[Line]) -> str:
        """The way out, if quotes behind backslashes would be a record."""
        if self._quoting not in ("auto", "double") or not any('\\"' in line.text for line in lines):
            return ""
        try:
            fields = next(_csv_reader(iter([line.text for line in lines]), self._delimiter, "backslash"), [])
        except csv.Error:
            return ""
        if self._columns and len(fields) != self._columns:
            return ""
        return '; it has \\" where CSV doubles a quote (""): set quoting=backslash'


def _csv_reader(lines: Iterator[str], delimiter: str, quoting: str) -> Iterator[list[str]]:
    if quoting == "none":
        return csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE)
    if quoting == "backslash":
        escape = re.compile(rf'\\(["\\\r\n{re.escape(delimiter)}])?')

        def keep_others(line: str) -> str:
            # The csv module would drop the backslash of C:\new too.
            return escape.sub(lambda match: match[0] if match[1] else r"\\", line)

        # `map` continues after an error, as a generator would not.
        return csv.reader(map(keep_others, lines), delimiter=delimiter, escapechar="\\", strict=True)
    return csv.reader(lines, delimiter=delimiter, strict=True)


def _split_at_tabs(line: str) -> list[str]:
    return [_unquoted(field) for field in line.rstrip("\r\n").split("\t")]


def _unquoted(field: str) -> str:
    """A field without its quotes, if it is properly quoted."""
    inside = field[1:-1]
    if len(field) < 2 or not field[0] == field[-1] == '"' or '"' in inside.replace('""', ""):
        return field
    return inside.replace('""', '"')


def _shown(delimiter: str) -> str:
    return _NAMES.get(delimiter, repr(delimiter))
