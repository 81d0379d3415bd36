"""CSV and TSV as other programs write them: quotes, delimiters, first lines without names, compressed files, and lists of JSON."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from petkit.config.schema.pipeline import DataSpec
from petkit.data.examples import ExampleSource
from petkit.data.precheck import look_at
from petkit.data.records import read_records, text_records
from petkit.errors import BeyondLimit, InvalidInput

LABELS = ("World", "Sports")
ROWS = [{"text": "one", "label": "World"}, {"text": "two; three", "label": "Sports"}]


def source(path: str, labels: tuple[str, ...] | None = LABELS, **settings: Any) -> ExampleSource:
    return ExampleSource(path, DataSpec(unlabeled=path, **settings), ("text",), labels)


def rows_of(text: str, kind: str) -> list[Any]:
    return [record.error or dict(record.values) for record in text_records(io.StringIO(text, newline=""), kind)]


LINES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\t\r\n"), min_size=1, max_size=8)


@given(st.lists(st.tuples(LINES, LINES), max_size=5))
def test_every_character_of_a_tsv_is_its_own(rows: list[tuple[str, str]]) -> None:
    """As many rows come out as lines went in, whatever quotes are in them."""
    read = rows_of("text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in rows), "tsv")

    assert read == [{"text": text, "label": label} for text, label in rows]


TIGHT = st.text("ab .!'", min_size=1, max_size=6).map(lambda text: f"a{text}")


@given(st.lists(st.tuples(TIGHT, TIGHT, TIGHT), min_size=2, max_size=8), st.integers(0, 2), st.data())
def test_no_row_of_a_csv_disappears_between_two_stray_quotes(
    rows: list[tuple[str, str, str]], place: int, data: st.DataObject
) -> None:
    """A quote that opens one row's cell and one that closes a later row's are refused at the line of the first."""
    first = data.draw(st.integers(0, len(rows) - 2))
    last = data.draw(st.integers(first + 1, len(rows) - 1))
    lines = [",".join(row) for row in rows]
    opened, closed = list(rows[first]), list(rows[last])
    opened[place], closed[place] = f'"{opened[place]}', f'{closed[place]}"'
    lines[first], lines[last] = ",".join(opened), ",".join(closed)
    records = list(text_records(io.StringIO("\n".join(["id,text,label", *lines]), newline=""), "csv"))

    (refused,) = (record for record in records if record.error)
    assert refused.line == first + 2
    assert refused.error == f"a quoted cell takes lines {first + 2} to {last + 2}, which look like rows"


@pytest.mark.parametrize(
    "text",
    [
        "Dear Sir,\nI am late, sorry.\nBest",
        "one line\nand another",
        "first,second\nthird",
        "- parcels, letters\n- 1,000 stamps\n- nothing else",
        "a\n\nb, c",
    ],
)
def test_prose_of_several_lines_is_one_text(text: str) -> None:
    assert rows_of(f'text,label\n"{text}",World\n', "csv") == [{"text": text, "label": "World"}]


@pytest.mark.parametrize("text", ["About 10,000 people came.\nGreat evening.", "Coordinates: 52.5,13.4\nBerlin"])
def test_numbers_with_commas_are_no_rows(text: str) -> None:
    assert rows_of(f'id,text,label\n1,"{text}",World\n', "csv") == [{"id": "1", "text": text, "label": "World"}]


@pytest.mark.parametrize(
    ("content", "delimiter"),
    [
        ('text;label\none;World\n"two; three";Sports\n', ";"),
        ("text\tlabel\none\tWorld\ntwo; three\tSports\n", "\t"),
        ('sep=;\ntext;label\none;World\n"two; three";Sports\n', ";"),
        ("SEP=,\r\ntext,label\r\none,World\r\ntwo; three,Sports\r\n", ","),
        ('"text";"label"\n"one";"World"\n"two; three";"Sports"\n', ";"),
        ('text,"la;bel",label\none,,World\ntwo; three,,Sports\n', ","),
    ],
)
def test_delimiters(content: str, delimiter: str, here: Path) -> None:
    (here / "rows.csv").write_text(content, encoding="utf-8-sig", newline="")
    opened = source("rows.csv")
    scan = opened.scan()

    assert [(example.fields["text"], example.label) for example in opened] == [("one", 0), ("two; three", 1)]
    assert scan.problems == ()
    assert scan.notes == (() if delimiter == "," else (f"rows.csv: read with {delimiter!r} between its cells",))


@pytest.mark.parametrize("first", ["fine,World", "1,what is it", "what does this one cost?,x"])
def test_a_first_line_that_is_a_row(first: str, here: Path) -> None:
    (here / "rows.csv").write_text(f"{first}\nmore,Sports\n", encoding="utf-8")

    (problem,) = source("rows.csv").scan().problems

    assert str(problem).startswith("rows.csv:1: has no header; its first line is ")


@pytest.mark.parametrize("first", ["message,topic", "Customer message,x", "text,what does it cost?"])
def test_names_of_columns_are_no_row(first: str, here: Path) -> None:
    (here / "rows.csv").write_text(f"{first}\nmore,Sports\n", encoding="utf-8")

    assert not any("header" in problem.message for problem in source("rows.csv").scan().problems)


NAMES = st.lists(st.sampled_from(["", "", "text", "label", "id"]), min_size=2, max_size=6)


@given(NAMES, st.sampled_from(["csv", "tsv"]))
def test_no_column_is_lost_for_want_of_a_name(names: list[str], kind: str) -> None:
    """A lone one without a name keeps it, as pandas writes its index; of several each gets one of its own; others come once."""
    mark = "," if kind == "csv" else "\t"
    cells = [f"cell {place}" for place in range(len(names))]
    (row,) = rows_of(f"{mark.join(names)}\n{mark.join(cells)}\n", kind)
    named = [name for name in names if name]

    if len(set(named)) < len(named):
        assert row.endswith(" is named twice")
        return
    assert list(row.values()) == cells
    alone = names.count("") == 1
    assert list(row) == [name or ("" if alone else f"column {place}") for place, name in enumerate(names, 1)]


CELLS = st.text(st.sampled_from("ab \r\"'"), min_size=1, max_size=6).map(lambda cell: f"x{cell}y")


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@given(rows=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=5))
def test_a_row_of_a_tsv_ends_with_its_line(
    end: str, rows: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("tsv") / "rows.tsv"
    path.write_bytes("".join(f"{text}\t{label}{end}" for text, label in [("text", "label"), *rows]).encode())

    assert [tuple(record.values.values()) for record in read_records(str(path))] == rows


@pytest.mark.parametrize(("kind", "mark"), [("csv", ","), ("tsv", "\t")])
@pytest.mark.parametrize("end", ["\r", "\r\r\n"], ids=["old Macs", "doubled on Windows"])
def test_lines_that_end_as_the_first(kind: str, mark: str, end: str, here: Path) -> None:
    lines = (mark.join(cells) for cells in (("text", "label"), ("one", "World"), ("two; three", "Sports")))
    (here / f"rows.{kind}").write_bytes("".join(line + end for line in lines).encode())

    assert [dict(record.values) for record in read_records(f"rows.{kind}")] == ROWS


def test_a_lone_carriage_return_in_a_csv_needs_quotes(here: Path) -> None:
    (here / "rows.csv").write_bytes(b'text,label\n"one\rline",World\ntwo\rlines,World\n')
    whole, refused = read_records("rows.csv")

    assert whole.values["text"] == "one\rline"
    assert (refused.line, refused.error) == (3, r"not valid csv: a lone \r in a cell without quotes")


def write(path: Path, content: bytes) -> str:
    """Write a file, compressed by its ending."""
    if path.suffix == ".gz":
        content = gzip.compress(content)
    elif path.suffix == ".zst":
        content = pa.compress(content, codec="zstd", asbytes=True)
    path.write_bytes(content)
    return str(path)


JSON_LINES = "".join(json.dumps(row) + "\n" for row in ROWS)


@pytest.mark.parametrize("compressed", ["", ".gz", ".zst"])
@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("jsonl", JSON_LINES),
        ("json", json.dumps(ROWS)),
        ("json", "\n " + json.dumps(ROWS, indent=2) + "\n"),
        ("json", JSON_LINES),
        ("csv", "text,label\none,World\ntwo; three,Sports\n"),
        ("tsv", "text\tlabel\none\tWorld\ntwo; three\tSports\n"),
    ],
)
def test_formats_and_compressions_contain_the_same_rows(kind: str, content: str, compressed: str, here: Path) -> None:
    path = write(here / f"rows.{kind}{compressed}", content.encode("utf-8-sig"))

    assert [dict(record.values) for record in read_records(path)] == ROWS


def test_lists_of_json_are_read_in_pieces(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"text": f"{number} " * 5, "deep": [{"a": []}]} for number in range(30)]
    (here / "rows.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    monkeypatch.setattr("petkit.data.records.CHUNK", 16)

    records = list(read_records("rows.json"))

    assert [dict(record.values) for record in records] == rows
    assert [record.line for record in records] == [2 + 8 * number for number in range(30)]


def test_what_follows_a_list_of_json_is_refused(here: Path) -> None:
    (here / "rows.json").write_text('[{"text": "a"}]\n\n[{"text": "b"}]')
    assert [record.error for record in read_records("rows.json")] == ["", "not valid JSON: the file goes on after its list"]


def test_a_mistake_in_a_long_list_of_json_is_named(here: Path) -> None:
    (here / "rows.json").write_text('[{"text": "a"},\n{"text": oops},\n' + '{"text": "b"},\n' * 300_000 + "{}]")
    (record,) = [record for record in read_records("rows.json") if record.error]
    assert (record.line, record.error, record.beyond) == (2, "not valid JSON: Expecting value", False)


@pytest.mark.parametrize("ending", ["gz", "zst"])
def test_what_unpacks_to_no_end_is_refused(ending: str, here: Path) -> None:
    path = write(here / f"rows.jsonl.{ending}", (b'{"text": "' + b"a" * 2**16 + b'"}\n') * 2**9)

    for read in (look_at, lambda path: list(read_records(path))):
        with pytest.raises(BeyondLimit, match="unpacks to more than 16 MiB"):
            read(path)


@pytest.mark.parametrize("ending", ["gz", "zst"])
def test_damaged_compressed_files(ending: str, here: Path) -> None:
    path = Path(write(here / f"rows.jsonl.{ending}", JSON_LINES.encode() * 100))
    path.write_bytes(path.read_bytes()[:-20])

    with pytest.raises(InvalidInput, match=rf"rows\.jsonl\.{ending}: cannot be read: "):
        list(read_records(str(path)))


EMPTY = [{"text": "one"}, {"text": ""}, {"text": None}, {"text": "two"}, {"text": " \t"}]


def test_unlabelled_rows_without_a_text_are_left_out_and_counted(here: Path) -> None:
    (here / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in EMPTY), encoding="utf-8")
    opened = source("rows.jsonl", labels=None)
    scan = opened.scan()

    note = "rows.jsonl: 3 of 5 rows have no text and are left out (lines 2, 3, 5; data.empty: refuse stops at them)"
    assert (scan.rows, scan.problems, scan.notes) == (2, (), (note,))
    assert [example.id for example in opened.unchanged(scan)] == ["row-1", "row-4"]
    assert len(source("rows.jsonl", labels=None, empty="refuse").scan().problems) == 3


@pytest.mark.parametrize(("empty", "problems"), [(None, 1), ("refuse", 1), ("skip", 0)])
def test_labelled_rows_without_a_text_are_refused_by_default(empty: Any, problems: int, here: Path) -> None:
    (here / "rows.csv").write_text("text,label\na,World\n,Sports\n", encoding="utf-8")

    assert len(source("rows.csv", empty=empty).scan().problems) == problems
