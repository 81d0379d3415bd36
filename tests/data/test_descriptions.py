"""Descriptions of labels become rows: which, in which order, with which hash, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from petkit.data.descriptions import described_rows

LABELS = ("sports", "world")
SAME = "the same text as description 1 of label 'sports'"


def test_rows_come_in_class_order() -> None:
    written = {"world": ["Elections were held."], "sports": ["A match.", "They won the cup."]}
    scan, wrong = described_rows(written, ("text",), LABELS, multi=False)
    assert wrong == [] and scan.rows == 3
    assert [(row.label, row.fields) for row in scan.head] == [
        (0, {"text": "A match."}),
        (0, {"text": "They won the cup."}),
        (1, {"text": "Elections were held."}),
    ]
    assert len({row.id for row in scan.head}) == 3


def test_a_row_of_several_fields_names_each() -> None:
    written = {"sports": [{"title": "Cup", "body": "They won."}]}
    scan, wrong = described_rows(written, ("body", "title"), LABELS, multi=False)
    assert wrong == [] and scan.head[0].fields == {"title": "Cup", "body": "They won."}


def test_where_rows_have_several_labels_a_description_has_its_own() -> None:
    scan, _ = described_rows({"world": ["Elections."]}, ("text",), LABELS, multi=True)
    assert scan.head[0].label is None and scan.head[0].labels == (1,)


def test_the_hash_is_of_the_rows_and_not_of_how_they_are_written() -> None:
    def hash_of(written: dict[str, Any]) -> str:
        return described_rows(written, ("text",), LABELS, multi=False)[0].sha256

    one = hash_of({"world": ["Elections."], "sports": ["A match."]})
    assert one == hash_of({"sports": [{"text": "A match."}], "world": ["Elections."]})
    others = [hash_of({"sports": ["A match."]}), hash_of({"world": ["A match."], "sports": ["Elections."]})]
    assert len({one, *others}) == 3


@pytest.mark.parametrize(
    ("fields", "written", "place", "message"),
    [
        (("text",), {"sprots": ["A match."]}, ("sprots",), "label 'sprots' is none of the task's labels"),
        (("title", "body"), {"sports": ["A", "B"], "world": ["C"]}, (), "are texts, and the patterns use the fields title, body"),
        (("title", "body"), {"sports": ["A", {"title": "B", "body": "C"}]}, ("sports", 0), "lacks the text of body"),
        (("title", "body"), {"sports": [{"title": "A"}]}, ("sports", 0), "lacks the text of body"),
        (("text",), {"sports": ["A match.", "a  Match."]}, ("sports", 1), SAME),
        (("text",), {"sports": ["A match."], "world": [{"text": "A match."}]}, ("world", 0), SAME),
        (("text",), {"sports": ["A match.", {"text": "B", "txt": "C"}]}, ("sports", 1), "no pattern uses txt"),
    ],
)
def test_what_is_refused(fields: tuple[str, ...], written: dict[str, Any], place: tuple[Any, ...], message: str) -> None:
    _, wrong = described_rows(written, fields, LABELS, multi=False)
    assert [(found, said) for found, said, _ in wrong] == [(place, message)]
