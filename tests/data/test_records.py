"""Rows as they stand in files of every kind, and what is said of files that are broken."""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from petkit.data.records import Record, class_names, format_of, parse_json_line, read_records, text_records
from petkit.errors import InvalidInput

ROWS = [{"text": "One.", "label": "World"}, {"text": 'Two, "quoted"\nlines', "label": "Größe"}]
CSV = 'text,label\nOne.,World\n"Two, ""quoted""\nlines",Größe\n'
CONTENT = {
    "jsonl": '{"text": "One.", "label": "World"}\n\n{"text": "Two, \\"quoted\\"\\nlines", "label": "Größe"}',
    "csv": CSV,
}


def text_rows(text: str, kind: str = "csv") -> list[tuple[int, dict[str, Any] | str]]:
    """Return line and values, or line and error, of every row."""
    records = text_records(io.StringIO(text, newline=""), kind)
    return [(record.line, record.error or dict(record.values)) for record in records]


def refused(source: Path | str) -> str:
    with pytest.raises(InvalidInput) as caught:
        list(read_records(str(source)))
    return str(caught.value)


@pytest.mark.parametrize("prefix", [b"", b"\xef\xbb\xbf"], ids=["plain", "with byte order mark"])
@pytest.mark.parametrize("ends", ["\n", "\r\n"], ids=["unix", "windows"])
@pytest.mark.parametrize("kind", CONTENT)
def test_text_formats_hold_the_same_rows(here: Path, kind: str, ends: str, prefix: bytes) -> None:
    path = here / f"rows.{kind}"
    path.write_bytes(prefix + CONTENT[kind].replace("\n", ends).encode())
    rows = [dict(record.values) for record in read_records(str(path))]

    assert [{key: value.replace("\r\n", "\n") for key, value in row.items()} for row in rows] == ROWS


def test_parquet_holds_the_same_rows(here: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS * 3), here / "rows.parquet", row_group_size=2)

    assert list(read_records(str(here / "rows.parquet"))) == [Record(n, row) for n, row in enumerate(ROWS * 3, 1)]


def test_format_is_reported_by_the_ending() -> None:
    assert [format_of(name) for name in ("a.JSONL", "b.csv", "c.d.Tsv", "hf://x/y.csv")] == ["jsonl", "csv", "tsv", "hf"]


@pytest.mark.parametrize(
    ("name", "reported"),
    [
        ("rows.jsn", "rows.jsn: unknown kind of file 'jsn' (did you mean 'json'?)"),
        ("rows.csv.bz2", "rows.csv.bz2: unknown kind of file 'bz2' (known: jsonl, json, csv, tsv, parquet)"),
        ("rows.gz", "rows.gz: its name has no ending, so its format is unknown (known: jsonl, json, csv, tsv, parquet)"),
        ("rows.parquet.gz", "rows.parquet.gz: a compressed Parquet file (unpack it; Parquet compresses itself)"),
        ("rows.xlsx", "rows.xlsx: unknown kind of file 'xlsx' (known: jsonl, json, csv, tsv, parquet)"),
        ("rows", "rows: its name has no ending, so its format is unknown (known: jsonl, json, csv, tsv, parquet)"),
        ("rows.csv", "rows.csv: no such file"),
        ("a\0b.csv", r"a\x00b.csv: no such file"),
    ],
)
def test_file_that_cannot_be_read(here: Path, name: str, reported: str) -> None:
    assert refused(name) == reported


