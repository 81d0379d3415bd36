"""Predictions among a row's own candidates, as files and from the command line; no model is loaded."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from petkit.ensemble import FloatArray, LabelKind
from petkit.errors import InvalidInput
from petkit.metrics import Decision
from petkit.predict.columns import OutputColumns
from petkit.predict.output import output_file
from petkit.predict.predictor import Fields, Predictor
from petkit.predict.row_io import evaluate_file, file_rows, predict_rows, stream_rows
from petkit.storage.ragged import from_rows


def longest_wins(rows: Sequence[Fields]) -> FloatArray:
    """Score every candidate with its length."""
    lengths = [[float(len(text)) for name, text in row.items() if name.startswith("options[")] for row in rows]
    return from_rows(np.array([value for row in lengths for value in row], np.float32), [len(row) for row in lengths])


@pytest.fixture
def predictor() -> Predictor:
    return Predictor((), ("text",), {"candidates": "options"}, longest_wins, Decision(LabelKind.CANDIDATES))


ROWS = [
    {"id": "1", "text": "x", "options": ["no", "perhaps", "yes"], "label": "perhaps"},
    {"id": "2", "text": "y", "options": ["=SUM(A1)", "b"], "label": ["b"]},
]


def written(path: Path, rows: Sequence[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_predictions_name_the_candidate(predictor: Predictor) -> None:
    first, second = predictor(ROWS)
    assert (first.label, first.candidate, first.labels) == ("perhaps", 1, ("perhaps",))
    assert list(first.probabilities) == ["no", "perhaps", "yes"] and sum(first.probabilities.values()) == pytest.approx(1)
    # e^7 of e^2 + e^7 + e^3
    assert first.probability == pytest.approx(np.exp(7) / (np.exp(2) + np.exp(7) + np.exp(3)), rel=1e-5)
    assert (second.label, second.candidate) == ("=SUM(A1)", 0) and len(second.probabilities) == 2
    assert [found.label for found in predictor.stream(ROWS)] == ["perhaps", "=SUM(A1)"]


def test_files_come_back_with_their_predictions(predictor: Predictor, here: Path) -> None:
    columns = OutputColumns(predictor, "jsonl")
    rows = file_rows(written(here / "in.jsonl", ROWS), predictor, columns)
    with output_file(here / "out.jsonl", predictor, columns) as write:
        for example, prediction in predict_rows(rows, predictor):
            write(example, prediction)
    first, second = (json.loads(line) for line in (here / "out.jsonl").read_text().splitlines())

    assert first["label"] == "perhaps" and first["candidate"] == 1 and first["input_label"] == "perhaps"
    assert first["options"] == ROWS[0]["options"] and {*first["probabilities"]} == {*ROWS[0]["options"]}
    assert second["candidate"] == 0 and second["label"] == "=SUM(A1)"


@pytest.mark.parametrize("kind", ["csv", "tsv"])
def test_tables_have_the_number_and_no_column_per_label(kind: str, predictor: Predictor, here: Path) -> None:
    columns = OutputColumns(predictor, kind, ["id"])
    rows = file_rows(written(here / "in.jsonl", ROWS), predictor, columns)
    with output_file(here / f"out.{kind}", predictor, columns) as write:
        for example, prediction in predict_rows(rows, predictor):
            write(example, prediction)
    with (here / f"out.{kind}").open(newline="") as stream:
        first, second = csv.DictReader(stream, delimiter="," if kind == "csv" else "\t")

    assert list(first) == ["id", "label", "candidate", "probability"]
    assert (first["label"], first["candidate"]) == ("perhaps", "1")
    assert second["label"] == "'=SUM(A1)"  # a text of the row, which a spreadsheet would execute


def test_tsv_refuses_candidates_that_it_cannot_write(predictor: Predictor, here: Path) -> None:
    columns = OutputColumns(predictor, "tsv", [])
    row = {"text": "x", "options": ["foot\tball", "science"]}
    with pytest.raises(InvalidInput, match=r"1: options: candidate 'foot\\tball' contains a tab or a line break"):
        file_rows(written(here / "in.jsonl", [row]), predictor, columns)


def test_tables_of_predictions_are_read_back(predictor: Predictor, here: Path) -> None:
    row = {"text": "x", "options": ["-5 football team", "b"], "label": "-5 football team"}
    columns = OutputColumns(predictor, "csv")
    rows = file_rows(written(here / "in.jsonl", [row]), predictor, columns)
    with output_file(here / "out.csv", predictor, columns) as write:
        for example, prediction in predict_rows(rows, predictor):
            write(example, prediction)
    assert "'-5 football team" in (here / "out.csv").read_text()
    assert evaluate_file(predictor, str(here / "out.csv")).accuracy == 1


def test_standard_input_is_read_as_json(predictor: Predictor) -> None:
    lines = [json.dumps(row).encode() for row in ROWS]
    assert [found.candidate for _, found in predict_rows(stream_rows(lines, predictor), predictor) if found] == [1, 0]
    with pytest.raises(InvalidInput, match="this model reads the fields text, options"):
        list(stream_rows([b"only a text"], predictor))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "x"}, "options: missing"),
        ({"text": "x", "options": ["a"]}, "options: has 1 candidate; a choice needs at least two"),
        ({"text": "x", "options": ["a", " a"]}, "options: candidate 1 is the same as candidate 0: 'a' (keep one)"),
        ("only a text", "options: missing"),
        ({"options": ["a", "b"]}, "a row needs the fields text, options; missing: text"),
    ],
)
def test_rows_without_a_choice_are_refused(row: Any, message: str, predictor: Predictor) -> None:
    with pytest.raises(InvalidInput) as refused:
        predictor([ROWS[0], row])
    assert message in str(refused.value) and "row 2" in str(refused.value)


def test_evaluation_accepts_any_right_answer(predictor: Predictor, here: Path) -> None:
    rows = [*ROWS, {"text": "z", "options": ["a", "bb"], "label": ["a", 1]}]
    found = evaluate_file(predictor, written(here / "test.jsonl", rows)).to_dict()
    assert found["accuracy"] == pytest.approx(2 / 3) and found["answer_f1"] == pytest.approx(2 / 3)


def test_columns_of_candidates_can_be_renamed(predictor: Predictor) -> None:
    predictor.columns["options"] = "choices"
    (found,) = predictor([{"text": "x", "choices": ["no", "perhaps"]}])
    assert found.candidate == 1


def test_a_data_frame_has_lists(predictor: Predictor) -> None:
    pandas = pytest.importorskip("pandas")
    found = predictor(pandas.DataFrame({"text": ["x", "y"], "options": [["no", "perhaps"], ["b", "a", "ccc"]], "other": [1, 2]}))
    assert [row.candidate for row in found] == [1, 2]
