"""Labels of a row: several in a list or with separators between them, and what is wrong where only one may stand."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from petkit.data import examples as examples_module
from petkit.data import records
from petkit.data.examples import Example, targets_of
from petkit.data.records import Record
from tests.data.rows import LABELS, jsonl, problems, source

TOPICS = ("World", "Sports", "Sci/Tech")


def labels_of(path: str, **settings: Any) -> list[tuple[int, ...]]:
    """Read a file's rows of several labels."""
    read = list(source(path, labels=TOPICS, kind="multi", **settings))
    assert all(example.label is None for example in read)
    return [example.labels for example in read]


@pytest.mark.parametrize(
    ("label", "found"),
    [
        (["World", "Sci/Tech"], (0, 2)),
        (["Sci/Tech", "World"], (0, 2)),
        (["Sports"], (1,)),
        ([], ()),
        ("", ()),
        (" ", ()),
        ("Sports", (1,)),
        ("Sports|World", (0, 1)),
        (" Sci/Tech | Sports ", (1, 2)),
    ],
)
def test_lists_and_separated_text(label: object, found: tuple[int, ...], here: Path) -> None:
    assert labels_of(jsonl(here / "rows.jsonl", [{"text": "One.", "label": label}])) == [found]


@pytest.mark.parametrize(
    ("label", "found"), [([2, 0], (0, 2)), (["1", "World"], (0, 1)), ("0|2", (0, 2)), (1, (1,)), ([1], (1,))]
)
def test_class_numbers(label: object, found: tuple[int, ...], here: Path) -> None:
    path = jsonl(here / "rows.jsonl", [{"text": "One.", "label": label}])

    assert labels_of(path, label_names=TOPICS) == [found]


@pytest.mark.parametrize("kind", ["single", "multi"])
def test_a_number_of_thousands_of_digits_is_not_a_class(kind: Any, here: Path) -> None:
    path = jsonl(here / "rows.jsonl", [{"text": "One.", "label": "9" * 5000}, {"text": "Two.", "label": "01"}])

    (reported,) = problems(source(path, labels=TOPICS, kind=kind, label_names=TOPICS))
    assert reported.startswith("rows.jsonl:1: label: label '9999") and reported.endswith("(class numbers go from 0 to 2)")


def test_separator_of_ones_own(here: Path) -> None:
    (here / "rows.csv").write_text("text,label\na,World; Sports\nb,\nc,Sports\n", encoding="utf-8")

    assert labels_of("rows.csv", label_separator=";") == [(0, 1), (), (1,)]


def test_parquet_lists(here: Path) -> None:
    table = pa.table({"text": ["a", "b", "c"], "label": pa.array([[1, 0], [], [2]], pa.list_(pa.int8()))})
    pq.write_table(table, here / "rows.parquet")

    assert labels_of("rows.parquet", label_names=TOPICS) == [(0, 1), (), (2,)]


def test_hub_lists_are_named_by_the_dataset(monkeypatch: pytest.MonkeyPatch) -> None:
    from datasets import ClassLabel, Features, List, Value

    class Stream:
        features = Features(
            {"text": Value("string"), "topics": List(ClassLabel(names=list(TOPICS))), "one": ClassLabel(names=["a"])}
        )

    monkeypatch.setattr(records, "_hub_dataset", lambda source: Stream)
    assert records.class_names("hf://news/train", "topics") == TOPICS
    assert records.class_names("hf://news/train", "one") == ("a",)
    assert records.class_names("hf://news/train", "text") is None
    monkeypatch.setattr(
        examples_module, "read_records", lambda source, columns: iter([Record(1, {"text": "a", "topics": [2, 1]})])
    )
    (example,) = source("hf://news/train", labels=TOPICS, kind="multi", columns={"label": "topics"})
    assert example.labels == (1, 2)


@pytest.mark.parametrize(
    ("row", "reported"),
    [
        ({"label": ["World", "World"]}, "label 'World' is twice in the row (name it once)"),
        ({"label": "Sports|World|Sports"}, "label 'Sports' is twice in the row (name it once)"),
        ({"label": ["World", "Art"]}, "label 'Art' is not in the verbalizer (known: World, Sports, Sci/Tech)"),
        ({"label": "World|sports"}, "label 'sports' is not in the verbalizer (did you mean 'Sports'?)"),
        ({"label": "World||Sports"}, "label '' is not in the verbalizer (known: World, Sports, Sci/Tech)"),
        (
            {"label": "World,Sports"},
            "label 'World,Sports' is not in the verbalizer (several labels are written World|Sports; data.label_separator sets what is between them)",
        ),
        ({"label": ["World", True]}, "label 'true' is not in the verbalizer (known: World, Sports, Sci/Tech)"),
        ({"label": [["World"]]}, "a label is text or a whole number, not ['World']"),
        ({"label": {"World": 1}}, "a label is text or a whole number, not {'World': 1}"),
        ({"label": 0.5}, "a label is text or a whole number, not 0.5"),
        ({"label": None}, "has no label (an empty list says that none applies)"),
        ({"lable": ["World"]}, "has no label (did you mean 'lable'?)"),
    ],
)
def test_bad_rows(row: dict[str, Any], reported: str, here: Path) -> None:
    path = jsonl(here / "rows.jsonl", [{"text": "x", "label": []}, {"text": "x", **row}])

    assert problems(source(path, labels=TOPICS, kind="multi")) == [f"rows.jsonl:2: label: {reported}"]


