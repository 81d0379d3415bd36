"""What ``petkit validate`` tells of a sound pipeline: counts, rendered patterns, label word tokens and doubts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from petkit.cli.console import show_check
from petkit.commands import validate
from petkit.commands.validate import Check, check_pipeline
from petkit.config.loader import load_pipeline
from tests.cli import project

Rows = Sequence[tuple[str, str]]
Checked = Callable[..., Check]


@pytest.fixture
def checked(here: Path, model_folder: Callable[[str], Path]) -> Checked:
    """``checked(train=[(text, label), …], …)`` checks the tiny project with other rows."""

    def check(
        train: Rows = project.TRAIN, unlabeled: Sequence[str] = project.UNLABELED, test: Rows = project.TEST, model: str = "bert"
    ) -> Check:
        files = {
            "train.jsonl": project.json_lines({"text": text, "label": label} for text, label in train),
            "unlabeled.jsonl": project.json_lines({"text": text} for text in unlabeled),
            "test.jsonl": project.json_lines({"text": text, "label": label} for text, label in test),
        }
        return check_pipeline(load_pipeline(project.write(here, model_folder(model), files)))

    return check


def test_counts(checked: Checked) -> None:
    check = checked()

    assert check.task == "tiny"
    assert check.rows == {"train": 4, "unlabeled": 5, "test": 3}
    assert check.label_counts == {"World": 2, "Sports": 2}
    assert (check.teachers, check.max_length) == (2, 32)
    assert check.warnings == ()


def test_rows_left_out_are_counted(checked: Checked) -> None:
    check = checked(unlabeled=[*project.UNLABELED, "", " "])

    note = "unlabeled.jsonl: 2 of 7 rows have no text and are left out (lines 6, 7; data.empty: refuse stops at them)"
    assert (check.rows["unlabeled"], check.warnings) == (5, (note,))


def test_patterns_on_a_real_row(checked: Checked) -> None:
    colon, brackets = checked().patterns

    assert (colon.id, brackets.id) == ("colon", "brackets")
    assert colon.rendered == ("[MASK]: the news of the world",)
    assert colon.tokens == "[CLS] [MASK] : the news of the world [SEP]"
    assert brackets.rendered == ("[ category: [MASK] ] the news of the world",)


@pytest.mark.parametrize(("model", "mask", "token"), [("bert", "[MASK]", "football"), ("roberta", "<mask>", "Ġfootball")])
def test_label_words_are_shown_as_tokens_in_place(model: str, mask: str, token: str, checked: Checked) -> None:
    brackets = checked(model=model).patterns[1]

    assert mask in brackets.rendered[0]
    assert [word.token for word in brackets.words["Sports"]][1] == token
    assert [word.written for word in brackets.words["Sports"]] == ["sports", "football"]
    assert len({word.token_ids for words in brackets.words.values() for word in words}) == 3


@pytest.mark.parametrize(("long", "share"), [(0, 0.0), (1, 0.2), (5, 1.0)])
def test_share_of_shortened_rows(long: int, share: float, checked: Checked) -> None:
    unlabeled = ["very " * 40] * long + ["a game"] * (5 - long)

    assert [view.cut_share for view in checked(unlabeled=unlabeled).patterns] == [share, share]


def test_a_row_that_just_fits_is_not_shortened(checked: Checked) -> None:
    # "[CLS] [MASK] : … [SEP]" takes 4 of 32 tokens, "[CLS] [ category : [MASK] ] … [SEP]" takes 7.
    colon, brackets = checked(unlabeled=["very " * 28, "very " * 25]).patterns

    assert (colon.cut_share, brackets.cut_share) == (0.0, 0.5)


@pytest.mark.parametrize(("late", "share"), [(5000, 0.0), (4999, 1 / 5000)])
def test_the_share_is_that_of_the_first_5000_rows(late: int, share: float, checked: Checked) -> None:
    check = checked(unlabeled=["a game"] * late + ["very " * 40] * 3)

    assert [view.cut_share for view in check.patterns] == [share, share]
    assert check.rows["unlabeled"] == late + 3


WORLD, SPORTS = project.TRAIN[0], project.TRAIN[2]


@pytest.mark.parametrize(
    ("rows", "reported"),
    [
        ({"train": [WORLD, SPORTS, WORLD]}, "train.jsonl: lines 1, 3 have the same text"),
        ({"train": [WORLD, SPORTS, ("The  NEWS of the world ", "World")]}, "train.jsonl: lines 1, 3 have the same text"),
        ({"train": [WORLD, SPORTS, (WORLD[0], "Sports")]}, "train.jsonl: lines 1, 3 have the same text under different labels"),
        (
            {"train": [WORLD, SPORTS, ("a", "World"), ("b", "World"), ("c", "World")]},
            "train.jsonl: the largest label has more than three times the rows of the smallest; the classifier will lean to it",
        ),
        ({"unlabeled": ["a", "b", "a", "A", "c"]}, "unlabeled.jsonl: 2 of 5 rows repeat an earlier row"),
        (
            {"test": [("a", "World"), (SPORTS[0].upper(), "Sports")]},
            "test.jsonl: 1 rows are also labelled rows of train (lines 2); their accuracy says nothing",
        ),
        (
            {"test": [("a", "World"), (project.UNLABELED[0], "World")]},
            "test.jsonl: 1 of 2 rows are also in the unlabelled set; use such figures with care",
        ),
        ({"test": [("a", "World"), ("a", "World")]}, "test.jsonl: lines 1, 2 have the same text"),
        ({"test": [("a", "World"), ("a", "Sports")]}, "test.jsonl: lines 1, 2 have the same text under different labels"),
    ],
    ids=[
        "duplicate", "duplicate but for case and space", "conflict", "unbalanced", "unlabelled repeats",
        "test in train", "test in unlabelled", "test duplicate", "test conflict",
    ],
)  # fmt: skip
def test_doubts(rows: dict[str, Rows], reported: str, checked: Checked) -> None:
    assert checked(**rows).warnings == (reported,)


@pytest.mark.parametrize("text", ["good {}", "สวัสดี {}"], ids=["emoji", "Thai and emoji"])
def test_texts_that_the_model_cannot_read(text: str, checked: Checked) -> None:
    texts = [text.format(sign) for sign in "😍🎉👍😡"]
    check = checked(unlabeled=texts, model="bert")

    read = check.legibility["unlabeled"]
    assert (read.unknown, read.rows, read.alike) == (4 * (1 + text.startswith("ส")), 4, 4)
    (warning,) = check.warnings
    assert warning.startswith(f"unlabeled.jsonl: {read.unknown} of 8 tokens (")
    assert warning.endswith("4 of 4 rows look to it like a row of another text (use a model of the texts' language)")
    assert (check.legibility["train"].unknown, check.legibility["test"].unknown, check.remarks) == (0, 0, ())


def test_a_few_unknown_tokens_are_no_doubt(checked: Checked) -> None:
    check = checked(unlabeled=["very good " * 12 + "😍", *project.UNLABELED])

    assert check.warnings == ()
    assert [remark.partition(" are ")[0] for remark in check.remarks] == ["unlabeled.jsonl: 1 of 40 tokens (2.5%)"]


def test_a_byte_level_tokenizer_knows_everything(checked: Checked) -> None:
    check = checked(unlabeled=["😍", "สวัสดี", "🎉"], model="roberta")

    assert (check.warnings, check.remarks) == ((), ())


def test_three_times_as_many_rows_are_no_doubt(checked: Checked) -> None:
    assert checked(train=[WORLD, SPORTS, ("a", "World"), ("b", "World")]).warnings == ()


@pytest.mark.parametrize(("many", "reported"), [(1, True), (2, False)])
def test_more_labels_than_cloze_questions_separate(
    many: int, reported: bool, checked: Checked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validate, "MANY_LABELS", many)
    hint = "(describe them (verbalizer.descriptions), compare with baselines: [probe, supervised])"
    warning = f"2 labels: cloze questions do not separate so many well from few rows per label {hint}"
    assert checked().warnings == ((warning,) if reported else ())


def test_shown_to_a_person(checked: Checked, capsys: pytest.CaptureFixture[str]) -> None:
    show_check(checked(unlabeled=["very " * 40, "[b]a[/b]", "a", "a"]))

    shown = capsys.readouterr().out
    for reported in (
        "tiny: 4 train, 4 unlabeled, 3 test; 2 teachers; 32 tokens per row\n",
        "pattern colon: 25.0% of the unlabelled rows are shortened\n  [MASK]: the news of the world\n",
        "warning: unlabeled.jsonl: 1 of 4 rows repeat an earlier row\n",
        "No mistakes found.\n",
    ):
        assert reported in shown
    assert [line.split()[:3] for line in shown.splitlines()[2:4]] == [["World", "2", "world"], ["Sports", "2", "sports"]]


def test_words_that_differ_between_patterns_are_shown(checked: Checked, capsys: pytest.CaptureFixture[str]) -> None:
    """At the start of a text RoBERTa's words have no leading space, inside a text they have one."""
    check = checked(model="roberta")

    show_check(check)

    assert check.patterns[0].words != check.patterns[1].words
    assert "  label words here: World: Ġworld; Sports: Ġsports, Ġfootball\n" in capsys.readouterr().out


