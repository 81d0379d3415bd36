"""Rows with their other columns, rows without text, and checks of a caller in the pass that lists all mistakes."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pytest

from petkit.config.schema.pipeline import DataSpec
from petkit.data.examples import Example, ExampleSource
from petkit.errors import Problem


@pytest.mark.parametrize(
    ("keep", "kept"), [((), None), (None, {"text": "a", "n": "1", "more": "x"}), (("more", "none"), {"more": "x"})]
)
def test_columns_are_kept(keep: Collection[str] | None, kept: dict[str, str] | None, here: Path) -> None:
    (here / "a.csv").write_text("text,n,more\na,1,x\n")

    (example,) = ExampleSource("a.csv", DataSpec(unlabeled="a.csv"), ("text",), None, keep=keep)

    assert example.values == kept


def test_rows_without_text(here: Path) -> None:
    (here / "a.jsonl").write_text('{"text": " "}\n{"text": null}\n{}\n')
    scan = ExampleSource("a.jsonl", DataSpec(unlabeled="a.jsonl"), ("text",), None, blank=True).scan(keep=2)

    assert [example.fields["text"] for example in scan.head] == [" ", ""]
    assert [str(problem) for problem in scan.problems] == ["a.jsonl:3: text: missing"]


def test_what_a_caller_finds_is_listed_with_the_rest(here: Path) -> None:
    def check(example: Example) -> list[Problem]:
        return [Problem.of_file("a.csv", "odd", line=example.line)] if example.fields["text"] == "b" else []

    (here / "a.csv").write_text('text\na\nb\n"",\n')
    scan = ExampleSource("a.csv", DataSpec(unlabeled="a.csv"), ("text",), None).scan(check=check)

    assert [problem.line for problem in scan.problems] == [3, 4]


def test_rows_without_an_id_are_called_by_their_number(here: Path) -> None:
    (here / "a.jsonl").write_text('{"text": "a", "id": NaN}\n{"text": "b", "id": null}\n{"text": "c"}\n{"text": "d", "id": 7}\n')

    found = ExampleSource("a.jsonl", DataSpec(unlabeled="a.jsonl"), ("text",), None)

    assert [example.id for example in found] == ["row-1", "row-2", "row-3", "7"]
