"""Columns that ``--columns`` names, and the column of the ids: known before anything is written, never mixed with predictions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from petkit.errors import InvalidInput
from tests.cli.conftest import Outcome
from tests.predict.test_columns import label, predictor_of, read

Petkit = Callable[..., Outcome]


@pytest.mark.parametrize(
    ("rows", "stdin", "place", "hint"),
    [
        (
            ["--input", "-"],
            b'{"text": "a", "topic": 1}\n{"topics": 1}\n',
            "the first row of standard input",
            "did you mean 'topic'?",
        ),
        (["--input", "-"], b"a game\n", "the first row of standard input", "known: text"),
        (["--input", "in.csv"], b"", "in.csv", "did you mean 'topic'?"),
        (["a game", "b"], b"", "the first row of the texts", "known: text"),
    ],
)
@pytest.mark.parametrize("output", [[], ["--output", "out.csv"]], ids=["lines", "file"])
def test_a_column_that_is_not_there_is_refused_before_anything_is_written(
    output: list[str],
    rows: list[str],
    stdin: bytes,
    place: str,
    hint: str,
    finished_run: Path,
    here: Path,
    petkit_command: Petkit,
) -> None:
    (here / "in.csv").write_text("text,topic\na,x\n")

    answer = petkit_command("predict", finished_run, *rows, "--columns", "text,topics", *output, stdin=stdin)

    assert answer == Outcome(2, "", f"--columns: {place} has no column 'topics' ({hint})\n")
    assert [path.name for path in here.iterdir()] == ["in.csv"]


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_the_id_may_be_chosen_where_it_is_made(kind: str, here: Path) -> None:
    (here / "in.jsonl").write_text('{"text": "a", "n": 1}\n')
    label("in.jsonl", f"out.{kind}", predictor_of(), ["n", "id"])

    assert list(read(f"out.{kind}")[0].items())[:2] == [("n", 1 if kind == "jsonl" else "1"), ("id", "row-1")]


@pytest.mark.parametrize("wanted", [None, [], ["text"]])
@pytest.mark.parametrize("named", ["label", "probability", "p(+1)", "probabilities"])
@pytest.mark.parametrize("kind", ["jsonl", "csv", "tsv"])
def test_an_id_column_with_the_name_of_a_prediction(kind: str, named: str, wanted: list[str] | None, here: Path) -> None:
    """``data.columns: {id: label}`` with ``--columns none`` wrote the id in place of the label, or two columns of one name."""
    predictor = predictor_of(columns={"id": named})
    (here / "in.jsonl").write_text(json.dumps({"text": "a", named: "T-9", "input_label": 1}) + '\n{"text": "b"}\n')

    columns = label("in.jsonl", f"out.{kind}", predictor, wanted)

    rows = read(f"out.{kind}")
    name = columns.names[named]
    assert (name != named) == (named in columns.predicted)
    assert [row[name] for row in rows] == ["T-9", "row-2"]
    assert [row["label"] for row in rows] == [prediction.label for prediction in predictor(["a", "b"])]


def test_ids_of_texts_alone_are_renamed_too(finished_run: Path, here: Path, petkit_command: Petkit) -> None:
    answer = petkit_command("predict", finished_run, "a", "--set", "data.columns.id=label")

    row = json.loads(answer.out)
    assert row["input_label"] == "row-1" and row["label"] in row["probabilities"]
    assert answer.err == "the texts: columns with the name of a predicted one are renamed: label is input_label\n"


def test_a_text_that_a_table_cannot_hold_is_not_blamed_on_standard_input(
    finished_run: Path, here: Path, petkit_command: Petkit
) -> None:
    answer = petkit_command("predict", finished_run, "a\tgame", "--output", "out.tsv")

    tab = "contains a tab or a line break, which TSV has no way to write (write csv or jsonl)"
    assert answer == Outcome(2, "", f"the texts:1: text: {tab}\n")


@pytest.mark.parametrize(("wanted", "names"), [(None, "id,text"), ([], "id"), (["n"], "id,n")])
def test_a_table_without_rows_has_the_chosen_columns(wanted: list[str] | None, names: str, here: Path) -> None:
    (here / "in.csv").write_text("text,n\n")
    label("in.csv", "out.csv", predictor_of(["a", "b"]), wanted)

    assert (here / "out.csv").read_text() == f"{names},label,probability,p(a),p(b)\n"


def test_columns_of_a_file_are_checked_once_all_rows_are_read(here: Path) -> None:
    (here / "in.jsonl").write_text('{"text": "a"}\n{"text": "b", "n": 2}\n')
    label("in.jsonl", "out.csv", predictor_of(), ["n"])

    assert [row["n"] for row in read("out.csv")] == ["", "2"]
    with pytest.raises(InvalidInput, match=r"^--columns: in\.jsonl has no column 'm' \(known: text\)$"):
        label("in.jsonl", "no.csv", predictor_of(), ["m"])
