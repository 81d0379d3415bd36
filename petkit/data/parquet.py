"""Rows of Parquet files, which may be small on disk and anything but that unpacked.

What a file says of itself is looked at first. Then as many rows are read at a time as fit a small part of the memory: a text
that is written once in a file (in its dictionary) may stand in every row.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import types

from petkit import limits
from petkit.data.records import named_twice
from petkit.errors import BeyondLimit, InvalidInput, Problem, first_line
from petkit.formatting import binary_size

_MOST_ROWS, _MOST_BYTES = 1024, 2**24  # at a time
_NUMBER_BYTES = 32  # of an entry of a list in Python
_TRAILER = 8  # length of the footer, and the magic


def parquet_rows(path: Path, columns: Collection[str] | None = None) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file, some at a time; of named ``columns``, the others are neither checked nor read: they are None."""
    try:
        _refuse_footer(path)
        metadata = pq.read_metadata(path)
        _refuse_shape(path, metadata)
        # Pages come as they are needed: a row group is never held whole.
        file = _opened(path, metadata)
        # Reading no rows of a group raises what is wrong; to ask a damaged description for a column ends the process.
        for group in range(metadata.num_row_groups):
            list(file.reader.iter_batches(0, [group], column_indices=range(metadata.num_columns), use_threads=False))
        names = file.schema_arrow.names
        if twice := named_twice(names):
            raise InvalidInput([Problem.of_file(path, twice)])
        read = [name for name in names if columns is None or name in columns]
        leaves = _leaves(metadata, read)
        _refuse_bomb(path, metadata, leaves)
        empty, done = dict.fromkeys(names), 0
        for group in range(metadata.num_row_groups):
            rows = _rows_at_a_time(path, metadata, group, leaves)
            for batch in file.iter_batches(batch_size=rows, row_groups=[group], columns=read):
                for name, column in zip(batch.schema.names, batch.columns, strict=True):
                    _refuse_long(path, name, _longest(column), done)
                yield from (empty | row for row in _plain_rows(path, batch, done))
                done += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # of the system, not of the file's content
            raise
        raise InvalidInput([Problem.of_file(path, f"not a complete Parquet file: {first_line(error)}")]) from None


def _leaves(metadata: pq.FileMetaData, names: Sequence[str]) -> list[int]:
    """Return the numbers of the columns as the file counts them: those of a list or mapping are named below its name."""
    whole, inside = set(names), tuple(f"{name}." for name in names)
    paths = [metadata.schema.column(index).path for index in range(metadata.num_columns)]
    return [index for index, path in enumerate(paths) if path in whole or path.startswith(inside)]


def _opened(path: Path, metadata: pq.FileMetaData, as_dictionary: Sequence[str] = ()) -> pq.ParquetFile:
    """Return a file to be read page by page."""
    try:
        return pq.ParquetFile(path, metadata=metadata, read_dictionary=as_dictionary, buffer_size=2**16, pre_buffer=False)
    except KeyError as error:
        raise pa.ArrowInvalid(f"its schema has no column {error}") from None


def _plain_rows(path: Path, batch: pa.RecordBatch, done: int) -> list[dict[str, Any]]:
    """Return rows as Python values; other programs may write what Python has none for, such as the year 300,000."""
    unreadable = (ValueError, OverflowError, LookupError)  # texts that are no UTF-8, dates, time zones
    try:
        rows: list[dict[str, Any]] = batch.to_pylist()
    except unreadable:
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            try:
                column.to_pylist()
            except unreadable as error:
                message = f"rows {done + 1:,} to {done + batch.num_rows:,} contain a value that cannot be read: {error}"
                hint = "write it as text, or leave it out"
                raise InvalidInput([Problem.of_file(path, message, hint, key=name)]) from None
        raise
    return rows


def _rows_at_a_time(path: Path, metadata: pq.FileMetaData, group: int, leaves: Sequence[int]) -> int:
    """Return how many rows of a group can be held, by their mean size and the longest text that may stand in all of them."""
    about = metadata.row_group(group)
    rows = max(1, about.num_rows)
    largest = 1.0
    for column in map(about.column, leaves):
        entry = 0 if column.physical_type == "BYTE_ARRAY" else _NUMBER_BYTES
        largest = max(largest, column.total_uncompressed_size / rows, entry * column.num_values / rows)
        if column.physical_type == "BYTE_ARRAY" and column.has_dictionary_page:
            longest = _longest_in_dictionary(path, metadata, group, column.path_in_schema)
            largest = max(largest, longest * max(1, column.num_values / rows))
    return max(1, min(_MOST_ROWS, int(_MOST_BYTES / largest)))


