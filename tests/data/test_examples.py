"""Checked examples: texts, labels and ids, the report of a whole pass, and reading as a stream."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from petkit.data import examples as examples_module
from petkit.data.examples import Example
from petkit.data.records import Record
from petkit.errors import InvalidInput
from tests.data.rows import LABELS, jsonl, problems, source

GOOD = {"text": "One.", "label": "World"}


def test_rows_become_examples(here: Path) -> None:
    path = jsonl(here / "rows.jsonl", [{**GOOD, "id": "a-1"}, "", {"text": " Two ", "label": "Sports", "other": [1]}])

    assert list(source(path)) == [
        Example("a-1", {"text": "One."}, 0, 1),
        Example("row-2", {"text": " Two "}, 1, 3),
    ]


def test_columns_can_be_mapped(here: Path) -> None:
    path = jsonl(here / "rows.jsonl", [{"Body": "One.", "topic": "Sports", "key": 7, "text": "not this"}])
    columns = {"text": "Body", "label": "topic", "id": "key"}

    assert list(source(path, columns=columns)) == [Example("7", {"text": "One."}, 1, 1)]


def test_fields_keep_the_order_of_the_patterns(here: Path) -> None:
    path = jsonl(here / "rows.jsonl", [{"a": "1", "b": "2", "c": "3"}])

    (example,) = source(path, ("c", "a"), None)

    assert list(example.fields.items()) == [("c", "3"), ("a", "1")]


def test_unlabelled_rows_need_no_label(here: Path) -> None:
    path = jsonl(here / "rows.jsonl", [{"text": "One."}, {"text": "Two.", "label": "nonsense"}])

    assert [example.label for example in source(path, labels=None)] == [None, None]


@pytest.mark.parametrize(
    ("label", "names", "index"),
    [
        ("World", None, 0),
        ("Sports", None, 1),
        (0, ["World", "Sports"], 0),
        (1, ["World", "Sports"], 1),
        ("1", ["World", "Sports"], 1),
        (0, ["Sports", "World"], 1),
        ("World", ["Sports", "World"], 0),
    ],
)
def test_label(here: Path, label: object, names: list[str] | None, index: int) -> None:
    path = jsonl(here / "rows.jsonl", [{"text": "One.", "label": label}])

    assert [example.label for example in source(path, label_names=None if names is None else tuple(names))] == [index]


def test_label_that_is_a_number_in_the_verbalizer_is_that_label(here: Path) -> None:
    path = jsonl(here / "rows.jsonl", [{"text": "One.", "label": 1}, {"text": "Two.", "label": "0"}])

    assert [example.label for example in source(path, labels=("1", "0"), label_names=("0", "1"))] == [0, 1]


@pytest.mark.parametrize(
    ("row", "reported"),
    [
        ({"text": "x", "label": True}, "label: label 'true' is not in the verbalizer (known: World, Sports)"),
        ({"text": "x", "label": 1.0}, "label: label '1' is not in the verbalizer (class numbers need data.label_names)"),
        ({"text": "x", "label": 0.5}, "label: a label is text or a whole number, not 0.5"),
        ({"text": "x", "label": None}, "label: has no label"),
        ({"text": "x", "label": ""}, "label: has no label"),
        ({"text": "x"}, "label: has no label (known: text)"),
        ({"text": "x", "lable": "World"}, "label: has no label (did you mean 'lable'?)"),
        ({"text": "x", "label": "world"}, "label: label 'world' is not in the verbalizer (did you mean 'World'?)"),
        ({"text": "x", "label": "Art"}, "label: label 'Art' is not in the verbalizer (known: World, Sports)"),
        ({"text": "x", "label": 0}, "label: label '0' is not in the verbalizer (class numbers need data.label_names)"),
        ({"text": "x", "label": -1}, "label: label '-1' is not in the verbalizer (known: World, Sports)"),
        ({"text": "", "label": "World"}, "text: empty (remove the row or fill it in)"),
        ({"text": " \n\t", "label": "World"}, "text: empty (remove the row or fill it in)"),
        ({"text": None, "label": "World"}, "text: empty (remove the row or fill it in)"),
        ({"text": 5, "label": "World"}, "text: must be text, not 5"),
        ({"text": ["a"], "label": "World"}, "text: must be text, not ['a']"),
        ({"txt": "x", "label": "World"}, "text: missing (did you mean 'txt'?)"),
        ({"text": "\ud800", "label": "World"}, "text: contains a lone surrogate (invalid Unicode)"),
        ("{", "not valid JSON: the line is cut off"),
    ],
)
def test_bad_row(here: Path, row: Any, reported: str) -> None:
    path = jsonl(here / "rows.jsonl", [GOOD, row, GOOD])
    opened = source(path)

    assert problems(opened) == [f"rows.jsonl:2: {reported}"]
    with pytest.raises(InvalidInput) as caught:
        list(opened)
    assert str(caught.value) == f"rows.jsonl:2: {reported}"


@pytest.mark.parametrize("label", [2, -1, "2", "²"])
def test_class_number_without_a_name(here: Path, label: object) -> None:
    path = jsonl(here / "rows.jsonl", [{"text": "x", "label": label}])

    (reported,) = problems(source(path, label_names=LABELS))

    assert reported.startswith(f"rows.jsonl:1: label: label '{label}' is not in the verbalizer")


def test_mapped_column_that_is_missing(here: Path) -> None:
    path = jsonl(here / "rows.jsonl", [GOOD])

    assert problems(source(path, columns={"text": "Text"})) == ["rows.jsonl:1: Text: missing (did you mean 'text'?)"]


def test_all_mistakes_of_a_row_are_reported(here: Path) -> None:
    path = jsonl(here / "rows.jsonl", [{"a": "", "label": "Art"}])

    assert [reported.split(": ")[1] for reported in problems(source(path, ("a", "b")))] == ["a", "b", "label"]


def test_missing_and_surplus_cells_of_a_table(here: Path) -> None:
    (here / "rows.csv").write_text("text,label\na\nb,World,c\nd,Sports\n")

    assert problems(source("rows.csv")) == [
        "rows.csv:2: label: has no label",
        "rows.csv:3: 3 cells under 2 column names",
    ]


def test_csv_labels_may_be_class_numbers(here: Path) -> None:
    (here / "rows.csv").write_text("text,label\na,1\nb,0\n")

    assert [example.label for example in source("rows.csv", label_names=LABELS)] == [1, 0]


def test_parquet_labels_may_be_class_numbers(here: Path) -> None:
    pq.write_table(pa.table({"text": ["a", "b"], "label": pa.array([1, 0], pa.int8())}), here / "rows.parquet")

    assert [example.label for example in source("rows.parquet", label_names=LABELS)] == [1, 0]


def test_hub_labels_are_named_by_the_dataset(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [Record(1, {"text": "a", "label": 1}), Record(2, {"text": "b", "label": 0})]
    monkeypatch.setattr(examples_module, "read_records", lambda source, columns: iter(rows))
    monkeypatch.setattr(examples_module, "class_names", lambda source, column: ("Sports", "World"))

    assert [example.label for example in source("hf://ag_news/train")] == [0, 1]
    assert [example.label for example in source("hf://ag_news/train", label_names=("World", "Sports"))] == [1, 0]


def test_many_bad_rows_are_counted(here: Path) -> None:
    path = jsonl(here / "rows.jsonl", [GOOD, *[{"text": "", "label": "Art"}] * 1234])
    scan = source(path).scan()

    assert scan.rows == 1235
    assert len(scan.problems) == 2 * 20 + 1
    assert str(scan.problems[-1]) == "rows.jsonl: … and 1,214 more rows like these"
    assert [problem.line for problem in scan.problems[:-1:2]] == list(range(2, 22))


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"text": "x"}, "rows.jsonl: label: has no label, in all 3 rows (known: text; data.columns says which column is which)"),
        ({"label": "World"}, "rows.jsonl: text: missing, in all 3 rows (known: label; data.columns says which column is which)"),
    ],
)
def test_a_column_that_no_row_has_is_reported_once(row: dict[str, str], said: str, here: Path) -> None:
    path = jsonl(here / "rows.jsonl", [row] * 3)
    assert problems(source(path)) == [said]


def test_twenty_bad_rows_are_all_reported(here: Path) -> None:
    path = jsonl(here / "rows.jsonl", [{"text": "", "label": "World"}] * 20)

    assert len(problems(source(path))) == 20


@pytest.mark.parametrize("content", ["", "\n\n", "text,label\n"])
def test_file_without_rows(here: Path, content: str) -> None:
    name = "rows.csv" if "," in content else "rows.jsonl"
    (here / name).write_text(content)

    assert problems(source(name)) == [f"{name}: the file contains no rows"]
    assert source(name).scan().columns == ()


def test_missing_file_is_a_problem_of_the_scan(here: Path) -> None:
    assert problems(source("rows.jsonl")) == ["rows.jsonl: no such file"]


def test_mistakes_before_a_damaged_place_are_kept(here: Path) -> None:
    lines = b'{"text": "", "label": "World"}\n' + b'{"text": "fine", "label": "World"}\n' * 2000 + b"\xff\n"
    (here / "rows.jsonl").write_bytes(lines)

    assert problems(source("rows.jsonl")) == [
        "rows.jsonl:1: text: empty (remove the row or fill it in)",
        "rows.jsonl:2002: not UTF-8 (save the file as UTF-8)",
    ]


def test_columns_are_those_of_the_first_row(here: Path) -> None:
    assert source(jsonl(here / "rows.jsonl", [GOOD, "broken"])).scan().columns == ("text", "label")


def test_ids_do_not_depend_on_blank_lines_or_the_pass(here: Path) -> None:
    spaced = source(jsonl(here / "a.jsonl", [GOOD, "", "", GOOD]))
    close = source(jsonl(here / "b.jsonl", [GOOD, GOOD]))

    assert [row.id for row in spaced] == [row.id for row in spaced] == [row.id for row in close] == ["row-1", "row-2"]


def test_reading_is_lazy(here: Path) -> None:
    rows = iter(source(jsonl(here / "rows.jsonl", [GOOD, "broken", GOOD])))

    assert next(rows).fields == {"text": "One."}
    with pytest.raises(InvalidInput, match=r"rows\.jsonl:2: not valid JSON"):
        next(rows)


def test_no_more_rows_are_read_than_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    read = []

    def records(source: str, columns: Any) -> Any:
        for number in range(1, 1000):
            read.append(number)
            yield Record(number, GOOD)

    monkeypatch.setattr(examples_module, "read_records", records)
    rows = iter(source("rows.jsonl"))
    next(rows), next(rows)

    assert read == [1, 2]


BASE = [GOOD, {"text": "Two.", "label": "Sports"}]


@pytest.mark.parametrize(
    ("rows", "same"),
    [
        ([{"label": "World", "text": "One."}, BASE[1]], True),
        ([GOOD, "", BASE[1]], True),
        ([{**GOOD, "unused": 1}, BASE[1]], True),
        ([{**GOOD, "text": "One"}, BASE[1]], False),
        ([{**GOOD, "label": "Sports"}, BASE[1]], False),
        (BASE[::-1], False),
        ([*BASE, GOOD], False),
    ],
)
def test_hash_follows_what_is_used(here: Path, rows: list[Any], same: bool) -> None:
    first, second = source(jsonl(here / "a.jsonl", BASE)).scan(), source(jsonl(here / "b.jsonl", rows)).scan()

    assert (first.sha256 == second.sha256) == same
    assert first.problems == second.problems == ()


def test_hash_follows_the_labels_of_the_task(here: Path) -> None:
    path = jsonl(here / "rows.jsonl", BASE)
    hashes = {source(path, labels=labels).scan().sha256 for labels in (LABELS, LABELS[::-1], (*LABELS, "Art"), None)}

    assert len(hashes) == 4


FIELDS = ("text", "more")
PAIRS = [{"text": "One.", "more": "Two.", "label": "World"}, {"text": "Two.", "more": "One.", "label": "Sports"}]


def test_hash_does_not_follow_the_order_in_which_fields_are_named(here: Path) -> None:
    path = jsonl(here / "rows.jsonl", PAIRS)

    assert source(path, FIELDS).scan().sha256 == source(path, FIELDS[::-1]).scan().sha256


@pytest.mark.parametrize(
    "change",
    [{"text": "One"}, {"more": "Two"}, {"label": "Sports"}, {"text": "Two.", "more": "One."}],
    ids=["text", "other text", "label", "fields swapped"],
)
def test_hash_of_several_fields_follows_each(here: Path, change: dict[str, str]) -> None:
    before, after = jsonl(here / "a.jsonl", PAIRS), jsonl(here / "b.jsonl", [PAIRS[0] | change, PAIRS[1]])

    assert source(before, FIELDS).scan().sha256 != source(after, FIELDS).scan().sha256


def test_unchanged_rows_are_those_of_the_scan(here: Path) -> None:
    opened = source(jsonl(here / "rows.jsonl", BASE))
    scan = opened.scan()

    assert list(opened.unchanged(scan)) == list(opened)


@pytest.mark.parametrize("rows", [BASE[::-1], BASE[:1], [*BASE, GOOD]], ids=["reordered", "one less", "one more"])
def test_changed_rows_are_refused(here: Path, rows: list[Any]) -> None:
    scan = source(jsonl(here / "rows.jsonl", BASE)).scan()
    later = source(jsonl(here / "rows.jsonl", rows))

    with pytest.raises(InvalidInput, match=r"rows\.jsonl: changed while petkit was working with it \(run again\)"):
        list(later.unchanged(scan))
