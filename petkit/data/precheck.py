"""A look at data files before anything heavy is loaded: input beyond a cap is reported at once and alone.

It reads little of ordinary files. Their mistakes are reported later, with those of the patterns and words; and what is beyond
a cap further back in a file, its reader meets there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import IO

from petkit import limits
from petkit.config.loader import Pipeline
from petkit.data import records
from petkit.data.files import open_bytes
from petkit.data.records import BoundedLines, RowTooLong
from petkit.errors import BeyondLimit, InvalidInput, Problem, shown_path
from petkit.storage.regular_file import refuse_no_file

STANDARD_INPUT = "standard input"

_ROWS, _CHARACTERS, _BYTES = 100, 2**20, 64 * 2**20  # of each file


def look_at_pipeline(pipeline: Pipeline) -> None:
    """Look at the data files of a pipeline."""
    data = pipeline.spec.data
    used = {data.column(name) for spec in pipeline.spec.patterns for name in (*spec.fields, "label", "id")}
    used |= set() if data.group is None else {data.group}
    problems: list[Problem] = []
    for source in dict.fromkeys(filter(None, (data.train, data.unlabeled, data.test))):
        try:
            look_at(source, used)
        except BeyondLimit as error:
            problems += error.problems
    if problems:
        raise BeyondLimit(problems)


def look_at(source: str, columns: Collection[str] | None = None) -> None:
    """Look at one data file, in the ``columns`` that matter; ``hf://`` datasets, and files with ordinary mistakes, pass."""
    if source.startswith("hf://"):
        return
    try:
        refuse_no_file(Path(source))
        taken = 0
        for record in islice(records.read_records(source, columns), _ROWS):
            if record.beyond:
                raise BeyondLimit([Problem.of_file(shown_path(source), record.error, record.hint, line=record.line)])
            taken += sum(len(value) for value in record.values.values() if isinstance(value, (str, list, dict)))
            if taken > _CHARACTERS:
                break
        if records.format_of(source) in records.TEXT_FORMATS and (line := overlong_line(Path(source), _BYTES)) is not None:
            raise BeyondLimit([Problem.of_file(shown_path(source), records.TOO_LONG, line=line)])
    except BeyondLimit:
        raise
    except (InvalidInput, OSError):  # reported when the file is read, with its other mistakes
        return


def overlong_line(path: Path, within: int) -> int | None:
    """Return the number of the first line beyond the cap among the first ``within`` bytes of a file, or None."""
    line, taken = 1, 0  # bytes of the line that goes on; a chunk is shorter than the cap
    with open_bytes(path) as stream:
        for chunk in islice(iter(partial(stream.read, records.CHUNK), b""), within // records.CHUNK):
            breaks = [place for place in (chunk.find(b"\n"), chunk.find(b"\r")) if place >= 0]
            if taken + min(breaks, default=len(chunk)) > limits.ROW_BYTES:
                return line
            taken = len(chunk) - 1 - max(chunk.rfind(b"\n"), chunk.rfind(b"\r")) if breaks else taken + len(chunk)
            line += chunk.count(b"\n")
    return None


def look_at_standard_input(stream: IO[bytes]) -> Iterator[bytes]:
    """Return the lines of standard input, of which the first is waited for and looked at (not that of a terminal)."""
    lines = _rows(stream)
    if stream.isatty():  # a person need not type before the model is there
        return lines
    first = next(lines, b"")
    record = records.parse_json_line(first.decode("utf-8", "replace"), 1)
    if first.lstrip().startswith(b"{") and record.beyond:
        raise BeyondLimit([Problem.of_file(STANDARD_INPUT, record.error, line=1)])
    return chain([first] if first else [], lines)


def _rows(stream: IO[bytes]) -> Iterator[bytes]:
    lines = BoundedLines(stream)
    try:
        for line in lines:
            lines.next_row()
            yield line
    except RowTooLong:
        raise BeyondLimit([Problem.of_file(STANDARD_INPUT, records.TOO_LONG, line=lines.number)]) from None
