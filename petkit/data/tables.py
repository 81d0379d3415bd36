r"""Rows of CSV and TSV files.

A line ends with ``\n`` or ``\r\n``; a ``\r`` elsewhere belongs to its cell. TSV has no quoting: a cell ends at the next tab or the
end of the line, and a quotation mark is a character like any other. In CSV a cell in quotation marks may contain delimiters, line
breaks, and quotation marks written twice. Its delimiter is the comma, unless its first line is ``sep=;`` or names the columns
without a comma and with semicolons or tabs.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from itertools import chain

from petkit import limits
from petkit.data.records import BoundedLines, Record, named_twice

QUOTE_HINT = 'write "" for a quote inside a cell'
_SEPARATOR_LINE = re.compile(r"sep=([,;\t|])\s*", re.IGNORECASE)  # Excel's
_QUOTED = re.compile(r'"[^"]*"?')
_NAMES = re.compile(r"[\w.-]+(?:([,;])[\w.-]+)+")
_PLAIN_ERRORS = {
    "unexpected end of data": "a quote is never closed",
    "expected after": "a cell goes on after its closing quote",
    "new-line character": r"a lone \r in a cell without quotes",
}


def table_records(lines: BoundedLines[str], kind: str) -> Iterator[Record]:
    """Yield the rows of a table in format ``kind`` (csv or tsv)."""
    first = _first_line(lines)
    if first is None:
        return
    if kind == "tsv":
        found = None if "\t" in first else _NAMES.fullmatch(first.strip())
        if found:
            yield Record(lines.row, error=f"looks separated by {found[1]!r}", hint="save it as .csv, or with tabs")
            return
        yield from _under_names(
            (
                line.removesuffix("\n").removesuffix("\r").split("\t") if line.strip("\r\n") else []
                for line in chain([first], lines)
            ),
            lines,
        )
        return
    delimiter = delimiter_of(first)
    if _SEPARATOR_LINE.fullmatch(first):
        lines.next_row()
        first = _first_line(lines) or ""
    csv.field_size_limit(limits.ROW_BYTES)
    reader = csv.reader(chain([first], lines), delimiter=delimiter, strict=True)
    try:
        yield from _under_names(reader, lines, delimiter)
    except csv.Error as error:  # where the next row would begin is not known
        plain = next((plain for words, plain in _PLAIN_ERRORS.items() if words in str(error)), str(error))
        hint = "write the cell in quotes" if r"\r" in plain else QUOTE_HINT
        yield Record(lines.row, error=f"not valid csv: {plain}", hint=hint)


def delimiter_of(first_line: str) -> str:
    """Return the delimiter of a CSV file by its first line."""
    if announced := _SEPARATOR_LINE.fullmatch(first_line):
        return announced[1]
    outside = set(_QUOTED.sub("", first_line))
    others = [] if "," in outside else [mark for mark in ";\t" if mark in outside]
    return others[0] if len(others) == 1 else ","


def _first_line(lines: BoundedLines[str]) -> str | None:
    """Return the first line that is not blank; the first row begins there."""
    for line in lines:
        if line.strip("\r\n"):
            return line
        lines.next_row()
    return None


def _under_names(rows: Iterator[list[str]], lines: BoundedLines[str], delimiter: str = "") -> Iterator[Record]:
    """Yield rows as mappings from the names in the first; ``delimiter`` is that of a table with quoting."""
    columns = next(rows)
    if columns.count("") > 1:  # one may be without a name, as pandas writes its index
        columns = [name or f"column {place}" for place, name in enumerate(columns, 1)]
    unfilled: dict[str, str | None] = dict.fromkeys(columns)
    many = f"{len(columns):,} columns are more than {limits.COLUMNS:,}" if len(columns) > limits.COLUMNS else ""
    if wrong := many or named_twice(columns):
        yield Record(lines.row, error=wrong, beyond=bool(many))
        return
    lines.next_row()
    for cells in rows:
        if len(cells) > len(columns):
            yield Record(lines.row, error=f"{len(cells)} cells under {len(columns)} column names")
        elif not delimiter and len(cells) < len(columns) and any(cell.startswith('"') and cell.count('"') % 2 for cell in cells):
            yield Record(
                lines.row, error="a quote is not closed on its line; TSV has no quoting", hint="save the file as csv or jsonl"
            )
        elif delimiter and lines.number > lines.row and _contains_rows(cells, len(columns), delimiter):
            message = f"a quoted cell takes lines {lines.row:,} to {lines.number:,}, which look like rows"
            yield Record(lines.row, error=message, hint=f"{QUOTE_HINT}, or save the file as jsonl")
        elif cells:
            yield Record(lines.row, unfilled | dict(zip(columns, cells, strict=False)))
        lines.next_row()


def _contains_rows(cells: Sequence[str], columns: int, delimiter: str) -> bool:
    """Say whether a cell has the delimiters of the end of a row in its first line, of its beginning in its last, of rows between.

    Delimiters before a blank or between digits do not count: prose has such commas. Nor does the one line break of a table of
    two columns.
    """
    mark = re.escape(delimiter)
    edge = re.compile(rf"(?<!\d){mark}(?=\S)|{mark}(?=[^\s\d])")
    inner = re.compile(f"{mark}(?! )") if columns > 2 else edge  # the last cell may be empty
    for place, cell in enumerate(cells):
        lines = re.split(r"\r\n?|\n", cell)
        if columns < 2 or len(lines) < (2 if columns > 2 else 3):
            continue
        ends = len(edge.findall(lines[0])) >= columns - 1 - place and len(edge.findall(lines[-1])) >= place
        if ends and all(len(inner.findall(line)) >= columns - 1 for line in lines[1:-1]):
            return True
    return False
