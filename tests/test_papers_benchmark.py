"""Rows of the papers: the original files become the recipes' data, and one command runs a recipe on them."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from petkit import limits
from petkit.config.loader import load_pipeline
from petkit.task.task import Task
from tests.benchmark import benchmark
from tests.library import PAPER, ROOT

candidate_rows = benchmark("candidate_rows")  # papers imports it by this name
papers = benchmark("papers")

PASSAGE = {"idx": 7, "passage": {"text": "Ann has a cat. Bob has none.", "questions": [
    {"idx": 0, "question": "Who has a cat?", "answers": [
        {"idx": 0, "text": "Ann", "label": 1}, {"idx": 1, "text": "Bob", "label": 0}, {"idx": 2, "text": "Ann does", "label": 1},
    ]},
    {"idx": 1, "question": "Who has none?", "answers": [{"idx": 0, "text": "Ann", "label": 0}, {"idx": 1, "text": "Bob", "label": 1}]},
]}}  # fmt: skip
TEXT = "Ann Lee flew to Rome.\n@highlight\nAnn is back"


def place(text: str, entity: str) -> dict[str, int]:
    """Return an entity as ReCoRD has it: at its last mention, with the end included."""
    start = text.rindex(entity)
    return {"start": start, "end": start + len(entity) - 1}


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
    "COPA": [
        {"premise": "The ground shook.", "choice1": "A lorry went by.", "choice2": "It snowed!", "question": "cause", "label": 0, "idx": 0},
        {"premise": "He ate too much.", "choice1": "He sang.", "choice2": "He felt ill.", "question": "effect", "label": 1, "idx": 1},
    ],
    "WSC": [
        {"text": "The cup fell on Tom, and he cried.", "label": label, "idx": number, "target": {
            "span1_text": span, "span1_index": 0, "span2_text": "he", "span2_index": 6,
        }}
        for number, (span, label) in enumerate([("tom", True), ("The cup", False), ("Tom Miller", True)])
    ],
    "ReCoRD": [{"idx": 3, "passage": {"text": TEXT, "entities": [place(TEXT, "Ann Lee"), place(TEXT, "Ann"), place(TEXT, "Rome")]}, "qas": [
        {"idx": 0, "query": "@placeholder, a pilot, has left", "answers": [{"text": "Ann"}, {"text": "Ann Lee"}]},
        {"idx": 1, "query": "She flew over @placeholder", "answers": [{"text": "Rome"}]},
    ]}],
}  # fmt: skip


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
    overrides = [*papers.settings(name, files), "model=embedded"]
    task = Task.checked(load_pipeline(ROOT / "pipelines" / "paper" / f"{name}.yaml", overrides))

    if task.spec.verbalizer.candidates is None:
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


def rows_of(name: str, part: str, original: Path) -> list[dict[str, Any]]:
    """Return the rows of a converted file."""
    return [*papers.json_rows(papers.convert(name, original, original / "data", 32)[part])]


def test_choices_of_copa_go_on_from_the_connective(original: Path) -> None:
    shook = {
        "premise": "The ground shook",
        "connective": "because",
        "choice1": "a lorry went by",
        "choice2": "it snowed",
        "label": 0,
    }
    ate = {"premise": "He ate too much,", "connective": "so", "choice1": "he sang", "choice2": "he felt ill", "label": 1}

    def exchanged(row: dict[str, Any]) -> dict[str, Any]:
        return row | {"choice1": row["choice2"], "choice2": row["choice1"], "label": 1 - row["label"]}

    assert rows_of("copa", "test", original) == [shook, ate]
    assert rows_of("copa", "train", original) == [shook, exchanged(shook), ate, exchanged(ate)]


def test_referents_of_wsc_are_spans_of_the_text(original: Path) -> None:
    options = [
        "The", "The cup", "The cup fell", "cup", "cup fell", "cup fell on", "fell", "fell on", "fell on Tom", "on", "on Tom",
        "on Tom, and", "Tom", "Tom, and", "and", "cried",
    ]  # fmt: skip
    asked = {"text": "The cup fell on Tom, and *he* cried.", "pronoun": "he", "options": options}

    assert rows_of("wsc", "test", original) == [
        asked | {"span": "tom", "is_referent": True},
        asked | {"span": "The cup", "is_referent": False},
        asked | {"span": "Tom Miller", "is_referent": True},
    ]
    # Rows whose span is not the referent teach nothing, and a span that is not in the text is added.
    assert rows_of("wsc", "train", original) == [
        asked | {"label": "Tom"},
        asked | {"options": [*options, "Tom Miller"], "label": "Tom Miller"},
    ]


@pytest.mark.parametrize(("words", "given", "found"), [("a he b", 1, 1), ("he a b", 1, 0), ("a b he", 1, 2), ("a he. b", 1, 1)])
def test_pronoun_is_found_next_to_its_number(words: str, given: int, found: int) -> None:
    assert candidate_rows.pronoun_place(words.split(), "he", given) == found


def test_pronoun_that_is_elsewhere_is_refused() -> None:
    with pytest.raises(ValueError, match="'he' is not word 0 of 'a b c he'"):
        candidate_rows.pronoun_place(["a", "b", "c", "he"], "he", 0)


def test_referents_of_a_long_text_are_the_first_ones() -> None:
    found = candidate_rows.spans([f"{letter}{other}" for letter in "abcdefghij" for other in "klmnopqrst"], 99, "jt")

    assert len(found) == limits.CANDIDATES and found[:4] == ["ak", "ak al", "ak al am", "al"]


def test_referents_are_compared_as_the_authors_do() -> None:
    rows = [{"span": "the big trophy", "is_referent": True}] * 2 + [{"span": "Tom", "is_referent": False}] * 2

    assert papers.right_referents(rows, ["trophy", "suitcase", "Ann", "Tom Miller's"]) == 0.5


def test_queries_of_record_have_a_row_for_each_answer(original: Path) -> None:
    body = "Ann Lee flew to Rome. - Ann is"
    first = {"passage": body, "before": "back", "rest": ", a pilot, has left"}
    second = {"passage": body, "before": "back She flew over", "rest": "."}
    everyone = ["Ann Lee", "Ann", "Rome"]

    assert rows_of("record", "test", original) == [
        first | {"options": everyone, "label": ["Ann Lee", "Ann"]},
        second | {"options": everyone, "label": ["Rome"]},
    ]
    assert rows_of("record", "train", original) == [
        first | {"options": ["Ann", "Rome"], "label": "Ann"},
        first | {"options": ["Ann Lee", "Rome"], "label": "Ann Lee"},
        second | {"options": everyone, "label": "Rome"},
    ]


def test_training_rows_of_record_have_ten_candidates(here: Path) -> None:
    names = [f"N{number:02}" for number in range(30)]
    text = " ".join(names)
    query = {"query": "who is @placeholder ?", "answers": [{"text": "N20"}]}
    lines(here / "train.jsonl", [{"passage": {"text": text, "entities": [place(text, name) for name in names]}, "qas": [query]}])
    (row,) = candidate_rows.entities(here / "train.jsonl")

    assert len(row["options"]) == 10 and row["label"] == "N20" in row["options"] == sorted(row["options"])


@pytest.mark.parametrize("name", papers.WITHOUT_STUDENT)
def test_tasks_without_ipet_refuse_it(name: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["papers.py", name, "--data", str(here), "--ipet"])

    with pytest.raises(SystemExit, match="2"):
        papers.main()


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
@pytest.mark.parametrize(
    ("name", "published"),
    [("multirc", "37.9 / 77.3"), ("copa", "95.0"), ("wsc", "80.1"), ("record", "86.0 / 86.5")],
)
def test_one_command_runs_a_recipe(
    name: str, published: str, original: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = ["model=embedded", "teachers.seeds=[1]", "teachers.steps=1", "student.steps=1", "max_length=80"]
    arguments = [part for override in quick for part in ("--set", override)]
    monkeypatch.setattr("sys.argv", ["papers.py", name, "--data", str(original), *arguments])
    papers.main()

    own = r" / ".join([r"[\d.]+"] * len(published.split(" / ")))
    assert re.search(rf"{name}, PET, 32 labelled rows: {own} \(paper: {published}\)", capsys.readouterr().out)
