"""``petkit predict`` and ``evaluate``: rows from anywhere, answers that agree with the model, nothing half-written."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import petkit
from petkit import Predictor
from petkit.cli import console
from petkit.config.schema.pipeline import ComputeSpec
from petkit.data.examples import Example
from petkit.ensemble import log_softmax
from petkit.metrics import Decision, evaluate
from petkit.predict import row_io as rows
from tests.cli import project
from tests.cli.conftest import Outcome

Petkit = Callable[..., Outcome]
TEXTS = ("the world is bad", "a great game, a good team", "is it science?")


@pytest.fixture(scope="session")
def student(finished_run: Path) -> Predictor:
    return Predictor.load(finished_run)


@pytest.fixture(scope="session")
def pair_run(tmp_path_factory: pytest.TempPathFactory, model_folder: Callable[[str], Path]) -> Path:
    """A finished run over two fields, one of them under another column name."""
    folder = tmp_path_factory.mktemp("pairs")
    rows = [{"premise": text, "second": "it is good", "label": label} for text, label in project.TRAIN]
    files = {name: project.json_lines(rows) for name in ("train.jsonl", "unlabeled.jsonl", "test.jsonl")}
    patterns = 'patterns:\n  - id: pair\n    text: ["{premise}?", "{mask}, {hypothesis}"]\n'
    pipeline = project.write(folder, model_folder("bert"), {**files, "patterns.yaml": patterns})
    return petkit.run(pipeline, folder / "run", overrides=["data.columns={hypothesis: second}"]).folder


def answers(text: str) -> list[dict[str, Any]]:
    """Return the rows of JSON Lines."""
    return [json.loads(line) for line in text.splitlines()]


def written(folder: Path, kind: str) -> Path:
    """Write TEXTS as a file of a kind, with ids."""
    path = folder / f"new.{kind}"
    table = [{"id": f"n{index}", "text": text} for index, text in enumerate(TEXTS)]
    if kind == "jsonl":
        path.write_text(project.json_lines(table), encoding="utf-8")
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist(table), path)
    else:
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, ["id", "text"], delimiter="\t" if kind == "tsv" else ",")
            writer.writeheader()
            writer.writerows(table)
    return path


def check_rows(reported: list[dict[str, Any]], predictor: Predictor, ids: Sequence[str | int]) -> None:
    """Compare printed rows with what the predictor says in Python."""
    expected = predictor(TEXTS)
    assert [row["id"] for row in reported] == ids
    assert [row["text"] for row in reported] == list(TEXTS)
    for row, prediction in zip(reported, expected, strict=True):
        assert row["label"] == prediction.label == max(row["probabilities"], key=row["probabilities"].__getitem__)
        assert row["probabilities"] == pytest.approx(prediction.probabilities, abs=2e-6)
        assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert row["probability"] == max(row["probabilities"].values())


def test_texts_as_arguments(finished_run: Path, student: Predictor, here: Path, petkit_command: Petkit) -> None:
    answer = petkit_command("predict", finished_run, *TEXTS)

    assert (answer.code, answer.err) == (0, "")
    check_rows(answers(answer.out), student, ["row-1", "row-2", "row-3"])
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("kind", ["jsonl", "csv", "tsv", "parquet"])
def test_rows_of_a_file(kind: str, finished_run: Path, student: Predictor, here: Path, petkit_command: Petkit) -> None:
    answer = petkit_command("predict", finished_run, "--input", written(here, kind))

    assert (answer.code, answer.err) == (0, "")
    check_rows(answers(answer.out), student, ["n0", "n1", "n2"])


@pytest.mark.parametrize(
    ("stdin", "ids"),
    [
        ("".join(f"{text}\n" for text in TEXTS), ["row-1", "row-2", "row-3"]),
        ("\ufeff\n" + "\r\n".join(TEXTS), ["row-2", "row-3", "row-4"]),
        (project.json_lines({"text": text, "id": index} for index, text in enumerate(TEXTS)), [0, 1, 2]),
        ("\n \n" + "\n".join(json.dumps({"text": text, "more": 1}) for text in TEXTS), ["row-3", "row-4", "row-5"]),
    ],
    ids=["lines", "lines of Windows", "JSON Lines", "JSON Lines after blank lines"],
)
def test_rows_of_standard_input(
    stdin: str, ids: list[str | int], finished_run: Path, student: Predictor, petkit_command: Petkit
) -> None:
    answer = petkit_command("predict", finished_run, "--input", "-", stdin=stdin.encode())

    assert (answer.code, answer.err) == (0, "")
    check_rows(answers(answer.out), student, ids)


@pytest.mark.parametrize("kind", ["jsonl", "csv", "tsv"])
def test_output_file(kind: str, finished_run: Path, student: Predictor, here: Path, petkit_command: Petkit) -> None:
    answer = petkit_command("predict", finished_run, "--input", written(here, "jsonl"), "--output", f"out.{kind}")

    assert answer == Outcome(0, "", "")
    assert sorted(path.name for path in here.iterdir()) == ["new.jsonl", f"out.{kind}"]
    text = (here / f"out.{kind}").read_text(encoding="utf-8")
    if kind == "jsonl":
        check_rows(answers(text), student, ["n0", "n1", "n2"])
        return
    table = list(csv.reader(io.StringIO(text), delimiter="\t" if kind == "tsv" else ","))
    assert table[0] == ["id", "text", "label", "probability", "p(World)", "p(Sports)"]
    reported = [
        {"id": row[0], "text": row[1], "label": row[2], "probability": float(row[3])}
        | {"probabilities": {"World": float(row[4]), "Sports": float(row[5])}}
        for row in table[1:]
    ]
    check_rows(reported, student, ["n0", "n1", "n2"])


@pytest.mark.parametrize("before", [None, "what was there\n"], ids=["new", "existing"])
def test_output_file_appears_only_when_it_is_complete(
    before: str | None, finished_run: Path, here: Path, petkit_command: Petkit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("petkit.data.chunks.CHUNK", 2)
    (here / "in.jsonl").write_text(project.json_lines({"text": text} for text in (*TEXTS, *TEXTS)) + "{}\n", encoding="utf-8")
    if before is not None:
        (here / "out.csv").write_text(before, encoding="utf-8")

    answer = petkit_command("predict", finished_run, "--input", "in.jsonl", "--output", "out.csv", "--force")

    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("in.jsonl:7: text: missing")
    assert {path.name for path in here.iterdir()} == {"in.jsonl"} | ({"out.csv"} if before else set())
    if before is not None:
        assert (here / "out.csv").read_text(encoding="utf-8") == before


def test_teachers_answer_together(finished_run: Path, student: Predictor, petkit_command: Petkit) -> None:
    teachers = Predictor.load(finished_run, teachers=True)

    answer = petkit_command("predict", finished_run, "--with", "teachers", *TEXTS)

    assert (answer.code, answer.err) == (0, "")
    check_rows(answers(answer.out), teachers, ["row-1", "row-2", "row-3"])
    assert not np.allclose(teachers.logits(TEXTS), student.logits(TEXTS))


def test_the_student_folder_alone_answers_as_the_run(finished_run: Path, student: Predictor) -> None:
    alone = Predictor.load(finished_run / "stage_c" / "model", compute=ComputeSpec(precision="float32"))

    assert np.array_equal(alone.logits(TEXTS), student.logits(TEXTS))
    assert alone.labels == ("World", "Sports")


def test_answers_do_not_depend_on_the_company(student: Predictor) -> None:
    alone = np.concatenate([student.logits([text]) for text in TEXTS])

    assert np.allclose(student.logits(TEXTS), alone, atol=1e-5)


def test_pairs_need_both_fields(pair_run: Path, here: Path, petkit_command: Petkit) -> None:
    (here / "one.jsonl").write_text('{"premise": "a"}\n', encoding="utf-8")

    bare = petkit_command("predict", pair_run, "a text")
    half = petkit_command("predict", pair_run, "--input", "one.jsonl")
    lines = petkit_command("predict", pair_run, "--input", "-", stdin=b"a text\n")

    assert {answer.code for answer in (bare, half, lines)} == {2}
    assert bare.err == "this model reads the fields premise, hypothesis (give them with --input)\n"
    assert half.err.startswith("one.jsonl:1: second: missing")
    assert lines.err == "standard input:1: this model reads the fields premise, hypothesis (send JSON Lines)\n"


@pytest.mark.parametrize("who", ["student", "teachers"])
def test_pairs(who: str, pair_run: Path, petkit_command: Petkit) -> None:
    row = {"premise": "the game", "second": "it is good"}

    answer = petkit_command("predict", pair_run, "--with", who, "--input", "-", stdin=project.json_lines([row]).encode())

    (reported,) = answers(answer.out)
    predictor = Predictor.load(pair_run, teachers=who == "teachers")
    (expected,) = predictor([{"premise": "the game", "hypothesis": "it is good"}])
    assert reported["probabilities"] == pytest.approx(expected.probabilities, abs=2e-6)
    assert (reported["premise"], reported["second"]) == ("the game", "it is good")


def test_a_row_without_its_fields_is_refused_in_python(student: Predictor) -> None:
    with pytest.raises(petkit.InvalidInput, match="a row needs the fields text; missing: text"):
        student([{"txt": "a"}])


def test_rows_stream(student: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never more than one chunk is read ahead of what was given out, and nothing before the first is asked for."""
    taken = 0

    def endless() -> Iterator[Example]:
        nonlocal taken
        while True:
            taken += 1
            yield Example(f"row-{taken}", {"text": "a game"}, None, taken)

    monkeypatch.setattr("petkit.data.chunks.CHUNK", 8)
    stream = rows.predict_rows(endless(), student)

    assert taken == 0
    for given in range(20):
        example, _ = next(stream)
        assert example.id == f"row-{given + 1}"
        assert taken <= given + 8