SEVERAL = [
    {"text": "the news of the world", "label": ["World", "Sports"]},
    {"text": "a great game", "label": ["Sports"]},
    {"text": "the answer is no", "label": []},
]


def several(here: Path, model: Path, train: Sequence[Mapping[str, Any]], test: Sequence[Mapping[str, Any]] = SEVERAL) -> Check:
    """Check the tiny project with rows of several labels."""
    rows = {"train.jsonl": project.json_lines(train), "test.jsonl": project.json_lines(test)}
    return check_pipeline(load_pipeline(project.write(here, model, rows), ["label_kind=multi"]))


def test_rows_of_several_labels_are_counted_by_label(here: Path, model_folder: Callable[[str], Path]) -> None:
    check = several(here, model_folder("bert"), SEVERAL, SEVERAL[:1])

    assert check.label_counts == {"World": 1, "Sports": 2}
    assert [warning.split(": ")[1] for warning in check.warnings] == [
        "1 rows are also labelled rows of train (lines 1); their accuracy says nothing"
    ]


def test_rows_of_one_label_each_where_there_may_be_several(here: Path, model_folder: Callable[[str], Path]) -> None:
    rows = [{"text": f"{text} {label}", "label": [label]} for text in "abcde" for label in ("World", "Sports")]

    reported = "train.jsonl: every row has exactly one label; label_kind: single would separate the labels better"
    assert several(here, model_folder("bert"), rows, [{"text": "x", "label": []}]).warnings == (reported,)


def test_same_text_under_other_labels(here: Path, model_folder: Callable[[str], Path]) -> None:
    check = several(here, model_folder("bert"), [*SEVERAL, {**SEVERAL[2], "label": ["World"]}], [{"text": "x", "label": []}])

    assert check.warnings == ("train.jsonl: lines 3, 4 have the same text under different labels",)


def test_a_pipeline_without_labelled_rows(here: Path, model_folder: Callable[[str], Path]) -> None:
    check = check_pipeline(load_pipeline(project.write(here, model_folder("bert")), ["data.train=null"]))

    assert check.label_counts == {"World": 0, "Sports": 0}
    assert check.patterns[0].rendered == (f"[MASK]: {project.UNLABELED[0]}",)
    assert check.patterns[0].tokens == "[CLS] [MASK] : the market [SEP]"
    assert check.warnings == ()