def _longest_in_dictionary(path: Path, metadata: pq.FileMetaData, group: int, column: str) -> int:
    """Return the bytes of the longest text that a column writes only once; it is not unpacked for that."""
    file = _opened(path, metadata, [column])
    first = next(file.iter_batches(batch_size=1, row_groups=[group], columns=[column]), None)
    longest = 0 if first is None else max(map(_longest, first.columns), default=0)
    _refuse_long(path, column, longest, 0)
    return longest


def _refuse_long(path: Path, column: str, longest: int, done: int) -> None:
    if longest > limits.ROW_BYTES:
        message = f"a text of more than {binary_size(limits.ROW_BYTES)}" + (f" after row {done:,}" if done else "")
        _refuse(path, message, "split it into rows of their own", key=column)


def _longest(column: pa.Array) -> int:
    """Return the bytes of the longest text of a column, or of its dictionary."""
    if isinstance(column, pa.DictionaryArray):
        column = column.dictionary
    elif types.is_list(column.type) or types.is_large_list(column.type) or types.is_map(column.type):
        return _longest(column.values)
    elif types.is_struct(column.type):
        return max(map(_longest, column.flatten()), default=0)
    if not any(ask(column.type) for ask in (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)):
        return 0
    return pc.max(pc.binary_length(column)).as_py() or 0


def _refuse_footer(path: Path) -> None:
    with path.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - _TRAILER))
        footer = int.from_bytes(stream.read(4), "little")
    if limits.PARQUET_FOOTER < footer < size:  # a longer one is damaged, and reported as such
        message = f"its description of itself takes {binary_size(footer)}; at most {binary_size(limits.PARQUET_FOOTER)}"
        _refuse(path, message, "write it with fewer columns or larger row groups")


def _refuse(path: Path, message: str, hint: str, key: str = "") -> NoReturn:
    raise BeyondLimit([Problem.of_file(path, message, hint, key=key)])


def _refuse_shape(path: Path, metadata: pq.FileMetaData) -> None:
    """Compare the rows that a file says it holds with its size on disk."""
    size = path.stat().st_size
    if metadata.num_columns > limits.COLUMNS:
        _refuse(path, f"{metadata.num_columns:,} columns are more than {limits.COLUMNS:,}", "keep those with text and labels")
    if metadata.num_rows > max(1_000_000, size):
        _refuse(path, f"claims to contain {metadata.num_rows:,} rows in {binary_size(size)}", "no rows of text are that small")


def _refuse_bomb(path: Path, metadata: pq.FileMetaData, leaves: Sequence[int]) -> None:
    """Compare what the columns that are read hold with what they take on disk."""
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        columns, rows = [group.column(index) for index in leaves], max(1, group.num_rows)
        for column in columns:
            text, long = column.physical_type == "BYTE_ARRAY", column.num_values > limits.PARQUET_LIST * rows
            # One class number in all rows takes no place on disk.
            unpacked = column.total_uncompressed_size if text else column.num_values if long else 0
            fold = unpacked / max(1, column.total_compressed_size)
            if fold > limits.PARQUET_FOLD and unpacked > limits.PARQUET_UNPACKED:
                message = f"column {column.path_in_schema!r} unpacks {fold:,.0f}-fold to {binary_size(unpacked)}"
                _refuse(path, message, f"no {'text shrinks' if text else 'numbers shrink'} that much")
            most, entries = (limits.PARQUET_LIST, "entries") if text else (limits.PARQUET_NUMBERS, "numbers")
            if column.num_values > most * rows:
                message, name = f"lists of more than {most:,} {entries} a row", column.path_in_schema.partition(".")[0]
                _refuse(path, message, "keep the columns with text and labels", key=name)
        if any(column.total_uncompressed_size > limits.ROW_BYTES * rows for column in columns):
            _refuse(path, f"rows of more than {binary_size(limits.ROW_BYTES)}", "split them into rows of their own")