def test_folder_is_not_a_file(here: Path) -> None:
    (here / "rows.csv").mkdir()

    assert refused("rows.csv") == "rows.csv: is a folder, not a file"


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("", []),
        ("text,label\n", []),
        ("text,label\na,b,c,d\nx,y\n", [(2, "4 cells under 2 column names"), (3, {"text": "x", "label": "y"})]),
        ("text,label\nonly\n", [(2, {"text": "only", "label": None})]),
        ("text,label\n,\n", [(2, {"text": "", "label": ""})]),
        ("\n\ntext\n\na\n\n\nb\n", [(5, {"text": "a"}), (8, {"text": "b"})]),
        ('"te\nxt"\n"a\nb\nc"\nd\n', [(3, {"te\nxt": "a\nb\nc"}), (6, {"te\nxt": "d"})]),
        ("text,label,text\na,b,c\n", [(1, "column 'text' is named twice")]),
        ("text,,\na,,\n", [(2, {"text": "a", "column 2": "", "column 3": ""})]),
        ("text\n x \n", [(2, {"text": " x "})]),
        ('text\nfine\n"a" b\nc\n', [(2, {"text": "fine"}), (3, "not valid csv: a cell goes on after its closing quote")]),
        ('text\nfine\n"never\nclosed\n', [(2, {"text": "fine"}), (3, "not valid csv: a quote is never closed")]),
    ],
)
def test_csv_rows_and_their_lines(text: str, rows: list[tuple[int, dict[str, Any] | str]]) -> None:
    assert text_rows(text) == rows


def test_a_cell_may_be_long() -> None:
    ((_, row),) = text_rows(f"text\n{'x' * 200_000}\n")

    assert row == {"text": "x" * 200_000}


CELLS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)


@given(st.lists(st.fixed_dictionaries({"text": CELLS, "label": CELLS}), max_size=5), st.sampled_from(",;\t"))
def test_any_text_survives_a_table(rows: list[dict[str, str]], mark: str) -> None:
    cells = [("text", "label"), *((row["text"], row["label"]) for row in rows)]
    quoted = [mark.join('"' + cell.replace('"', '""') + '"' for cell in line) for line in cells]
    read = text_rows("\n".join(quoted) + "\n")

    assert [row for _, row in read] == rows


@pytest.mark.parametrize(
    ("line", "reported"),
    [
        ('{"text": "a", "label": "b"', "not valid JSON: the line is cut off"),
        ('{"text": "a', "not valid JSON: the line is cut off"),
        ('{"text": ', "not valid JSON: the line is cut off"),
        ("{'text': 'a'}", "not valid JSON: Expecting property name enclosed in double quotes"),
        ('{"text": "a"} x', "not valid JSON: Extra data"),
        ('["a"]', 'not a JSON object such as {"text": "…", "label": "…"}'),
        ("5", 'not a JSON object such as {"text": "…", "label": "…"}'),
        ("[" * 100_000, "nested more than 100 deep"),
        ('{"a": ' * 101 + "1" + "}" * 101, "nested more than 100 deep"),
        ('{"text": "a", "x": {"text": 1}, "text": "b"}', "key 'text' is written twice"),
        ('{"a": [{"b": 1, "b": 1}]}', "key 'b' is written twice"),
        (f'{{"label": {"1" * 5000}}}', "not valid JSON: a number of thousands of digits"),
    ],
)
def test_broken_json_line(line: str, reported: str) -> None:
    assert parse_json_line(line + "\n", 7) == Record(7, error=reported)


def test_json_lines_know_their_numbers() -> None:
    assert text_rows('{"a": 1}\n\n  \nbroken\n{"a": "\u2028"}', "jsonl") == [
        (1, {"a": 1}),
        (4, "not valid JSON: Expecting value"),
        (5, {"a": "\u2028"}),
    ]


@pytest.mark.parametrize(("kind", "head"), [("jsonl", ""), ("csv", "text,label\n"), ("tsv", "text\tlabel\n")])
@pytest.mark.parametrize("good", [0, 3, 4000])
def test_wrong_encoding_is_reported_with_its_line(here: Path, kind: str, head: str, good: int) -> None:
    lines = {"jsonl": '{"text": "é"}\n', "csv": "é,b\n", "tsv": "é\tb\n"}[kind]
    broken = lines.encode("latin-1")
    (here / f"rows.{kind}").write_bytes(head.encode() + lines.encode() * good + broken + lines.encode())

    assert refused(f"rows.{kind}") == f"rows.{kind}:{good + 1 + bool(head)}: not UTF-8 (save the file as UTF-8)"


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no parquet at all", None], ids=["empty", "magic", "text", "cut off"])
def test_damaged_parquet(here: Path, content: bytes | None) -> None:
    path = here / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS), path)
    path.write_bytes(path.read_bytes()[:-20] if content is None else content)

    assert refused("rows.parquet").startswith("rows.parquet: not a complete Parquet file: ")


