"""``petkit init``: what it writes is a project that passes its own check."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from petkit.cli.console import show_scaffold
from petkit.commands import init_project
from petkit.commands.init_project import MAX_TRAIN_PER_LABEL, Scaffold, create_project
from petkit.commands.validate import Check, check_pipeline
from petkit.config.loader import load_pipeline
from petkit.config.schema.pipeline import DataSpec
from petkit.data.examples import ExampleSource
from petkit.data.labels import LabelReader
from petkit.data.records import Record, read_records
from petkit.errors import BeyondLimit, InvalidInput

HEADERS = ("pipeline.yaml", "patterns.yaml", "verbalizer.yaml")


def check(scaffold: Scaffold) -> Check:
    """Return what ``petkit validate`` finds."""
    return check_pipeline(load_pipeline(scaffold.folder / "pipeline.yaml"))


def rows_of(scaffold: Scaffold, part: str) -> list[dict[str, Any]]:
    return [dict(record.values) for record in read_records(str(scaffold.folder / "data" / f"{part}.jsonl"))]


def words_of(scaffold: Scaffold) -> dict[str, tuple[str, ...]]:
    return load_pipeline(scaffold.folder / "pipeline.yaml").spec.verbalizer.labels


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> str:
    """Write rows as csv, tsv or jsonl by the file's ending."""
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    return str(path)


def mixed_rows(text: str = "text", label: str = "label") -> list[dict[str, Any]]:
    """Return 52 rows of ``praise``, 3 of ``complaint``, 4 without a label and 1 without text."""
    rows = [{text: f"well done, number {index}", label: "praise"} for index in range(MAX_TRAIN_PER_LABEL + 2)]
    rows += [{text: f"this is late, number {index}", label: "complaint"} for index in range(3)]
    rows += [{text: f"message {index}", label: ""} for index in range(4)]
    return [*rows, {text: "  ", label: "praise"}]


def test_from_labels(here: Path) -> None:
    scaffold = create_project(here / "My Task!", ["complaint", "praise", "question"], None)

    assert scaffold.files == (*HEADERS, "data/train.jsonl", "data/unlabeled.jsonl")
    assert {path.relative_to(scaffold.folder).as_posix() for path in scaffold.folder.rglob("*") if path.is_file()} == set(
        scaffold.files
    )
    found = check(scaffold)
    assert found.task == "my-task"
    assert found.label_counts == {"complaint": 1, "praise": 1, "question": 1}
    assert (found.teachers, len(found.patterns)) == (3, 3)
    assert scaffold.notes == ("data/*.jsonl contain placeholders: replace them by your own rows",)


@pytest.mark.parametrize("name", HEADERS)
def test_every_file_opens_with_what_why_and_what_to_change(name: str, here: Path) -> None:
    create_project(here / "new", ["praise", "question"], None)

    opening = (here / "new" / name).read_text(encoding="utf-8").splitlines()[:3]
    for line, start in zip(opening, ("# What this is: ", "# How to run:   petkit validate new/pipeline.yaml", "# "), strict=True):
        assert line.startswith(start)


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl"])
@pytest.mark.parametrize("columns", [("text", "label"), ("Message", "Category")], ids="-".join)
def test_from_a_file(kind: str, columns: tuple[str, str], here: Path) -> None:
    source = write_rows(here / f"rows.{kind}", mixed_rows(*columns))

    scaffold = create_project(here / "new", [], source)

    assert scaffold.notes == (
        f"53 labelled, 4 unlabelled and 2 test rows from rows.{kind}",
        "left out: 1 row without a text",
    )
    assert Counter(row["label"] for row in rows_of(scaffold, "train")) == {"praise": MAX_TRAIN_PER_LABEL, "complaint": 3}
    assert rows_of(scaffold, "unlabeled") == [{"text": f"message {index}"} for index in range(4)]
    assert rows_of(scaffold, "test") == [{"text": f"well done, number {index}", "label": "praise"} for index in (50, 51)]
    found = check(scaffold)
    assert found.rows == {"train": 53, "unlabeled": 4, "test": 2}
    assert not any("test.jsonl" in warning for warning in found.warnings)


def test_chosen_labels_of_a_file(here: Path) -> None:
    rows = [{"text": f"{label} {index}", "label": label} for label in ("praise", "complaint", "question") for index in range(2)]
    source = write_rows(here / "rows.csv", [*rows, {"text": "a", "label": ""}])

    scaffold = create_project(here / "new", ["question", "praise"], source)

    assert list(words_of(scaffold)) == ["question", "praise"]
    assert scaffold.notes == (
        "4 labelled, 1 unlabelled and 0 test rows from rows.csv",
        "2 rows with other labels were left out: complaint",
    )
    assert check(scaffold).label_counts == {"question": 2, "praise": 2}


