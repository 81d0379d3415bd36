"""Large input that somebody means is read, in time that grows with its size; and hopeless input is not pondered for ever."""

from __future__ import annotations

import json
import time
import tracemalloc
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from petkit import limits
from petkit.config.loader import load_pipeline
from petkit.config.schema.pipeline import DataSpec
from petkit.data.examples import SHOWN_PROBLEMS, ExampleSource
from petkit.data.precheck import look_at, overlong_line
from petkit.data.records import read_records
from petkit.errors import InvalidInput, did_you_mean
from tests.cli import project
from tests.limits import hostile
from tests.processor import slowness

# Four times the input may take this many times as long: a quadratic step would take sixteen.
LINEAR = 4 * 2.0


def seconds(task: Callable[[], object]) -> float:
    """Return the processor's time, the best of three."""
    taken = []
    for _ in range(3):
        started = time.process_time()
        task()
        taken.append(time.process_time() - started)
    return min(taken)


def peak(task: Callable[[], object]) -> float:
    """Return how much more memory Python held while at work, in MiB."""
    tracemalloc.start()
    try:
        task()
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


def test_largest_specification_is_read(here: Path) -> None:
    words = hostile.labels(limits.LABELS, 10)
    project.write(here, Path("no-model"), {"verbalizer.yaml": words, "patterns.yaml": hostile.patterns(limits.PATTERNS)})

    spec = load_pipeline("pipeline.yaml").spec

    assert (len(spec.labels), len(spec.patterns)) == (1_000, 200)
    assert sum(map(len, spec.verbalizer.labels.values())) == limits.WORDS


@pytest.mark.parametrize("right", [True, False], ids=["right", "wrong"])
def test_specifications_are_read_in_linear_time(right: bool, here: Path) -> None:
    def read(size: int) -> None:
        labels = [f"label{number}" for number in range(size)]
        prior = "{" + ", ".join(f"{label}: 1" for label in (labels if right else [f"no-{label}" for label in labels])) + "}"
        files = {
            "verbalizer.yaml": hostile.labels(size).replace(b"label ", b"label"),
            "patterns.yaml": hostile.patterns(size // 5),
        }
        path = project.write(here, Path("no-model"), files)
        if right:
            load_pipeline(path, [f"soft_labels.prior={prior}"])
            return
        with pytest.raises(InvalidInput):
            load_pipeline(path, [f"soft_labels.prior={prior}"])

    assert seconds(lambda: read(1_000)) < LINEAR * seconds(lambda: read(250))


def rows_of(kind: str, path: Path, count: int) -> None:
    if kind == "jsonl":
        path.write_text("".join(f'{{"text": "row number {number}", "label": "a"}}\n' for number in range(count)))
    elif kind == "csv":
        path.write_text("text,label\n" + "".join(f'"row number {number}",a\n' for number in range(count)))
    else:
        table = {"text": [f"row number {number}" for number in range(count)], "label": ["a"] * count}
        pq.write_table(pa.table(table), path)


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_rows_without_number_are_read_in_linear_time_and_little_memory(kind: str, here: Path) -> None:
    few, many = here / f"few.{kind}", here / f"many.{kind}"
    rows_of(kind, few, 5_000)
    rows_of(kind, many, 20_000)

    def read(path: Path) -> int:
        look_at(str(path))
        return sum(1 for record in read_records(str(path)) if record.values["label"] == "a")

    assert (read(few), read(many)) == (5_000, 20_000)
    assert seconds(lambda: read(many)) < LINEAR * seconds(lambda: read(few))
    assert peak(lambda: read(many)) < 4


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize("size", [100_000, limits.ROW_BYTES - 100], ids=["100 kB", "a novel"])
def test_long_documents_are_read(size: int, kind: str, here: Path) -> None:
    path = here / f"rows.{kind}"
    text = "wörds " * (size // 7)
    if kind == "jsonl":
        path.write_text(3 * (json.dumps({"text": text}, ensure_ascii=False) + "\n"))
    elif kind == "csv":
        path.write_text("text\n" + 3 * f"{text}\n")
    else:
        pq.write_table(pa.table({"text": [text] * 3}), path)

    look_at(str(path))
    assert [record.values["text"] for record in read_records(str(path))] == [text] * 3


@pytest.mark.parametrize("options", [{}, {"use_dictionary": False}, {"row_group_size": 2}], ids=str)
def test_parquet_values_of_every_kind(options: dict[str, Any], here: Path) -> None:
    table = [
        {"text": "a", "label": ["x", "y"], "bytes": b"1", "number": 1, "inner": {"deep": "v", "list": ["w"]}, "none": None},
        {"text": None, "label": [], "bytes": None, "number": None, "inner": None, "none": None},
        {"text": "a", "label": None, "bytes": b"\xff", "number": 3, "inner": {"deep": None, "list": []}, "none": None},
    ]
    pq.write_table(pa.Table.from_pylist(table), here / "rows.parquet", **options)

    assert [dict(record.values) for record in read_records("rows.parquet")] == table


@pytest.mark.parametrize("nested", [False, True], ids=["text", "list"])
def test_a_text_written_once_is_not_held_a_thousand_times(nested: bool, here: Path) -> None:
    """Four megabytes in each of a thousand rows: they can be read, some at a time."""
    text = "long " * 800_000
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 1_000, pa.int32()), pa.array([text]))
    if nested:
        column = pa.ListArray.from_arrays(pa.array(range(1_001), pa.int32()), column)
    pq.write_table(pa.table({"text": column}), here / "rows.parquet", compression="zstd")

    before = pa.total_allocated_bytes()

    def read() -> None:
        for record in islice(read_records("rows.parquet"), 50):
            assert record.values["text"] == ([text] if nested else text)
            assert pa.total_allocated_bytes() - before < 64 * 2**20

    assert peak(read) < 64


