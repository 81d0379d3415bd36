"""Files of rows with any content: rows or mistakes, at their lines; and what is written comes back as it was."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from petkit.data.examples import Example
from petkit.errors import InvalidInput
from tests.data.rows import LABELS, problems, source
from tests.fuzz.mutations import STRANGE_VALUES

ROWS = ({"text": "One.", "label": "World"}, {"text": 'Two, "quoted"', "label": "Sports"}, {"text": "Größe", "label": "World"})
SOUND = {
    "jsonl": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode(),
    "csv": 'text,label\nOne.,World\n"Two, ""quoted""",Sports\nGröße,World\n'.encode(),
    "tsv": 'text\tlabel\nOne.\tWorld\n"Two, ""quoted"""\tSports\nGröße\tWorld\n'.encode(),
}
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
FULL_TEXTS = TEXTS.filter(lambda text: text.strip() != "")


def check(path: Path) -> list[Example]:
    """Read a file in both ways: whole, and up to the first mistake. Return its rows where there is no mistake."""
    opened = source(path.name)
    scan = opened.scan()
    lines = path.read_bytes().count(b"\n") + path.read_bytes().count(b"\r") + 1
    for problem in scan.problems:
        line = str(problem)
        assert line.startswith(path.name)
        assert len(line.splitlines()) == 1
        assert problem.line is None or path.suffix == ".parquet" or 1 <= problem.line <= lines
    rows: list[Example] = []
    refused = None
    try:
        rows += opened
    except InvalidInput as error:
        refused = error
    assert refused is None or (refused.problems and scan.problems)
    # A file without rows is a mistake too, which nobody meets who reads them one by one.
    assert (refused is not None) == bool(scan.problems and scan.rows) or scan.rows == 0
    assert scan.problems or len(rows) == scan.rows > 0
    return [] if scan.problems else rows


@pytest.mark.parametrize("kind", SOUND)
@settings(max_examples=150)
@given(data=st.data())
def test_a_broken_file(here: Path, kind: str, data: st.DataObject) -> None:
    content = SOUND[kind]
    for _ in range(data.draw(st.integers(1, 2))):
        start = data.draw(st.integers(0, len(content)))
        stop = data.draw(st.integers(start, min(len(content), start + 12)))
        marks = st.lists(
            st.sampled_from([b'"', b",", b"\t", b"\n", b"\r", b"{", b"}", b"\\ud800", b"\xff", b"\0", b"null", b"[", b"1e999"])
        )
        piece = data.draw(st.one_of(st.binary(max_size=6), marks.map(b"".join), st.just(content[start:stop] * 2)))
        content = content[:start] + piece + content[stop:]
    path = here / f"rows.{kind}"
    path.write_bytes(content)

    check(path)


@pytest.mark.parametrize("kind", [*SOUND, "parquet"])
@given(content=st.binary(max_size=80))
def test_any_content(here: Path, kind: str, content: bytes) -> None:
    path = here / f"rows.{kind}"
    path.write_bytes(content)

    check(path)


CELLS = st.one_of(STRANGE_VALUES, st.sampled_from(["World", "fine", "\ud800", "a\udfff"]))
KEYS = st.sampled_from(["text", "label", "id", "txt", "\ud800", ""])


@settings(max_examples=200)
@given(st.lists(st.dictionaries(KEYS, CELLS, max_size=3), max_size=4))
def test_json_lines_of_any_values(here: Path, rows: list[dict[str, Any]]) -> None:
    path = here / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    for example in check(path):
        assert example.fields["text"].strip()
        assert example.label in range(len(LABELS))
        example.id.encode()


@pytest.mark.parametrize("kind", SOUND)
@given(good=st.integers(0, 3), bad=st.sampled_from(["empty text", "unknown label", "not a row"]), after=st.integers(0, 2))
def test_a_mistake_is_reported_at_its_line(here: Path, kind: str, good: int, bad: str, after: int) -> None:
    rows: list[dict[str, str]] = [{"text": "fine", "label": "World"}] * (good + 1 + after)
    rows[good] = {"text": " " if bad == "empty text" else "fine", "label": "Art" if bad == "unknown label" else "World"}
    lines = written(kind, rows).split(b"\n")
    if bad == "not a row":
        lines[good + (kind != "jsonl")] = b"{" if kind == "jsonl" else b"a\tb\tc" if kind == "tsv" else b"a,b,c"
    path = here / f"rows.{kind}"
    path.write_bytes(b"\n".join(lines))

    (problem,) = source(path.name).scan().problems
    assert problem.line == good + 1 + (kind != "jsonl")


