"""The columns of an output: the input's, never altered, then the predictions; and every output reads like data."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from petkit.config.schema.pipeline import DataSpec
from petkit.data.examples import ExampleSource
from petkit.ensemble import LabelKind
from petkit.errors import InvalidInput
from petkit.metrics.decision import Decision
from petkit.predict.columns import OutputColumns, table_cell
from petkit.predict.output import kind_of, output_file
from petkit.predict.predictor import Predictor
from petkit.predict.row_io import evaluate_file, file_rows, predict_rows, source_of
from tests.cli.conftest import Outcome

Petkit = Callable[..., Outcome]
LABELS = ("+1", "-1", "=cmd|' /C'!A0", "@home", "a b", 'a "quoted" word', "x|y", "1,5")
FORMULAS = ("=1+1", "+cmd", "-a", "@SUM(1)", "＝1", "\t=1", "\r=1")


def predictor_of(labels: Sequence[str] = LABELS, kind: LabelKind = LabelKind.SINGLE, **reading: Any) -> Predictor:
    """Return a predictor whose labels depend on the length of a text."""

    def score(rows: Sequence[Any]) -> Any:
        return np.array([[(len(row["text"]) * (index + 3)) % 7 - 3 for index in range(len(labels))] for row in rows], np.float32)

    return Predictor(labels, ("text",), reading, score, Decision(kind))


def label(source: str, output: str, predictor: Predictor, wanted: Sequence[str] | None = None) -> OutputColumns:
    """Label a file, as the command line does."""
    columns = OutputColumns(predictor, kind_of(Path(output)), wanted)
    rows = predict_rows(file_rows(source, predictor, columns), predictor)
    with output_file(Path(output), predictor, columns) as write:
        for example, prediction in rows:
            write(example, prediction)
    return columns


def read(path: str) -> list[dict[str, Any]]:
    """Return the rows of an output, all cells of a table as text."""
    with Path(path).open(encoding="utf-8", newline="") as stream:
        if path.endswith(".jsonl"):
            return [json.loads(line) for line in stream.read().split("\n")[:-1]]
        if path.endswith(".tsv"):
            header, *rows = [line.split("\t") for line in stream.read().split("\n")[:-1]]
            return [dict(zip(header, row, strict=True)) for row in rows]
        return list(csv.DictReader(stream))


TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).filter(str.strip)
IDS = st.one_of(st.integers(), st.sampled_from(["+1", "=id", "-7", "007", "@a"]), TEXT)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.tuples(IDS, TEXT), min_size=1, max_size=4),
    kind=st.sampled_from(["jsonl", "csv", "tsv"]),
    labels=st.sampled_from(LabelKind),
)
def test_an_output_is_read_with_the_same_ids_texts_and_labels(
    rows: list[tuple[Any, str]], kind: str, labels: LabelKind, here: Path
) -> None:
    if kind == "tsv":  # which has no way to write these
        assume(not any(mark in f"{name}{text}" for name, text in rows for mark in "\t\r\n"))
    (here / "in.jsonl").write_text("".join(json.dumps({"id": name, "text": text}) + "\n" for name, text in rows))
    predictor = predictor_of(kind=labels)
    label("in.jsonl", f"out.{kind}", predictor)

    found = list(source_of(f"out.{kind}", predictor, labelled=True))

    assert [example.id for example in found] == [str(name) for name, _ in rows]
    exact = [text if kind == "jsonl" else table_cell(text) for _, text in rows]
    assert [example.fields["text"] for example in found] == exact
    predictions = predictor([text for _, text in rows])
    assert [[predictor.labels[index] for index in example.labels] for example in found] == [
        list(row.labels) for row in predictions
    ]
    if exact == [text for _, text in rows]:
        assert evaluate_file(predictor, f"out.{kind}").accuracy == 1.0


def test_numbers_labels_and_ids_are_never_altered_in_tables(here: Path) -> None:
    cells = ("+1", "-5", "-1.5e3", "+1,000", "plain", *FORMULAS)
    rows = [{"id": cell, "text": "a", "label": "-1", "cell": cell} for cell in cells]
    (here / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    label("in.jsonl", "out.csv", predictor_of())

    table = read("out.csv")

    assert [row["id"] for row in table] == list(cells)
    assert {row["input_label"] for row in table} == {"-1"}
    assert {row["label"] for row in table} <= set(LABELS)
    assert [row["cell"] for row in table] == [*cells[:5], *(f"'{cell}" for cell in FORMULAS)]


RESERVED = {"label": "gold", "probability": 1, "probabilities": "p", "expected": 2, "p(+1)": 3, "input_label": "i", "more": None}


@pytest.mark.parametrize("kind", ["jsonl", "csv", "tsv"])
def test_no_column_of_the_input_is_overwritten(kind: str, here: Path) -> None:
    (here / "in.jsonl").write_text(json.dumps({"text": "a text", "id": 7, **RESERVED}) + "\n")
    predictor = predictor_of(kind=LabelKind.ORDINAL)

    columns = label("in.jsonl", f"out.{kind}", predictor)

    (row,) = read(f"out.{kind}")
    names = {name: columns.renamed.get(name, name) for name in ("text", "id", *RESERVED)}
    assert list(row)[: len(names)] == list(names.values())  # the input's columns first, in their order
    assert names["label"] == "input_input_label" and names["input_label"] == "input_label"
    assert ("probabilities" in columns.renamed) == (kind == "jsonl") and ("p(+1)" in columns.renamed) == (kind != "jsonl")
    values = {"text": "a text", "id": 7, **RESERVED}
    for column, name in names.items():
        value = values[column]
        assert row[name] == (value if kind == "jsonl" else "" if value is None else str(value))
    assert row["label"] == predictor("a text")[0].label


def test_fields_with_the_names_of_predictions_keep_their_texts(here: Path) -> None:
    """Fields probability and id of a pattern lost their text."""

    def score(rows: Sequence[Any]) -> Any:
        return np.zeros((len(rows), 2), np.float32)

    predictor = Predictor(("a", "b"), ("probability", "id"), {}, score, Decision())
    (here / "in.csv").write_text("id,probability\none,two\n")
    label("in.csv", "out.csv", predictor)
    label("in.csv", "out.jsonl", predictor)

    (table,), (row,) = read("out.csv"), read("out.jsonl")
    assert (table["id"], table["input_probability"]) == (row["id"], row["input_probability"]) == ("one", "two")
    assert (table["probability"], row["probability"]) == ("0.500000", 0.5)


@pytest.mark.parametrize(
    ("wanted", "names"),
    [(None, ["text", "n", "id"]), ([], ["id"]), (["n"], ["id", "n"]), (["id", "n", "text"], ["id", "n", "text"])],
)
@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_columns_are_chosen(wanted: list[str] | None, names: list[str], kind: str, here: Path) -> None:
    rows = [{"text": "a", "n": 1.5, "id": "x"}]
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), "in.parquet")
    else:
        (here / f"in.{kind}").write_text(json.dumps(rows[0]) if kind == "jsonl" else "text,n,id\na,1.5,x\n")
    label(f"in.{kind}", "out.jsonl", predictor_of(), wanted)

    (row,) = read("out.jsonl")
    assert list(row) == [*names, "label", "probability", "probabilities"]
    assert row["id"] == "x"


def test_a_column_that_no_row_has_is_refused(here: Path) -> None:
    (here / "in.csv").write_text("text,topic\na,x\n")

    with pytest.raises(InvalidInput, match=r"^--columns: in\.csv has no column 'topics' \(did you mean 'topic'\?\)$"):
        label("in.csv", "out.csv", predictor_of(), ["topics"])


def test_rows_of_a_file_need_not_have_the_same_columns(here: Path) -> None:
    (here / "in.jsonl").write_text('{"text": "a"}\n{"text": "b", "n": [1, true], "id": 3}\n')
    label("in.jsonl", "out.csv", predictor_of())
    label("in.jsonl", "out.jsonl", predictor_of())

    assert [(row["id"], row["n"]) for row in read("out.csv")] == [("row-1", ""), ("3", "[1, true]")]
    assert [(row["id"], row.get("n")) for row in read("out.jsonl")] == [("row-1", None), (3, [1, True])]


def test_every_kind_of_value_can_be_written(here: Path) -> None:
    odd = {"text": ["a"], "when": [date(2026, 1, 2)], "raw": [b"\xff="], "gap": [float("nan")], "map": [{"a": b"b"}]}
    pq.write_table(pa.table(odd), "in.parquet")
    label("in.parquet", "out.jsonl", predictor_of())
    label("in.parquet", "out.csv", predictor_of())

    (row,), (table,) = read("out.jsonl"), read("out.csv")
    assert (row["when"], row["raw"], row["gap"], row["map"]) == ("2026-01-02", "\\xff=", None, {"a": "b"})
    assert (table["when"], table["gap"], table["map"]) == ("2026-01-02", "", '{"a": "b"}')


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_long_lists_of_numbers_are_kept(kind: str, here: Path) -> None:
    numbers = [[row + place / 8 for place in range(1_536)] for row in range(2)]
    pq.write_table(pa.table({"text": ["a", "b"], "embedding": numbers}), "in.parquet")
    label("in.parquet", f"out.{kind}", predictor_of())

    cells = [row["embedding"] for row in read(f"out.{kind}")]
    assert [json.loads(cell) if kind == "csv" else cell for cell in cells] == numbers


@pytest.mark.parametrize("names", [",id,text", ",,id,text", "id,,text,"])
def test_columns_without_a_name_are_kept(names: str, here: Path) -> None:
    cells = ["x" if name == "id" else f"cell {place}" for place, name in enumerate(names.split(","))]
    (here / "in.csv").write_text(f"{names}\n{','.join(cells)}\n")
    for output in ("out.csv", "out.tsv"):
        label("in.csv", output, predictor_of())
        (row,) = ExampleSource(output, DataSpec(unlabeled=output), ("text",), None, keep=None)

        assert list((row.values or {}).values())[: len(cells)] == cells


def test_what_a_format_cannot_hold_is_listed_before_anything_is_written(here: Path) -> None:
    (here / "in.jsonl").write_text(
        '{"text": "a\\tb"}\n{"text": "fine"}\n{"text": ""}\n{"text": "a", "n": "b\\nc"}\n{}\n{"text": "a", "n": "\\ud800"}\n'
    )

    with pytest.raises(InvalidInput) as refused:
        label("in.jsonl", "out.tsv", predictor_of())

    tab = "contains a tab or a line break, which TSV has no way to write (write csv or jsonl)"
    assert str(refused.value).splitlines() == [
        f"in.jsonl:1: text: {tab}",
        f"in.jsonl:4: n: {tab}",
        "in.jsonl:5: text: missing",
        "in.jsonl:6: n: contains a lone surrogate (invalid Unicode) (write jsonl)",
    ]
    assert [path.name for path in here.iterdir()] == ["in.jsonl"]


def test_rows_without_text_get_no_label(finished_run: Path, here: Path, petkit_command: Petkit) -> None:
    (here / "in.jsonl").write_text(
        '{"text": "a", "n": 1}\n{"text": " ", "n": 2}\n{"text": null, "n": 3}\n{"text": "b", "n": 4}\n'
    )

    lines = petkit_command("predict", finished_run, "--input", "in.jsonl")
    table = petkit_command("predict", finished_run, "--input", "in.jsonl", "--output", "out.csv")
    stream = petkit_command("predict", finished_run, "--input", "-", stdin=(here / "in.jsonl").read_bytes())

    assert lines.err == table.err == "in.jsonl: 2 rows without text: no label\n"
    rows = [json.loads(line) for line in lines.out.splitlines()]
    assert [(row["n"], row["label"] is None, row["probabilities"] is None) for row in rows] == [
        (1, False, False), (2, True, True), (3, True, True), (4, False, False)
    ]  # fmt: skip
    assert [row["label"] == "" for row in read("out.csv")] == [False, True, True, False]
    assert stream.out == lines.out


def test_all_bad_rows_of_a_file_are_listed(finished_run: Path, here: Path, petkit_command: Petkit) -> None:
    (here / "in.jsonl").write_text('{"text": "a"}\n' + '{"text": 5}\n' * 22 + '{"id": 1}\n')

    answer = petkit_command("predict", finished_run, "--input", "in.jsonl", "--output", "out.csv")

    lines = answer.err.splitlines()
    assert (answer.code, len(lines)) == (2, 21)
    assert lines[0].startswith("in.jsonl:2: text: must be text, not 5") and lines[20].endswith("and 3 more rows like these")
    assert not (here / "out.csv").exists()


def test_notes_and_a_summary(finished_run: Path, here: Path, petkit_command: Petkit) -> None:
    (here / "in.csv").write_text('body,label\na,x\n"",y\n')
    command = ("predict", finished_run, "--input", "in.csv", "--set", "data.columns.text=body", "--output", "out.csv", "--force")

    spoken, quiet, summary = (petkit_command(*command, *more) for more in ((), ("--quiet",), ("--json", "-q")))

    assert spoken.err.splitlines() == [
        "in.csv: 1 row without text: no label",
        "in.csv: columns with the name of a predicted one are renamed: label is input_label",
    ]
    assert (quiet.out, quiet.err, summary.err) == ("", "", "")
    assert json.loads(summary.out) == {"output": "out.csv", "rows": 2, "without_text": 1, "renamed": {"label": "input_label"}}
    assert list(read("out.csv")[0])[:4] == ["id", "body", "input_label", "label"]


def test_columns_of_evaluate(finished_run: Path, here: Path, petkit_command: Petkit) -> None:
    (here / "gold.csv").write_text("body,gold\na,World\nb,Sports\n")

    answer = petkit_command("evaluate", finished_run, "gold.csv", "--set", "data.columns={text: body, label: gold}", "--json")

    assert json.loads(answer.out)["rows"] == 2


def test_a_stream_with_a_new_column_does_not_fit_a_table(finished_run: Path, here: Path, petkit_command: Petkit) -> None:
    stdin = b'{"text": "a", "label": 1}\n{"text": "b", "n": 2}\n'

    table = petkit_command("predict", finished_run, "--input", "-", "--output", "out.csv", stdin=stdin)
    lines = petkit_command("predict", finished_run, "--input", "-", "--output", "out.jsonl", stdin=stdin)

    assert table == Outcome(
        2, "", "standard input:2: n: the first row has no such column (write jsonl, or choose with --columns)\n"
    )
    assert lines.err == "standard input: columns with the name of a predicted one are renamed: label is input_label\n"
    assert read("out.jsonl")[0]["input_label"] == 1 and not (here / "out.csv").exists()


def test_an_id_that_a_table_cannot_hold_is_listed_even_where_its_column_is_left_out(here: Path) -> None:
    (here / "in.jsonl").write_text('{"text": "a", "id": "x\\ty"}\n')

    with pytest.raises(InvalidInput, match=r"^in\.jsonl:1: id: contains a tab or a line break"):
        label("in.jsonl", "out.tsv", predictor_of(), [])
    assert [path.name for path in here.iterdir()] == ["in.jsonl"]