def test_a_row_too_long_is_never_held_whole(here: Path) -> None:
    for kind, start in (("jsonl", '{"text": "fine"}\n{"text": "'), ("csv", "text\nfine\n")):
        (here / f"rows.{kind}").write_bytes(start.encode() + b"a " * 25_000_000)

        def read(name: str) -> None:
            *fine, last = read_records(name)
            assert ([record.values for record in fine], last.error, last.beyond) == ([{"text": "fine"}], hostile.TOO_LONG, True)

        assert peak(lambda name=f"rows.{kind}": read(name)) < 40  # type: ignore[misc]


def test_a_text_that_is_not_utf8_is_never_held_whole(here: Path) -> None:
    (here / "rows.jsonl").write_bytes(b'{"text": "fine"}\n\n' + b"a" * 2**20 + b"\xff" + b"a" * 50_000_000)

    def read() -> None:
        with pytest.raises(InvalidInput, match=r"rows\.jsonl:3: not UTF-8"):
            list(read_records("rows.jsonl"))

    assert peak(read) < 40


@pytest.mark.parametrize("ends", [b"\n", b"\r\n", b"\r"])
def test_where_a_line_is_too_long(ends: bytes, here: Path) -> None:
    path = here / "rows"
    most = limits.ROW_BYTES
    path.write_bytes(ends.join([b"a" * most, b"", b"a" * most, b"a"]))
    assert overlong_line(path, 64 * 2**20) is None

    path.write_bytes(ends.join([b"a", b"b" * most, b"c" * (most + 1), b"d"]))
    assert overlong_line(path, 64 * 2**20) == (1 if ends == b"\r" else 3)
    assert overlong_line(path, 2**20) is None


def source(here: Path, rows: list[dict[str, str]], labels: list[str], most: int | None = None) -> ExampleSource:
    (here / "rows.jsonl").write_text(project.json_lines(rows))
    return ExampleSource("rows.jsonl", DataSpec(unlabeled=""), ["text"], labels, most_rows=most)


def test_a_file_of_unknown_labels_is_not_pondered_row_by_row(here: Path) -> None:
    """Each row would be compared with every label."""
    labels = [f"a label with a long name and number {number}" for number in range(limits.LABELS)]
    rows = source(here, [{"text": "a", "label": f"a label of a longer name, number {row}"} for row in range(3_000)], labels)

    started = time.process_time()
    problems = rows.scan().problems

    assert time.process_time() - started < 5 * slowness()
    assert len(problems) == SHOWN_PROBLEMS + 1
    assert "did you mean" in str(problems[0]) and "did you mean" in str(problems[SHOWN_PROBLEMS - 1])
    assert problems[-1].message == "… and 2,980 more rows like these"


def test_names_without_number_are_not_all_compared_or_listed() -> None:
    names = [f"column {number}" for number in range(limits.COLUMNS)]

    assert did_you_mean("colunm 7", names) == "did you mean 'column 7'?"
    assert did_you_mean("x" * 10**6, names).endswith("column 18, column 19 … and 9,980 more")
    assert seconds(lambda: did_you_mean("x" * 10**6, names)) < 0.1 * slowness()


def test_labelled_rows_have_a_number_and_unlabelled_rows_have_none(here: Path) -> None:
    rows = [{"text": f"row {number}", "label": "a"} for number in range(6)]

    assert source(here, rows, ["a"], most=6).scan().problems == ()
    (reported,) = source(here, rows, ["a"], most=5).scan().problems
    assert str(reported) == "rows.jsonl:6: more than 5 labelled rows (put the others into data.unlabeled)"


def test_an_id_is_short(here: Path) -> None:
    rows = [{"text": "a", "label": "a", "id": "i" * 1_000}, {"text": "a", "label": "a", "id": "i" * 1_001}]

    (reported,) = source(here, rows, ["a"]).scan().problems
    assert str(reported) == "rows.jsonl:2: id: is 1,001 characters long; the maximum is 1,000 (data.columns says which it is)"
