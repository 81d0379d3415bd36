"""Rows of a file as they stand, one at a time: jsonl, csv, tsv, parquet and ``hf://`` datasets."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import IO, Any

from petkit.errors import InvalidInput, Problem, did_you_mean, shown_path

FORMATS = ("jsonl", "csv", "tsv", "parquet")
MAX_CELL = 2**26


@dataclass(frozen=True, slots=True)
class Record:
    """One row as read: its line (or row number), its values, and why it could not be read, if so."""

    line: int
    values: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""


def format_of(source: str) -> str:
    """Return the format of ``source`` by its ending.

    Raises:
        InvalidInput: an ending petkit does not read.
    """
    if source.startswith("hf://"):
        return "hf"
    ending = Path(source).suffix.lower().lstrip(".")
    if ending not in FORMATS:
        raise InvalidInput(
            [Problem(shown_path(source), None, "", f"unknown kind of file {ending!r}", did_you_mean(ending, FORMATS))]
        )
    return ending


def read_records(source: str) -> Iterator[Record]:
    """Yield the rows of ``source`` (a path or ``hf://owner/name[/config]/split``) without holding the file in memory.

    Raises:
        InvalidInput: no such file, unreadable, wrongly encoded, damaged, or an unknown kind.
    """
    kind = format_of(source)
    if kind == "hf":
        yield from _hub_records(source)
        return
    path = Path(source)
    shown = shown_path(path)
    try:
        if not path.is_file():
            raise InvalidInput([Problem(shown, None, "", "is a folder, not a file" if path.is_dir() else "no such file")])
        if kind == "parquet":
            yield from _parquet_records(path)
        else:
            with path.open(encoding="utf-8-sig", newline="" if kind != "jsonl" else None) as stream:
                yield from text_records(stream, kind)
    except UnicodeDecodeError:
        raise InvalidInput([Problem(shown, _first_undecodable(path), "", "not UTF-8", "save the file as UTF-8")]) from None
    except OSError as error:
        raise InvalidInput([Problem(shown, None, "", f"cannot be read: {error.strerror or error}")]) from None


def text_records(stream: IO[str], kind: str) -> Iterator[Record]:
    """Yield the rows of an open text stream in format ``kind`` (jsonl, csv or tsv)."""
    if kind == "jsonl":
        for number, line in enumerate(stream, 1):
            if line.strip():
                yield parse_json_line(line, number)
        return
    yield from _table_records(stream, kind)


def _table_records(stream: IO[str], kind: str) -> Iterator[Record]:
    csv.field_size_limit(MAX_CELL)
    reader = csv.reader(stream, delimiter="\t" if kind == "tsv" else ",", strict=True)
    columns: list[str] = []
    while True:
        number = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:  # where the next row would begin is anybody's guess
            yield Record(number, error=f"not valid {kind}: {error}")
            return
        if not cells:
            continue
        if not columns:
            columns = cells
            twice = _named_twice(columns)
            if twice:
                yield Record(number, error=twice)
                return
        elif len(cells) > len(columns):
            yield Record(number, error=f"{len(cells)} cells under {len(columns)} column names")
        else:
            yield Record(number, dict(zip_longest(columns, cells)))


def _named_twice(columns: Sequence[str]) -> str:
    """Say which names several columns have (empty: none)."""
    twice = sorted({name for name in columns if name and columns.count(name) > 1})
    return f"column {', '.join(map(repr, twice))} is named twice" if twice else ""


def parse_json_line(line: str, number: int) -> Record:
    """Parse one line of JSON Lines; a line that is no JSON object becomes a record with an error."""
    try:
        values = json.loads(line)
    except json.JSONDecodeError as error:
        cut = error.pos >= len(line.rstrip()) or error.msg.startswith("Unterminated string")
        return Record(number, error=f"not valid JSON: {'the line is cut off' if cut else error.msg}")
    except RecursionError:
        return Record(number, error="not valid JSON: nested too deeply")
    except ValueError:  # Python reads no longer ones
        return Record(number, error="not valid JSON: a number of thousands of digits")
    if not isinstance(values, dict):
        return Record(number, error='not a JSON object such as {"text": "…", "label": "…"}')
    return Record(number, values)


def class_names(source: str, column: str) -> tuple[str, ...] | None:
    """Return the names of a column of class numbers, or of lists of them, where the source knows them (``hf://`` only)."""
    if not source.startswith("hf://"):
        return None
    feature = (_hub_dataset(source).features or {}).get(column)
    names = getattr(getattr(feature, "feature", feature), "names", None)
    return None if names is None else tuple(map(str, names))


def _parquet_records(path: Path) -> Iterator[Record]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        file = pq.ParquetFile(path)
        twice = _named_twice(file.schema_arrow.names)
        if twice:
            raise InvalidInput([Problem(shown_path(path), None, "", twice)])
        for batch in file.iter_batches(batch_size=1024):
            for values in _plain_rows(batch, shown_path(path), number):
                number += 1
                yield Record(number, values)
    except pa.ArrowException as error:
        first_line = str(error).splitlines()[0]
        raise InvalidInput([Problem(shown_path(path), None, "", f"not a complete Parquet file: {first_line}")]) from None


def _plain_rows(batch: Any, shown: str, before: int) -> list[dict[str, Any]]:
    """Return rows as Python values; other programs may write what Python has none for, such as the year 300,000."""
    unreadable = (ValueError, OverflowError, LookupError)  # texts that are no UTF-8, dates, time zones
    try:
        rows: list[dict[str, Any]] = batch.to_pylist()
    except unreadable:
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            try:
                column.to_pylist()
            except unreadable as error:
                message = f"rows {before + 1:,} to {before + batch.num_rows:,} hold a value that cannot be read: {error}"
                raise InvalidInput([Problem(shown, None, name, message, "write it as text, or leave it out")]) from None
        raise
    return rows


def _hub_records(source: str) -> Iterator[Record]:
    import pyarrow as pa
    from huggingface_hub.errors import HfHubHTTPError

    number = 0
    try:
        for number, values in enumerate(_hub_dataset(source), 1):
            yield Record(number, values)
    except (OSError, ValueError, RuntimeError, pa.ArrowException, HfHubHTTPError) as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise InvalidInput([Problem(source, None, "", f"cannot be read after row {number:,}: {first_line}")]) from None


def _hub_dataset(source: str) -> Any:
    """Open ``hf://owner/name[/config]/split`` as a stream; ``name`` is ``dataset`` or ``owner/dataset``."""
    from datasets import load_dataset

    pieces = source.removeprefix("hf://").split("/")
    if not 2 <= len(pieces) <= 4 or not all(pieces):
        raise InvalidInput(
            [Problem(source, None, "", "write hf://name/split, hf://owner/name/split or hf://owner/name/config/split")]
        )
    split = pieces.pop()
    name = "/".join(pieces[:2])
    config = pieces[2] if len(pieces) == 3 else None
    try:
        return load_dataset(name, config, split=split, streaming=True)
    except (OSError, ValueError, RuntimeError) as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise InvalidInput(
            [Problem(source, None, "", f"cannot be opened: {first_line}", "check the name and the network")]
        ) from None


def _first_undecodable(path: Path) -> int:
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number
    return 1