def written(kind: str, rows: list[dict[str, str]]) -> bytes:
    """Write rows as any other program would."""
    if kind == "jsonl":
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    if kind == "parquet":
        sink = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows), sink)
        return sink.getvalue()
    if kind == "tsv":
        return "".join(f"{row['text']}\t{row['label']}\n" for row in [{"text": "text", "label": "label"}, *rows]).encode()
    stream = io.StringIO(newline="")
    table = csv.DictWriter(stream, ["text", "label"])
    table.writeheader()
    table.writerows(rows)
    return stream.getvalue().encode()


@pytest.mark.parametrize("kind", [*SOUND, "parquet"])
@settings(max_examples=100)
@given(texts=st.lists(FULL_TEXTS, min_size=1, max_size=4), label=st.sampled_from(LABELS))
def test_what_is_written_is_read(here: Path, kind: str, texts: list[str], label: str) -> None:
    path = here / f"rows.{kind}"
    if kind == "tsv":  # which has no way to write these
        texts = [re.sub(r"[\t\r\n]", " ", text) for text in texts]
    path.write_bytes(written(kind, [{"text": text, "label": label} for text in texts]))

    assert [(row.fields["text"], row.label) for row in check(path)] == [(text, LABELS.index(label)) for text in texts]


NO_TEXT = pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe"))


@pytest.mark.parametrize(
    "column",
    [
        NO_TEXT,
        pa.array([2**53], pa.timestamp("ms")),
        pa.array([1], pa.timestamp("ns", tz="Nowhere/Land")),
        pa.array([2**31 - 1], pa.date32()),
        pa.array([2**62], pa.duration("s")),
        pa.array([[("a", 1), ("a", 2)]], pa.map_(pa.string(), pa.int64())),
        pa.array([b"\xff"], pa.binary()),
        pa.nulls(1),
    ],
    ids=["no UTF-8", "a far future", "no time zone", "a far day", "a long time", "a map", "bytes", "nothing"],
)
@pytest.mark.parametrize("name", ["text", "label", "id", "other"])
def test_parquet_values_that_python_does_not_have(here: Path, name: str, column: pa.Array) -> None:
    """A column may hold what no Python value stands for; that is a mistake of the file, and no fault of petkit."""
    table = pa.table({"text": ["fine"], "label": ["World"], name: column})
    pq.write_table(table, here / "rows.parquet")

    check(here / "rows.parquet")


def test_parquet_with_a_column_twice(here: Path) -> None:
    columns = [pa.array(["a"]), pa.array(["b"]), pa.array(["World"])]
    pq.write_table(pa.Table.from_arrays(columns, ["text", "text", "label"]), here / "rows.parquet")

    assert problems(source("rows.parquet")) == ["rows.parquet: column 'text' is named twice"]


@settings(max_examples=150)
@given(data=st.data())
def test_a_broken_parquet_file(here: Path, data: st.DataObject) -> None:
    content = bytearray(written("parquet", list(ROWS)))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.none(), st.integers(0, len(content))))
    (here / "rows.parquet").write_bytes(content[:cut])

    check(here / "rows.parquet")


@pytest.mark.parametrize("byte", [0, 27, 255])
def test_parquet_that_describes_itself_wrongly(here: Path, byte: int) -> None:
    """Whichever byte of the description: the library would end the process for some that say 27."""
    sound = written("parquet", list(ROWS))
    for place in range(4, len(sound) - 8):
        (here / "rows.parquet").write_bytes(sound[:place] + bytes([byte]) + sound[place + 1 :])
        check(here / "rows.parquet")


def test_an_id_of_half_a_character_is_a_mistake(here: Path) -> None:
    """It would only show when predictions are written."""
    (here / "rows.jsonl").write_text('{"text": "a", "label": "World", "id": "\\ud800"}\n')

    assert problems(source("rows.jsonl")) == ["rows.jsonl:1: id: contains a lone surrogate (invalid Unicode)"]
