"""Rows of a file as written, one at a time: jsonl, json, csv, tsv, parquet and ``hf://`` datasets."""

from __future__ import annotations

import codecs
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any, AnyStr

from petkit import limits, network
from petkit.config.registry import Registry
from petkit.data.files import COMPRESSIONS, open_bytes, open_table, open_text
from petkit.errors import InvalidInput, Problem, did_you_mean, first_line, listed, shown_path
from petkit.formatting import binary_size
from petkit.storage.regular_file import refuse_no_file

TEXT_FORMATS = ("jsonl", "csv", "tsv")
TOO_LONG = f"a row of more than {binary_size(limits.ROW_BYTES)} (split it into rows of their own, or fix the line breaks)"
CHUNK = 2**20
_TOO_DEEP = f"nested more than {limits.ROW_DEPTH} deep"


@dataclass(frozen=True, slots=True)
class Record:
    """One row as read: its line (or row number), its values, and why it could not be read, if so: perhaps it is beyond a cap."""

    line: int
    values: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    hint: str = ""
    beyond: bool = field(default=False, compare=False)


def format_of(source: str) -> str:
    """Return the format of ``source`` by its ending; refuse one that petkit does not read."""
    if source.startswith("hf://"):
        return "hf"
    path = Path(source)
    compressed = path.suffix.lower() in COMPRESSIONS
    ending = (path.with_suffix("") if compressed else path).suffix.lower().lstrip(".")
    if ending == "parquet" and compressed:
        raise InvalidInput(
            [Problem.of_file(shown_path(source), "a compressed Parquet file", "unpack it; Parquet compresses itself")]
        )
    if ending not in FORMATS.names:
        why = f"unknown kind of file {ending!r}" if ending else "its name has no ending, so its format is unknown"
        why = "is a folder, not a file" if os.path.isdir(source) else why  # noqa: PTH112 (False for an impossible name)
        raise InvalidInput([Problem.of_file(shown_path(source), why, did_you_mean(ending, list(FORMATS.names)))])
    return ending


def read_records(source: str, columns: Collection[str] | None = None) -> Iterator[Record]:
    """Yield the rows of ``source`` (a path or ``hf://owner/name[/config]/split``) without holding the file in memory.

    Of a Parquet file only the ``columns`` that matter are read; the others are None.
    """
    kind, path = format_of(source), Path(source)
    if kind == "hf":
        yield from _hub_records(source)
        return
    refuse_no_file(path)
    try:
        yield from FORMATS[kind](path, columns)
    except UnicodeDecodeError:
        line = _first_undecodable(path)
        raise InvalidInput([Problem.of_file(path, "not UTF-8", "save the file as UTF-8", line=line)]) from None
    except OSError as error:
        raise InvalidInput([Problem.of_file(path, f"cannot be read: {error.strerror or error}")]) from None