def test_parquet_with_a_damaged_page(here: Path) -> None:
    path = here / "rows.parquet"
    pq.write_table(pa.table({"text": [f"row {n}" * 9 for n in range(5000)]}), path, compression="snappy")
    content = bytearray(path.read_bytes())
    content[4:400] = b"\xff" * 396
    path.write_bytes(content)

    assert refused("rows.parquet").startswith("rows.parquet: ")


def test_what_is_nested_as_somebody_may_mean_it_is_read() -> None:
    assert not parse_json_line('{"a": ' * 100 + "1" + "}" * 100, 1).error


def test_text_is_read_no_further_than_asked() -> None:
    lines = iter(['{"n": 1}\n', '{"n": 2}\n'])

    class Stream(io.StringIO):
        def readline(self, size: int | None = -1, /) -> str:
            return next(lines)  # a third would be an error

    assert [record.values["n"] for record in islice(text_records(Stream(), "jsonl"), 2)] == [1, 2]


class Dataset:
    """Stands for a streamed dataset of the ``datasets`` library."""

    def __init__(self, features: dict[str, Any] | None) -> None:
        self.features = features

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(ROWS)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Replaces ``load_dataset``; holds what it was asked for."""
    import datasets

    asked: list[tuple[Any, ...]] = []

    def load_dataset(name: str, config: str | None, *, split: str, streaming: bool) -> Dataset:
        asked.append((name, config, split, streaming))
        if name == "missing":
            raise FileNotFoundError("Dataset 'missing' doesn't exist\nmore")
        label = datasets.ClassLabel(names=["World", "Sports"])
        return Dataset({"text": datasets.Value("string"), "label": label} if name != "featureless" else None)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return asked


@pytest.mark.parametrize(
    ("source", "asked"),
    [
        ("hf://ag_news/train", ("ag_news", None, "train", True)),
        ("hf://fancyzhx/ag_news/test", ("fancyzhx/ag_news", None, "test", True)),
        ("hf://nyu-mll/glue/sst2/train", ("nyu-mll/glue", "sst2", "train", True)),
    ],
)
def test_hub_dataset(hub: list[tuple[Any, ...]], source: str, asked: tuple[Any, ...]) -> None:
    assert list(read_records(source)) == [Record(1, ROWS[0]), Record(2, ROWS[1])]
    assert hub == [asked]


def test_class_names_come_from_the_hub_only(hub: list[tuple[Any, ...]]) -> None:
    assert class_names("hf://ag_news/train", "label") == ("World", "Sports")
    assert class_names("hf://ag_news/train", "text") is None
    assert class_names("hf://featureless/train", "label") is None
    assert class_names("rows.csv", "label") is None


@pytest.mark.parametrize("source", ["hf://", "hf://ag_news", "hf://ag_news/", "hf:///train", "hf://a/b/c/d/e"])
def test_bad_hub_name(hub: list[tuple[Any, ...]], source: str) -> None:
    assert refused(source) == f"{source}: write hf://name/split, hf://owner/name/split or hf://owner/name/config/split"
    assert hub == []


@pytest.mark.parametrize(
    ("offline", "hint"),
    [("0", "check the name and the network"), ("1", "offline mode is on, and the local cache does not contain it")],
)
def test_hub_dataset_that_cannot_be_opened(
    offline: str, hint: str, hub: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, offline)

    assert refused("hf://missing/train") == f"hf://missing/train: cannot be opened: Dataset 'missing' doesn't exist ({hint})"


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("the line went dead\nmore"),
        ValueError("the line went dead"),
        RuntimeError("the line went dead"),
        pa.ArrowInvalid("the line went dead"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_hub_dataset_that_breaks_midway(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    import datasets

    class Breaking(Dataset):
        def __iter__(self) -> Iterator[dict[str, Any]]:
            yield from ROWS
            raise error

    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: Breaking(None))

    assert refused("hf://ag_news/train") == "hf://ag_news/train: cannot be read after row 2: the line went dead"