def test_a_file_without_unlabelled_rows(here: Path) -> None:
    source = write_rows(here / "rows.csv", [{"text": "a", "label": "praise"}, {"text": "b", "label": "complaint"}])

    scaffold = create_project(here / "new", [], source)

    assert rows_of(scaffold, "unlabeled") == [{"text": "b"}, {"text": "a"}]
    assert any("no row was without a label" in note for note in scaffold.notes)
    assert check(scaffold).rows == {"train": 2, "unlabeled": 2}


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("delivery", ("delivery",)),
        ("Sci/Tech", ("sci", "tech")),
        ("order_status", ("order", "status")),
        ("5", ("5",)),
        ("no", ("no",)),
    ],
)
def test_label_names_become_words(label: str, words: tuple[str, ...], here: Path) -> None:
    scaffold = create_project(here / "new", [label, "praise"], None)

    assert set(words_of(scaffold)[label]) <= set(words) and words_of(scaffold)[label]
    assert check(scaffold).label_counts == {label: 1, "praise": 1}


@pytest.mark.parametrize("label", ["xqzvkw", "praise", "???"], ids=["no token", "taken", "no letters"])
def test_a_label_without_a_word_of_its_own_gets_a_note(label: str, here: Path) -> None:
    first = "Praise!" if label == "praise" else "praise"

    scaffold = create_project(here / "new", [first, label], None)

    taken = "'praise' is taken by label 'Praise!'"
    why = taken if label == "praise" else "its name is not a single word of the embedded model"
    reported = f"verbalizer.yaml: choose a word for label {label!r}; {why}"
    assert reported in scaffold.notes
    with pytest.raises(InvalidInput, match=r"verbalizer\.yaml:8"):
        check(scaffold)


@pytest.mark.parametrize("name", ["x" * 80, "_-Ünï!", "42"], ids=["long", "odd", "number"])
def test_any_folder_name_gives_a_task_name(name: str, here: Path) -> None:
    assert check(create_project(here / name, ["praise", "question"], None)).task


def test_an_empty_folder_may_be_used(here: Path) -> None:
    (here / "new").mkdir()

    assert create_project(here / "new", ["praise", "question"], None).files


@pytest.mark.parametrize("taken", ["folder/mine.txt", "folder"], ids=["full", "a file"])
def test_an_existing_folder_is_refused(taken: str, here: Path) -> None:
    (here / taken).parent.mkdir(exist_ok=True)
    (here / taken).write_text("mine", encoding="utf-8")

    with pytest.raises(InvalidInput, match="folder: already exists and is not empty"):
        create_project(here / "folder", ["praise", "question"], None)

    assert [path for path in here.rglob("*") if path.is_file()] == [here / taken]


def test_broken_rows_are_all_reported(here: Path) -> None:
    (here / "rows.jsonl").write_text('{"text": "a", "label": "b"}\n[1]\n{"text"\n', encoding="utf-8")

    with pytest.raises(InvalidInput) as caught:
        create_project(here / "new", [], str(here / "rows.jsonl"))

    assert [problem.line for problem in caught.value.problems] == [2, 3]
    assert not (here / "new").exists()


