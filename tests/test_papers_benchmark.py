"""Rows of the papers: the original files become the recipes' data, and one command runs a recipe on them."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from benchmarks import papers
from petkit.config.loader import load_pipeline
from petkit.task.task import Task
from tests.library import PAPER, ROOT

PASSAGE = {"idx": 7, "passage": {"text": "Ann has a cat. Bob has none.", "questions": [
    {"idx": 0, "question": "Who has a cat?", "answers": [
        {"idx": 0, "text": "Ann", "label": 1}, {"idx": 1, "text": "Bob", "label": 0}, {"idx": 2, "text": "Ann does", "label": 1},
    ]},
    {"idx": 1, "question": "Who has none?", "answers": [{"idx": 0, "text": "Ann", "label": 0}, {"idx": 1, "text": "Bob", "label": 1}]},
]}}  # fmt: skip
FEW_GLUE: dict[str, list[dict[str, Any]]] = {
    "BoolQ": [{"passage": f"Cat {n} purrs", "question": "do cats purr", "label": bool(n % 2), "idx": n} for n in range(4)],
    "CB": [
        {"premise": f"It rains in {n}", "hypothesis": "it is wet", "label": label, "idx": n}
        for n, label in enumerate(("entailment", "contradiction", "neutral") * 2)
    ],
    "RTE": [
        {"premise": f"It rains in {n}.", "hypothesis": "It is wet.", "label": label, "idx": n}
        for n, label in enumerate(("entailment", "not_entailment") * 2)
    ],
    "WiC": [
        {"word": "bank", "sentence1": f"The bank {n}", "sentence2": "A bank", "label": bool(n % 2), "idx": n} for n in range(4)
    ],
    "MultiRC": [PASSAGE],
}


def lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def table(path: Path, rows: list[tuple[object, ...]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as stream:
        csv.writer(stream, quoting=csv.QUOTE_ALL).writerows(rows)


@pytest.fixture
def original(here: Path) -> Path:
    """The original data, few rows of each."""
    for name, rows in FEW_GLUE.items():
        lines(here / "FewGLUE" / name / "train.jsonl", rows)
        lines(here / "FewGLUE" / name / "unlabeled.jsonl", rows)
        lines(here / "SuperGLUE" / name / "val.jsonl", rows)
    news: list[tuple[object, ...]] = [(number % 4 + 1, f"Head {number}", f"Body\\nof {number}") for number in range(40)]
    asked = [(number % 10 + 1, f"Title {number}", "More", "" if number == 3 else f"Answer {number}") for number in range(60)]
    for part in ("train", "test"):
        table(here / "ag_news_csv" / f"{part}.csv", news)
        table(here / "yelp_review_full_csv" / f"{part}.csv", [(number % 5 + 1, f"Fine {number}") for number in range(50)])
        table(here / "yahoo_answers_csv" / f"{part}.csv", [*asked])
    pairs = [
        {"sentence1": f"A man {number}", "sentence2": "A person", "gold_label": label}
        for number, label in enumerate(("entailment", "neutral", "contradiction", "-") * 10)
    ]
    for part in ("train", "dev_matched"):
        lines(here / "multinli_1.0" / f"multinli_1.0_{part}.jsonl", pairs)
    return here


@pytest.mark.parametrize("name", papers.TASKS)
def test_converted_files_are_what_the_recipe_reads(name: str, original: Path) -> None:
    files = papers.convert(name, original, original / "data", 10)
    overrides = [f"data.{key}={path}" for key, path in files.items()]
    task = Task.checked(load_pipeline(ROOT / "pipelines" / "paper" / f"{name}.yaml", [*overrides, "model=embedded"]))

    assert {*Counter(example.label for example in task.train)} == {*range(len(task.labels))}
    assert not task.notes
    if not papers.TASKS[name].train.startswith("FewGLUE"):
        counts = Counter(example.label for example in task.train).values()
        assert len(task.train) == 10 and max(counts) - min(counts) <= 1
        texts = [{tuple(example.fields.items()) for example in task.rows(part)} for part in ("train", "unlabeled")]
        assert not texts[0] & texts[1]


def test_answers_of_multirc_become_rows(original: Path) -> None:
    files = papers.convert("multirc", original, original / "data", 32)
    rows = [json.loads(line) for line in files["test"].read_text().splitlines()]

    assert [(row["question_id"], row["answer"], row["label"]) for row in rows] == [
        ("7-0", "Ann", 1), ("7-0", "Bob", 0), ("7-0", "Ann does", 1), ("7-1", "Ann", 0), ("7-1", "Bob", 1),
    ]  # fmt: skip


def test_cells_of_csv_files_are_texts_again(original: Path) -> None:
    (first, *_) = papers.news(original / "ag_news_csv" / "train.csv")
    answered = [*papers.questions(original / "yahoo_answers_csv" / "train.csv")]

    assert first == {"text": "Head 0 Body\nof 0", "label": 0}
    assert answered[0] == {"question_title": "Title 0 More", "best_answer": "Answer 0", "topic": 0} and len(answered) == 59


def test_missing_file_is_named(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["papers.py", "boolq", "--data", str(here)])

    with pytest.raises(SystemExit, match=r"val\.jsonl: no such file"):
        papers.main()


def test_the_page_has_every_figure_and_recipe() -> None:
    page = (ROOT / "docs" / "papers.md").read_text()
    rows = {row[0]: row for line in page.splitlines() if (row := re.findall(r"\[(\w+)\]\(\.\./pipelines/paper/", line))}

    assert {*rows} == {path.stem for path in PAPER} == {*papers.TASKS}
    for name, task in papers.TASKS.items():
        (line,) = [line for line in page.splitlines() if f"[{name}](" in line]
        for method in ("PET", "iPET"):
            figures = [figure for (own, _), figure in task.published.items() if own == method]
            assert f"{method} {', '.join(figures)}" in line


@pytest.mark.slow
def test_one_command_runs_a_recipe(original: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    quick = ["model=embedded", "teachers.seeds=[1]", "teachers.steps=1", "student.steps=1", "max_length=40"]
    arguments = [part for override in quick for part in ("--set", override)]
    monkeypatch.setattr("sys.argv", ["papers.py", "multirc", "--data", str(original), *arguments])
    papers.main()

    assert re.search(r"multirc, PET, 32 labelled rows: [\d.]+ / [\d.]+ \(paper: 37.9 / 77.3\)", capsys.readouterr().out)
