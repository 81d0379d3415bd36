"""Candidate answers of each row: columns, lists, which is right, and what cannot be chosen from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from petkit import limits
from petkit.config.schema.pipeline import DataSpec
from petkit.data.candidates import Candidates, NotCandidates, right_candidates
from petkit.data.examples import ExampleSource, targets_of

COLUMNS, LISTS = Candidates(("a", "b")), Candidates(("options",), listed=True)


def source(path: Path, rows: Sequence[dict[str, Any]], candidates: Candidates, **options: Any) -> ExampleSource:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    options = {"labels": (), **options}
    data = DataSpec.model_validate({"unlabeled": str(path), "columns": options.pop("columns", {})})
    return ExampleSource(str(path), data, ("text",), candidates=candidates, **options)


def messages(found: ExampleSource) -> list[str]:
    return [str(problem).partition(": ")[2] for problem in found.scan().problems]


def test_rows_have_their_candidates_as_fields(here: Path) -> None:
    rows = [{"text": "x", "options": ["one", "two", "three"], "label": 2}, {"text": "y", "options": ["p", "q"], "label": "q"}]
    scan = source(here / "d.jsonl", rows, LISTS).scan(2)

    assert [example.fields for example in scan.head] == [
        {"text": "x", "options[0]": "one", "options[1]": "two", "options[2]": "three"},
        {"text": "y", "options[0]": "p", "options[1]": "q"},
    ]
    assert [example.label for example in scan.head] == [2, 1] and scan.candidates == 3
    assert [LISTS.texts(example.fields) for example in scan.head] == [["one", "two", "three"], ["p", "q"]]


def test_columns_are_mapped_and_may_also_be_in_the_pattern(here: Path) -> None:
    rows = [{"text": "x", "first": "one", "b": "two", "label": "0"}]
    (example,) = source(here / "d.jsonl", rows, COLUMNS, columns={"a": "first"})
    assert example.fields == {"text": "x", "a": "one", "b": "two"} and example.label == 0


def test_several_right_answers(here: Path) -> None:
    rows = [{"text": "x", "options": ["one", "two", "three"], "label": ["three", "one", 0]}]
    (example,) = source(here / "d.jsonl", rows, LISTS)
    assert example.label is None and example.labels == (0, 2)
    assert targets_of([example], 3).tolist() == [[1, 0, 1]]


def test_a_table_has_lists_in_json(here: Path) -> None:
    path = here / "d.csv"
    path.write_text('text,options,label\nx,"[""one"", ""two""]",1\ny,"[""p"", ""q""]",p\nz,"[""u"", ""v""]","[""u"", ""v""]"\n')
    data = DataSpec(unlabeled=str(path))
    examples = list(ExampleSource(str(path), data, ("text",), (), candidates=LISTS))
    assert [example.labels for example in examples] == [(1,), (0,), (0, 1)]


def test_a_text_that_looks_like_a_number_is_that_candidate() -> None:
    assert right_candidates("label", "7", ["7", "8"]) == (0,)
    assert right_candidates("label", "1", ["7", "8"]) == (1,)
    assert right_candidates("label", 1.0, ["7", "8"]) == (1,)
    assert right_candidates("label", None, ["7", "8"]) is None
    assert right_candidates("label", "[]", ["7", "8"]) is right_candidates("label", [], ["7", "8"]) is None
    assert right_candidates("label", " a  b ", ["a b", "c"]) == (0,)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"a": "one", "label": 0}, "b: missing (known: text, a, label)"),
        ({"a": "one", "b": "  ", "label": 0}, "b: candidate 1 is empty (fill it in, or remove the row)"),
        ({"a": "one", "b": None, "label": 0}, "b: candidate 1 is empty (fill it in, or remove the row)"),
        ({"a": 3, "b": "x", "label": 0}, "a: a candidate must be text, not 3"),
        ({"a": "one  x", "b": "one x", "label": 0}, "b: candidate 1 is the same as candidate 0: 'one x' (keep one)"),
        ({"a": "one", "b": "two", "label": 2}, "label: candidate 2 is the right one, and the row has 2, counted from 0"),
        ({"a": "one", "b": "two", "label": -1}, "label: candidate -1 is the right one, and the row has 2, counted from 0"),
        ({"a": "one", "b": "two", "label": "oen"}, "label: 'oen' is none of the row's candidates (they are: one, two)"),
        (
            {"a": "one", "b": "two", "label": True},
            "label: must be the number of the right candidate, from 0, or its text, not True",
        ),
        ({"a": "one", "b": "two", "label": None}, "label: has no label"),
        ({"a": "one", "b": "two"}, "label: has no label (known: text, a, b)"),
        ({"a": "one", "b": "x\ud800", "label": 0}, "b: contains a lone surrogate (invalid Unicode)"),
    ],
)
def test_what_is_wrong_with_columns(row: dict[str, Any], message: str, here: Path) -> None:
    good = {"text": "x", "a": "p", "b": "q", "label": 0}
    assert messages(source(here / "d.jsonl", [good, {"text": "x", **row}], COLUMNS)) == [message]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "options: has 0 candidates; a choice needs at least two"),
        (["one"], "options: has 1 candidate; a choice needs at least two"),
        ("one", "options: must be a list of texts (one column for each candidate is written candidates: [first, second])"),
        (None, "options: has no candidates"),
        (["one", 2], "options: a candidate must be text, not 2"),
        ("[one", "options: not a list in JSON"),
        ([str(number) for number in range(201)], "options: has 201 candidates; at most 200"),
    ],
)
def test_what_is_wrong_with_a_list(options: Any, message: str, here: Path) -> None:
    assert limits.CANDIDATES == 200
    rows = [{"text": "x", "options": ["p", "q"], "label": 0}, {"text": "x", "options": options, "label": 0}]
    assert messages(source(here / "d.jsonl", rows, LISTS)) == [message]


def test_candidates_count_for_the_hash(here: Path) -> None:
    def sha256(*texts: str, label: int = 0) -> str:
        return source(here / "d.jsonl", [{"text": "x", "options": list(texts), "label": label}], LISTS).scan().sha256

    assert sha256("a", "b") == sha256("a", "b")
    assert len({sha256("a", "b"), sha256("b", "a"), sha256("a", "b", label=1), sha256("a", "b", "c")}) == 4


@given(
    st.lists(
        st.text(min_size=1, max_size=5).filter(str.strip), min_size=2, max_size=6, unique_by=lambda text: " ".join(text.split())
    )
)
def test_the_text_of_any_candidate_finds_it(texts: list[str]) -> None:
    if any(text.lstrip().startswith("[") for text in texts):
        return
    try:
        found = LISTS.read({"options": texts}, ["options"])
    except NotCandidates:
        return
    for number, text in enumerate(texts):
        assert right_candidates("label", text, list(found.values())) == (number,)