@pytest.mark.parametrize(("label", "number"), [([0, 3], 3), ("7", 7), (12, 12)])
def test_class_numbers_out_of_range(label: object, number: int, here: Path) -> None:
    path = jsonl(here / "rows.jsonl", [{"text": "x", "label": label}])

    reported = f"rows.jsonl:1: label: label '{number}' is not in the verbalizer (class numbers go from 0 to 2)"
    assert problems(source(path, labels=TOPICS, kind="multi", label_names=TOPICS)) == [reported]


def test_a_number_written_twice_in_two_ways_is_one_label(here: Path) -> None:
    path = jsonl(here / "rows.jsonl", [{"text": "x", "label": [0, "World"]}])

    (reported,) = problems(source(path, labels=TOPICS, kind="multi", label_names=TOPICS))
    assert reported.endswith("label 'World' is twice in the row (name it once)")


@pytest.mark.parametrize("kind", ["single", "ordinal"])
@pytest.mark.parametrize(
    ("label", "reported"),
    [
        (["World", "Sports"], "contains several labels: ['World', 'Sports'] (set label_kind: multi)"),
        ("World|Sports", "contains several labels: 'World|Sports' (set label_kind: multi)"),
        ("0 | 1", "contains several labels: '0 | 1' (set label_kind: multi)"),
        ([], "has no label"),
        ("World|Art", "label 'World|Art' is not in the verbalizer (did you mean 'World'?)"),
        (" ", "has no label"),
        ("", "has no label"),
    ],
)
def test_several_labels_where_one_may_stand(kind: Any, label: object, reported: str, here: Path) -> None:
    path = jsonl(here / "rows.jsonl", [{"text": "x", "label": label}])

    assert problems(source(path, kind=kind, label_names=LABELS)) == [f"rows.jsonl:1: label: {reported}"]


def test_a_label_may_hold_the_separator_where_one_stands(here: Path) -> None:
    path = jsonl(here / "rows.jsonl", [{"text": "x", "label": "a|b"}, {"text": "x", "label": "a"}])

    assert [example.label for example in source(path, labels=("a", "b", "a|b"))] == [2, 0]


NAMES = st.lists(st.text("abcXYZ /-é漢", min_size=1, max_size=6).map(str.strip).filter(bool), min_size=2, max_size=6, unique=True)


@given(NAMES, st.data())
def test_text_and_list_say_the_same(here: Path, names: list[str], data: st.DataObject) -> None:
    rows = [data.draw(st.lists(st.sampled_from(names), unique=True)) for _ in range(3)]
    separator = data.draw(st.sampled_from(["|", ";", ", ", "::"]))
    lists = jsonl(here / "lists.jsonl", [{"text": "x", "label": row} for row in rows])
    texts = jsonl(here / "texts.jsonl", [{"text": "x", "label": separator.join(row)} for row in rows])

    first, second = (source(path, labels=names, kind="multi", label_separator=separator) for path in (lists, texts))

    expected = [tuple(sorted(map(names.index, row))) for row in rows]
    assert [example.labels for example in first] == [example.labels for example in second] == expected
    assert first.scan() == second.scan()
    assert first.scan().problems == ()


@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner, max_size=4))
)
def test_any_value_is_read_or_reported(here: Path, value: Any) -> None:
    """No value of JSON breaks the reader, whatever the kind, and a value is either labels or a mistake."""
    for kind in ("single", "multi", "ordinal"):
        opened = source(jsonl(here / "rows.jsonl", [{"text": "x", "label": value}]), labels=TOPICS, kind=kind, label_names=TOPICS)
        reported = problems(opened)
        if reported:
            assert len(reported) == 1 and reported[0].startswith("rows.jsonl:1: label: ")
        else:
            (example,) = opened
            assert kind == "multi" or len(example.labels) == 1


def test_targets() -> None:
    rows = [Example("a", {}, None, 1, (0, 2)), Example("b", {}, 1, 2), Example("c", {}, None, 3)]

    targets = targets_of(rows, 3)

    assert targets.dtype == "float32"
    assert targets.tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 0]]
    assert targets_of([], 3).shape == (0, 3)


def test_hash_of_rows_of_one_label_is_what_it_has_always_been(here: Path) -> None:
    """A run made before rows could have several labels must not go stale."""
    path = jsonl(here / "rows.jsonl", [{"text": "One.", "label": "Sports"}])
    expected = hashlib.sha256(b"(['text'], ('World', 'Sports'))([('text', 'One.')], 1)").hexdigest()

    assert source(path).scan().sha256 == source(path, kind="ordinal").scan().sha256 == expected
    unlabelled = hashlib.sha256(b"(['text'], None)([('text', 'One.')], None)").hexdigest()
    assert source(path, labels=None).scan().sha256 == source(path, labels=None, kind="multi").scan().sha256 == unlabelled


@pytest.mark.parametrize(
    ("label", "same"), [(["Sports", "World"], True), ("World|Sports", True), (["World"], False), ([], False)]
)
def test_hash_follows_all_labels_but_not_their_order(label: object, same: bool, here: Path) -> None:
    before = jsonl(here / "a.jsonl", [{"text": "x", "label": ["World", "Sports"]}])
    after = jsonl(here / "b.jsonl", [{"text": "x", "label": label}])

    first, second = (source(path, kind="multi").scan() for path in (before, after))
    assert (first.sha256 == second.sha256) == same


def test_hash_follows_whether_rows_may_have_several_labels(here: Path) -> None:
    path = jsonl(here / "rows.jsonl", [{"text": "x", "label": "World"}])

    assert source(path).scan().sha256 != source(path, kind="multi").scan().sha256