def _first_undecodable(path: Path) -> int:
    """Return the number of the first line of a file that is not UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    lines = 1
    with open_bytes(path) as stream:
        for chunk in iter(partial(stream.read, CHUNK), b""):
            try:
                decoder.decode(chunk)
            except UnicodeDecodeError as error:
                return lines + error.object[: error.start].count(b"\n")
            lines += chunk.count(b"\n")
    return lines


class RowTooLong(Exception):
    """A row goes on beyond its cap; its last line has not been read to the end."""


class BoundedLines(Iterator[AnyStr]):
    """The lines of a stream; a row may take several, and not more bytes than :data:`petkit.limits.ROW_BYTES` together."""

    def __init__(self, stream: IO[AnyStr]) -> None:
        self._stream: IO[AnyStr] = stream
        self.number = 0  # of the last line, from 1
        self.next_row()

    def next_row(self) -> None:
        """Let the next line begin a new row."""
        self.row = self.number + 1  # its first line
        self._taken = 0

    def __next__(self) -> AnyStr:
        line: AnyStr = self._stream.readline(limits.ROW_BYTES + 1)
        if not line:
            raise StopIteration
        self.number += 1
        self._taken += len(line) if isinstance(line, bytes) or line.isascii() else len(line.encode("utf-8", "surrogatepass"))
        if self._taken > limits.ROW_BYTES:
            raise RowTooLong
        return line


def text_records(stream: IO[str], kind: str) -> Iterator[Record]:
    """Yield the rows of an open text stream in format ``kind`` (jsonl, csv or tsv); a row beyond its cap is the last."""
    from petkit.data.tables import table_records

    lines = BoundedLines(stream)
    try:
        yield from _json_records(lines) if kind == "jsonl" else table_records(lines, kind)
    except RowTooLong:
        yield Record(lines.row, error=TOO_LONG, beyond=True)


def _json_records(lines: BoundedLines[str]) -> Iterator[Record]:
    begun = False
    for line in lines:
        lines.next_row()
        if not line.strip():
            continue
        if not begun and line.lstrip().startswith("["):
            yield Record(lines.number, error="a list of JSON, not one JSON object per line", hint="name the file .json")
            return
        begun = True
        yield parse_json_line(line, lines.number)


def named_twice(columns: Sequence[str]) -> str:
    """Return which names several columns of a file have, as a message; empty if none."""
    twice = sorted(name for name, times in Counter(columns).items() if times > 1)
    return f"column {listed(list(map(repr, twice)))} is named twice" if twice else ""


def parse_json_line(line: str, number: int) -> Record:
    """Parse one line of JSON Lines; a line that is not a JSON object becomes a record with an error."""
    try:
        values = _DECODER.decode(line)
    except json.JSONDecodeError as error:
        cut = error.pos >= len(line.rstrip()) or error.msg.startswith("Unterminated string")
        return Record(number, error=f"not valid JSON: {'the line is cut off' if cut else error.msg}")
    except _KeyTwice as twice:
        return Record(number, error=f"key {str(twice)!r:.80} is written twice")
    except RecursionError:
        return Record(number, error=_TOO_DEEP, beyond=True)
    except ValueError:  # Python reads no longer ones
        return Record(number, error="not valid JSON: a number of thousands of digits", beyond=True)
    if not isinstance(values, dict):
        return Record(number, error='not a JSON object such as {"text": "…", "label": "…"}')
    return Record(number, error=_TOO_DEEP, beyond=True) if _is_deep(values) else Record(number, values)


def list_records(stream: IO[str]) -> Iterator[Record]:
    """Yield the rows of a JSON list of objects, of which one at a time is in memory, with the lines they begin in."""
    buffer, place, line = stream.read(CHUNK), 0, 1
    within = False  # the list has begun
    while True:
        start = _BETWEEN.match(buffer, place).end()  # type: ignore[union-attr]  # it matches nothing, too
        line += buffer.count("\n", place, start)
        place = start
        found = buffer[place : place + 1]
        if found == "]":
            rest = buffer[place + 1 :].strip()
            while not rest and (more := stream.read(CHUNK)):
                rest = more.strip()
            if rest:
                yield Record(line, error="not valid JSON: the file goes on after its list")
            return
        if found == "[" and not within:
            within, place = True, place + 1
            continue
        try:
            end = place if not found else _PLAIN_DECODER.raw_decode(buffer, place)[1]
        except json.JSONDecodeError as error:
            cut = error.pos >= len(buffer) - 16 or error.msg.startswith("Unterminated string")  # else reading on does not help
            more = stream.read(CHUNK) if cut else ""
            if not more:
                yield Record(line, error=f"not valid JSON: {error.msg}")
                return
            if len(buffer) - place > limits.ROW_BYTES:
                yield Record(line, error=TOO_LONG, beyond=True)
                return
            buffer, place = buffer[place:] + more, 0
            continue
        except (ValueError, RecursionError):  # as where it is read
            yield parse_json_line(buffer[place:], line)
            return
        if end == place:
            buffer, place = stream.read(CHUNK), 0
            if not buffer:
                yield Record(line, error="not valid JSON: the list is cut off")
                return
            continue
        yield parse_json_line(buffer[place:end], line)
        line += buffer.count("\n", place, end)
        place = end


class _KeyTwice(ValueError):
    """A JSON object says two things under one key."""


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise _KeyTwice(next(key for key, times in Counter(key for key, _ in pairs).items() if times > 1))
    return values


_PLAIN_DECODER = json.JSONDecoder()
_BETWEEN = re.compile(r"[\s,]*")
_DECODER = json.JSONDecoder(object_pairs_hook=_each_key_once)


def _is_deep(values: Any) -> bool:
    """Say whether values are nested beyond the cap; most rows are not nested at all."""
    level = [values]
    for _ in range(limits.ROW_DEPTH):
        inner = (entry for holder in level for entry in (holder.values() if isinstance(holder, dict) else holder))
        level = [entry for entry in inner if isinstance(entry, (dict, list))]
        if not level:
            return False
    return True


def _text_file(kind: str, path: Path, columns: Collection[str] | None) -> Iterator[Record]:
    with open_text(path) if kind == "jsonl" else open_table(path) as stream:
        yield from text_records(stream, kind)


def table_kind(source: str) -> str | None:
    """Return csv or tsv where a source is such a table."""
    kind = format_of(source)
    return kind if kind in ("csv", "tsv") else None


def delimiter_note(source: str) -> str:
    """Return what separates the cells of a CSV file, as a message; empty for a comma, and for any other file."""
    from petkit.data.tables import delimiter_of

    if table_kind(source) != "csv" or not Path(source).is_file():
        return ""
    with suppress(OSError, UnicodeDecodeError), open_table(Path(source)) as stream:
        first = (line for line in iter(partial(stream.readline, limits.ROW_BYTES), "") if line.strip())
        delimiter = delimiter_of(next(first, ""))
        return "" if delimiter == "," else f"{shown_path(source)}: read with {delimiter!r} between its cells"
    return ""


def _json_file(path: Path, columns: Collection[str] | None) -> Iterator[Record]:
    """Yield the rows of a JSON list, or of JSON Lines under that name."""
    with open_text(path) as stream:
        is_list = stream.read(CHUNK).lstrip().startswith("[")
    with open_text(path) as stream:
        yield from list_records(stream) if is_list else text_records(stream, "jsonl")


def _parquet_file(path: Path, columns: Collection[str] | None) -> Iterator[Record]:
    from petkit.data.parquet import parquet_rows

    for number, values in enumerate(parquet_rows(path, columns), 1):
        yield Record(number, values)


# How a file of each ending is read; a reader may leave columns that are not named unread.
FORMATS: Registry[Callable[[Path, Collection[str] | None], Iterator[Record]]] = Registry(
    "formats",
    {
        "jsonl": partial(_text_file, "jsonl"),
        "json": _json_file,
        "csv": partial(_text_file, "csv"),
        "tsv": partial(_text_file, "tsv"),
        "parquet": _parquet_file,
    },
)


def class_names(source: str, column: str) -> tuple[str, ...] | None:
    """Return the names of a column of class numbers, or of lists of them, where the source knows them (``hf://`` only)."""
    if not source.startswith("hf://"):
        return None
    feature = (_hub_dataset(source).features or {}).get(column)
    names = getattr(getattr(feature, "feature", feature), "names", None)
    return None if names is None else tuple(map(str, names))


def _hub_records(source: str) -> Iterator[Record]:
    import pyarrow as pa
    from huggingface_hub.errors import HfHubHTTPError

    number = 0
    try:
        for number, values in enumerate(_hub_dataset(source), 1):
            yield Record(number, values)
    except (OSError, ValueError, RuntimeError, pa.ArrowException, HfHubHTTPError) as error:
        raise InvalidInput([Problem.of_file(source, f"cannot be read after row {number:,}: {first_line(error)}")]) from None


def _hub_dataset(source: str) -> Any:
    """Open ``hf://owner/name[/config]/split`` as a stream; ``name`` is ``dataset`` or ``owner/dataset``."""
    from datasets import load_dataset
    from huggingface_hub.utils import logging

    pieces = source.removeprefix("hf://").split("/")
    if not 2 <= len(pieces) <= 4 or not all(pieces):
        message = "write hf://name/split, hf://owner/name/split or hf://owner/name/config/split"
        raise InvalidInput([Problem.of_file(source, message)])
    *name_and_config, split = pieces
    name, config = "/".join(name_and_config[:2]), next(iter(name_and_config[2:]), None)
    if Path(name).exists():  # the library would read that
        raise InvalidInput([Problem.of_file(source, f"{name} is a file or folder here", "name a file of rows without hf://")])
    # What is not available is reported once, and not at every attempt.
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        return load_dataset(name, config, split=split, streaming=True)
    except (OSError, ValueError, RuntimeError) as error:
        offline = network.is_forbidden()
        hint = "offline mode is on, and the local cache does not contain it" if offline else "check the name and the network"
        raise InvalidInput([Problem.of_file(source, f"cannot be opened: {first_line(error)}", hint)]) from None