def test_standard_input_is_read_as_a_stream(student: Predictor) -> None:
    def lines() -> Iterator[bytes]:
        yield b"a game\n"
        raise AssertionError("read ahead")

    assert next(rows.stream_rows(lines(), student)).fields == {"text": "a game"}


@pytest.mark.slow
@pytest.mark.parametrize("many", [3, 5000], ids=["at the end", "midway"])
def test_a_reader_that_leaves_is_not_a_failure(many: int, finished_run: Path, here: Path) -> None:
    (here / "in.jsonl").write_text(project.json_lines({"text": "a game"} for _ in range(many)), encoding="utf-8")
    command = [sys.executable, "-m", "petkit", "predict", str(finished_run), "--input", "in.jsonl"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        if many == 5000:
            assert json.loads(process.stdout.readline())["id"] == "row-1"
        process.stdout.close()

        assert process.stderr.read() == ""
        assert process.wait() == 141  # it could not say all, and it was nobody's mistake


@pytest.mark.parametrize(("name", "content"), [("none.csv", "text\n"), ("none.jsonl", "")])
def test_no_rows_is_worth_a_remark(
    name: str, content: str, finished_run: Path, here: Path, petkit_command: Callable[..., Outcome]
) -> None:
    (here / name).write_text(content)
    answer = petkit_command("predict", finished_run, "--input", name, "--output", "out.jsonl")
    assert (answer.code, answer.out, answer.err) == (0, "", f"{name}: contains no rows\n")
    assert (here / "out.jsonl").read_text() == ""
    answer = petkit_command("predict", finished_run, "--input", "-")
    assert (answer.code, answer.out, answer.err) == (0, "", "standard input: contains no rows\n")


def test_table_on_a_terminal(capsys: pytest.CaptureFixture[str], student: Predictor) -> None:
    console.show_predictions(["[b]a[/b]", "x"], student(["a", "x"]))

    shown = capsys.readouterr().out.splitlines()
    assert shown[0].split() == ["text", "label", "probability"]
    assert shown[1].startswith("[b]a[/b]") and len(shown) == 3


@pytest.mark.parametrize("who", ["student", "teachers"])
def test_evaluate_measures_what_it_predicts(who: str, finished_run: Path, tiny: Path, petkit_command: Petkit) -> None:
    answer = petkit_command("evaluate", finished_run, "test.jsonl", "--json", "--with", who)

    assert (answer.code, answer.err) == (0, "")
    predictor = Predictor.load(finished_run, teachers=who == "teachers")
    logits = predictor.logits([text for text, _ in project.TEST])
    gold = np.array([predictor.labels.index(label) for _, label in project.TEST])
    targets = np.eye(len(predictor.labels), dtype=np.float32)[gold]
    expected = json.loads(json.dumps(evaluate(logits, targets, predictor.labels, Decision()).to_dict()))
    assert json.loads(answer.out) == expected
    assert expected["nll"] == pytest.approx(-np.mean([row[label] for row, label in zip(log_softmax(logits), gold, strict=True)]))


@pytest.fixture(scope="module")
def roberta_run(tmp_path_factory: pytest.TempPathFactory, model_folder: Callable[[str], Path]) -> Path:
    """A finished run whose label words are other tokens inside a text than at its start."""
    folder = tmp_path_factory.mktemp("roberta")
    return petkit.run(project.write(folder, model_folder("roberta")), folder / "run").folder


@pytest.mark.parametrize(("who", "named"), [("student", "student"), ("teachers", "ensemble")])
def test_evaluate_agrees_with_the_run(who: str, named: str, roberta_run: Path, petkit_command: Petkit) -> None:
    answer = petkit_command("evaluate", roberta_run, roberta_run.parent / "test.jsonl", "--json", "--with", who)

    of_the_run = json.loads((roberta_run / "evaluation" / "metrics.json").read_text(encoding="utf-8"))[named]
    reported = json.loads(answer.out)
    assert reported["confusion"] == of_the_run["confusion"]
    assert reported["nll"] == pytest.approx(of_the_run["nll"], abs=1e-6)


def test_evaluate_table(finished_run: Path, tiny: Path, petkit_command: Petkit) -> None:
    figures = json.loads(petkit_command("evaluate", finished_run, "test.jsonl", "--json").out)

    answer = petkit_command("evaluate", finished_run, "test.jsonl")

    reported = {tuple(line.split()[:2]) for line in answer.out.splitlines()}
    assert ("accuracy", f"{100 * figures['accuracy']:.1f}") in reported
    assert ("ECE", f"{figures['ece']:.4f}") in reported
    assert ("rows", "3") in reported
    for label, counts in zip(("World", "Sports"), figures["confusion"], strict=True):
        assert (label, str(counts[0])) in reported
        assert (label, f"{100 * figures['labels'][label]['precision']:.1f}") in reported


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_another_delimiter_is_reported(command: str, finished_run: Path, here: Path, petkit_command: Petkit) -> None:
    (here / "rows.csv").write_text("text;label\nthe team, at last, was good;Sports\nthe news;World\n", encoding="utf-8")

    answer = petkit_command(command, finished_run, *(["--input"] if command == "predict" else []), "rows.csv")

    assert answer.code == 0
    assert "rows.csv: read with ';' between its cells" in answer.err