def test_shown_to_a_person(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show_scaffold(create_project(Path("new"), ["praise", "question"], None))

    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == str(Path("new/pipeline.yaml"))
    assert shown[-2].startswith("note: data/*.jsonl contain placeholders")
    assert shown[-1] == f"Next: petkit validate {Path('new/pipeline.yaml')}"


def test_lists_of_labels_are_refused(here: Path) -> None:
    path = write_rows(here / "rows.jsonl", [{"text": "a", "label": "b"}, {"text": "a", "label": ["b", "c"]}])

    with pytest.raises(InvalidInput) as caught:
        create_project(here / "new", [], path)

    hint = "init starts tasks of one label per row; write label_kind: multi into a pipeline"
    assert str(caught.value) == f"rows.jsonl:2: label: contains several labels: ['b', 'c'] ({hint})"
    assert not (here / "new").exists()


def test_a_file_of_too_many_labels_is_read_to_the_cap_only(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "many.csv").write_text("text,label\n" + "".join(f"text {row},label {row}\n" for row in range(3000)))
    read = 0

    def counted(source: str) -> Iterator[Record]:
        nonlocal read
        for record in read_records(source):
            read += 1
            yield record

    monkeypatch.setattr(init_project, "read_records", counted)
    with pytest.raises(BeyondLimit, match="at most 1,000 labels"):
        create_project(here / "new", [], "many.csv")

    assert read == 1001


def test_what_init_writes_is_what_a_run_reads(here: Path) -> None:
    """Labels as pandas, doccano and Label Studio write them: the file itself can be evaluated with the labels that init found."""
    values = [True, False, "true", None, float("nan"), " ", ["true"], {"choices": ["false"]}, []]
    path = write_rows(here / "rows.jsonl", [{"text": f"t {n}", "label": value} for n, value in enumerate(values)])

    scaffold = create_project(here / "new", [], path)

    assert list(words_of(scaffold)) == ["false", "true"]
    assert len(rows_of(scaffold, "unlabeled")) == 4
    reader = LabelReader(["false", "true"])
    assert [reader.read(value) for value in values[:3]] == [("true",), ("false",), ("true",)]


def test_labels_that_look_alike_are_pointed_out(here: Path) -> None:
    scaffold = create_project(here / "new", ["Good", "bad", "good"], None)

    assert "labels 'Good' and 'good' differ only in case or blanks; are they one?" in scaffold.notes
    assert "verbalizer.yaml: choose a word for label 'good'; 'good' is taken by label 'Good'" in scaffold.notes


def test_columns_are_those_of_all_rows(here: Path) -> None:
    rows = [{"text": "No idea yet"}, {"text": "It boils fast", "label": "good"}, {"text": "It broke", "label": "bad"}]

    scaffold = create_project(here / "new", [], write_rows(here / "rows.jsonl", rows))

    assert list(words_of(scaffold)) == ["bad", "good"]
    assert rows_of(scaffold, "unlabeled") == [{"text": "No idea yet"}]


@pytest.mark.parametrize("value", [0.5, ["a", "b"], {"a": 1}, [None]])
def test_init_refuses_what_a_run_refuses(value: Any, here: Path) -> None:
    rows = [{"text": "x", "label": "a"}, {"text": "x", "label": "b"}, {"text": "x", "label": value}]
    path = write_rows(here / "rows.jsonl", rows)

    with pytest.raises(InvalidInput) as of_init:
        create_project(here / "new", [], path)
    (of_run,) = ExampleSource(path, DataSpec(unlabeled=path), ("text",), ("a", "b")).scan().problems

    assert [(problem.line, problem.message) for problem in of_init.value.problems] == [(of_run.line, of_run.message)]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (["lost_or_stolen_card", "top_up_failed"], [("lost", "stolen", "card"), ("top", "failed")]),
        (["-1", "0", "1"], [("-1",), ("0",), ("1",)]),
        (["no", "yes"], [("no",), ("yes",)]),
    ],
)
def test_proposed_words_carry_meaning_and_are_marked(labels: list[str], words: list[tuple[str, ...]], here: Path) -> None:
    scaffold = create_project(here / "new", labels, None)

    assert list(words_of(scaffold).values()) == words
    lines = (scaffold.folder / "verbalizer.yaml").read_text(encoding="utf-8").splitlines()[-len(labels) :]
    assert [line.rpartition("  # ")[2] for line in lines] == [
        "choose a word" if label == "-1" else "a guess from the name" for label in labels
    ]
    assert ("verbalizer.yaml: choose a word for label '-1'" in "".join(scaffold.notes)) == ("-1" in labels)


def test_words_for_names_that_say_nothing_are_found_on_the_rows(here: Path) -> None:
    rows = [{"text": text, "label": label} for text, label in OPINIONS]

    scaffold = create_project(here / "new", [], write_rows(here / "rows.jsonl", rows))

    words = words_of(scaffold)
    assert all(word.isalpha() for found in words.values() for word in found) and set(words) == {"+1", "-1"}
    lines = (scaffold.folder / "verbalizer.yaml").read_text(encoding="utf-8").splitlines()[-2:]
    assert all(line.endswith("  # a guess from the labelled rows") for line in lines)
    assert check(scaffold).label_counts == {"+1": 4, "-1": 4}


OPINIONS = [
    ("I loved this film, it was great and wonderful.", "+1"),
    ("A wonderful story and a great cast.", "+1"),
    ("The best movie of the year, really good.", "+1"),
    ("Good fun for everybody, I enjoyed it.", "+1"),
    ("I hated this film, it was bad and boring.", "-1"),
    ("A terrible story and an awful cast.", "-1"),
    ("The worst movie of the year, really bad.", "-1"),
    ("Boring for everybody, I left early.", "-1"),
]


def test_labels_and_not_their_spellings_count_for_the_cap(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("petkit.limits.LABELS", 2)
    rows = [{"text": f"row {value}", "label": value} for value in (1, 1.0, "1", "1.0", 2, 2.0, "2")]

    scaffold = create_project(here / "new", [], write_rows(here / "rows.jsonl", rows))

    assert [row["label"] for row in rows_of(scaffold, "train")] == ["1"] * 4 + ["2"] * 3


def test_a_delimiter_that_was_found_is_reported(here: Path) -> None:
    (here / "rows.csv").write_text("text;label\nIt boils fast;good\nIt broke;bad\n")

    assert "rows.csv: read with ';' between its cells" in create_project(here / "new", [], "rows.csv").notes
