"""Hostile input as data, for ``test_hostile_input``: what is written, and what must be said."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

Content: TypeAlias = bytes | Callable[[Path], object]
TOO_LONG = "a row of more than 4 MiB (split it into rows of their own, or fix the line breaks)"
GOOD = b'{"text": "fine", "label": "World"}\n'


@dataclass(frozen=True)
class Hostile:
    """One file of the tiny project in other words.

    Attributes:
        reported: standard error, or parts of it.
    """

    name: str
    file: str
    content: Content
    reported: tuple[str, ...]
    arguments: tuple[str, ...] = ()


def large(content: Callable[[], bytes]) -> Callable[[Path], object]:
    """Return how to write what is not to be held for as long as the tests run."""
    return lambda path: path.write_bytes(content())


def pipe(path: Path) -> None:
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)  # a full path may be too long for a socket


def sparse(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(50 * 2**30)


def parquet_long_rows(path: Path) -> None:
    """Two texts of 10 MB, plainly written."""
    pq.write_table(pa.table({"text": ["long " * 2_000_000] * 2}), path, use_dictionary=False, compression="none")


def parquet_zeros(path: Path) -> None:
    """Five hundred million characters, in a few kilobytes."""
    rows = pa.array(["0" * 100_000])
    schema = pa.schema({"text": pa.string()})
    with pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=False) as writer:
        writer.write_table(pa.table({"text": pa.concat_arrays([rows] * 1_000)}), row_group_size=1_000)


def parquet_one_long_text(path: Path) -> None:
    """A text of 10 MB in every row, written once."""
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 100_000, pa.int32()), pa.array(["long " * 2_000_000]))
    pq.write_table(pa.table({"text": texts}), path, compression="zstd")


def parquet_one_long_text_in_lists(path: Path) -> None:
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 100_000, pa.int32()), pa.array(["long " * 2_000_000]))
    lists = pa.ListArray.from_arrays(pa.array(range(0, 100_001, 10), pa.int32()), texts)
    pq.write_table(pa.table({"text": lists}), path, compression="zstd")


def parquet_of_rows(path: Path) -> None:
    """Fifty million rows in a few kilobytes."""
    texts = pa.DictionaryArray.from_arrays(pa.nulls(0, pa.int32()), pa.array(["a text"]))
    with pq.ParquetWriter(path, pa.schema({"text": texts.type}), compression="zstd") as writer:
        block = pa.DictionaryArray.from_arrays(pa.array([0] * 1_000_000, pa.int32()), pa.array(["a text"]))
        for _ in range(50):
            writer.write_table(pa.table({"text": block}))


def alias_bomb() -> bytes:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{number}: &a{number} [{', '.join([f'*a{number - 1}'] * 10)}]" for number in range(1, 12)]
    return "\n".join(lines).encode()


def patterns(count: int) -> bytes:
    rows = (f'  - id: p{number}\n    text: "{{mask}} number {number}: {{text}}"\n' for number in range(count))
    return ("patterns:\n" + "".join(rows)).encode()


def labels(count: int, words: int = 1) -> bytes:
    rows = (f"  label {number}: [{', '.join(f'word{number}x{word}' for word in range(words))}]\n" for number in range(count))
    return ("labels:\n" + "".join(rows)).encode()


TOO_LARGE = "(too large for a configuration file)"
FILES = (
    Hostile("pipeline is a pipe", "pipeline.yaml", pipe, ("pipeline.yaml: is a pipe, not a file (save what it gives in a file)",)),
    Hostile("pipeline is endless", "pipeline.yaml", endless, ("pipeline.yaml: is a device, not a file",)),
    Hostile("pipeline of 50 GiB", "pipeline.yaml", sparse, ("pipeline.yaml: larger than 1 MiB; too large for a configuration file (rows belong into data files)",)),
    Hostile("patterns are a pipe", "patterns.yaml", pipe, ("patterns.yaml: is a pipe",)),
    Hostile("verbalizer is endless", "verbalizer.yaml", endless, ("verbalizer.yaml: is a device",)),
    Hostile("train is a pipe", "train.jsonl", pipe, ("train.jsonl: is a pipe, not a file (save what it gives in a file)",)),
    Hostile("train is a socket", "train.jsonl", listening, ("train.jsonl: is a socket",)),
    Hostile("test is endless", "test.jsonl", endless, ("test.jsonl: is a device, not a file",)),
    Hostile("unlabeled is endless", "unlabeled.jsonl", endless, ("unlabeled.jsonl: is a device, not a file",)),
    Hostile("unlabeled of 50 GiB", "unlabeled.jsonl", sparse, (f"unlabeled.jsonl:1: {TOO_LONG}",)),
)  # fmt: skip
CONFIGURATION = (
    Hostile("300 patterns", "patterns.yaml", patterns(300), ("300 patterns are more than 200 (keep the best ones",)),
    Hostile("10,000 patterns", "patterns.yaml", patterns(10_000), ("patterns.yaml:2: more than 1,000 entries in one list or mapping (200 patterns or 1,000 labels at most)",)),
    Hostile("5,000 labels", "verbalizer.yaml", labels(5_000), ("verbalizer.yaml:2: more than 1,000 entries in one list or mapping (200 patterns or 1,000 labels at most)",)),
    Hostile("900 labels of many words", "verbalizer.yaml", labels(900, 60), ("verbalizer.yaml:485: more than 30,000 values",)),
    Hostile("300 words of a label", "verbalizer.yaml", b"labels:\n  a: [b]\n" + labels(1, 300)[8:], ("verbalizer.yaml:3: 300 words are more than 100",)),
    Hostile("words of all labels", "verbalizer.yaml", labels(500, 30), ("verbalizer.yaml:1: 15,000 words of all labels are more than 10,000",)),
    Hostile("300 descriptions of a label", "verbalizer.yaml", labels(2) + b"descriptions:\n  a: [" + b"b, " * 300 + b"]\n", ("verbalizer.yaml:5: verbalizer.descriptions.a: 300 descriptions are more than 100 (keep those that differ most",)),
    Hostile("descriptions of all labels", "verbalizer.yaml", labels(2) + b"descriptions:\n" + b"".join(b"  a%d: [" % label + b"b, " * 50 + b"]\n" for label in range(300)), ("verbalizer.yaml:4: verbalizer.descriptions: 15,000 descriptions of all labels are more than 10,000",)),
    Hostile("a word of 500 kB", "verbalizer.yaml", b"labels: {a: [b], c: [" + b"d" * 500_000 + b"]}", ("verbalizer.yaml:1: 500,000 characters are more than 100 (shorten it)",)),
    Hostile("a label of 500 kB", "verbalizer.yaml", b"labels: {a: [b], ? " + b"c" * 500_000 + b"\n : [d]}", ("verbalizer.yaml:1: a key of 500,000 characters; at most 200",)),
    Hostile("a pattern of 500 kB", "patterns.yaml", b'patterns:\n  - id: a\n    text: "{mask} {text} ' + b"{" * 500_000 + b'"\n', ("patterns.yaml:3: 500,014 characters are more than 10,000",)),
    Hostile("a pattern of 400 fields", "patterns.yaml", b'patterns:\n  - id: a\n    text: "{mask}' + b"".join(b"{f%d}" % field for field in range(400)) + b'"\n', ("patterns.yaml:3: pattern 'a': 400 fields; at most 20",)),
    Hostile("alias bomb", "verbalizer.yaml", alias_bomb(), ("verbalizer.yaml:", f"more than 30,000 values, aliases written out {TOO_LARGE}")),
    Hostile("deep lists", "pipeline.yaml", b"a: " + b"[" * 500_000, (f"pipeline.yaml:1: nested more than 32 deep {TOO_LARGE}",)),
    Hostile("deep mappings", "patterns.yaml", b"{a: " * 200_000, (f"patterns.yaml:1: nested more than 32 deep {TOO_LARGE}",)),
    Hostile("deep blocks", "verbalizer.yaml", b"- " * 500_000, (f"verbalizer.yaml:1: nested more than 32 deep {TOO_LARGE}",)),
    Hostile("a million values", "pipeline.yaml", b"a: [" + b"[b,b,b,b,b,b,b,b,b]," * 50_000 + b"]", ("pipeline.yaml:1: more than 1,000 entries",)),
    Hostile("a hundred thousand values", "pipeline.yaml", b"a: [" + (b"[" + b"b," * 900 + b"],") * 120 + b"]", ("pipeline.yaml:1: more than 30,000 values",)),
    Hostile("15 MB of comment", "patterns.yaml", large(lambda: b"# nothing\n" * 1_500_000), ("pipeline.yaml:6: patterns: pattern files exceed 1 MiB in total",)),
    Hostile("too many teachers", "patterns.yaml", patterns(100), ("--set teachers.seeds=", "100 patterns × 11 seeds × 1 generations are 1,100 teachers; at most 1,000"), ("--set", f"teachers.seeds={list(range(11))}")),
    Hostile("deep --set", "note", b"", (f"nested more than 32 deep {TOO_LARGE}",), ("--set", "task=" + "[" * 60_000)),
    Hostile("long --set path", "note", b"", ("write --set key.path=value",), ("--set", "a." * 60_000 + "b=1")),
    Hostile("long --set value", "note", b"", ("(100,005 characters): task: 100,000 characters are more than 10,000",), ("--set", "task=" + "a" * 100_000)),
    Hostile("300 times --set", "note", b"", ("--set: given 300 times; at most 200 (write the values into a pipeline file)",), ("--set", "max_length=16") * 300),
)  # fmt: skip
ROWS = (
    Hostile("row of 50 MB", "train.jsonl", large(lambda: b'{"text": "' + b"a " * 25_000_000 + b'", "label": "World"}\n'), (f"train.jsonl:1: {TOO_LONG}",)),
    Hostile("row of 50 MB further back", "unlabeled.jsonl", large(lambda: GOOD * 200_000 + b'{"text": "' + b"a " * 25_000_000 + b'"}\n' + GOOD), (f"unlabeled.jsonl:200001: {TOO_LONG}",)),
    Hostile("50 MB in one cell", "rows.csv", large(lambda: b"text\nfine\n" + b"a " * 25_000_000), (f"rows.csv:3: {TOO_LONG}",), ("--set", "data.test=rows.csv")),
    Hostile("50 MB between quotes", "rows.csv", large(lambda: b'text\nfine\n"' + b"a line\n" * 7_000_000), (f"rows.csv:3: {TOO_LONG}",), ("--set", "data.test=rows.csv")),
    Hostile("two million columns", "rows.tsv", large(lambda: b"a\t" * 2_000_000 + b"b\n"), ("rows.tsv:1: 2,000,001 columns are more than 10,000",), ("--set", "data.test=rows.tsv")),
    Hostile("deep JSON", "train.jsonl", GOOD + b'{"text": ' + b"[" * 1_000_000 + b"\n", ("train.jsonl:2: nested more than 100 deep",)),
    Hostile("deep JSON that ends", "train.jsonl", GOOD + b'{"text": ' + b"[" * 500 + b"]" * 500 + b"}\n", ("train.jsonl:2: nested more than 100 deep",)),
    Hostile("a number of a million digits", "test.jsonl", b'{"text": "a", "label": ' + b"1" * 1_000_000 + b"}\n", ("test.jsonl:1: not valid JSON: a number of thousands of digits",)),
    Hostile("Parquet of zeros", "rows.parquet", parquet_zeros, ("rows.parquet: column 'text' unpacks", "(no text shrinks that much)"), ("--set", "data.unlabeled=rows.parquet")),
    Hostile("Parquet of one long text", "rows.parquet", parquet_one_long_text, ("rows.parquet: text: a text of more than 4 MiB (split it into rows of their own)",), ("--set", "data.unlabeled=rows.parquet")),
    Hostile("Parquet of one long text in lists", "rows.parquet", parquet_one_long_text_in_lists, ("rows.parquet: text.list.element: a text of more than 4 MiB",), ("--set", "data.unlabeled=rows.parquet")),
    Hostile("Parquet of long rows", "rows.parquet", parquet_long_rows, ("rows.parquet: rows of more than 4 MiB (split them into rows of their own)",), ("--set", "data.unlabeled=rows.parquet")),
    Hostile("Parquet of too many rows", "rows.parquet", parquet_of_rows, ("rows.parquet: claims to contain 50,000,000 rows in",), ("--set", "data.unlabeled=rows.parquet")),
)  # fmt: skip
CASES = (*FILES, *CONFIGURATION, *ROWS)
