"""What single values cannot show: which settings exclude each other, each reported at its own place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from petkit.config.rules import in_pipeline, in_training, in_verbalizer
from petkit.config.schema.pipeline import DataSpec, PatternSpec, PipelineSpec, VerbalizerSpec
from petkit.config.schema.training import QuestionWords, StudentSpec, TeachersSpec
from tests.config.pipelines import PIPELINE, VERBALIZER, loaded, mistakes, write

HEAD = PIPELINE[: PIPELINE.index("teachers:")]  # six lines
UNLABELLED = HEAD.replace("  train: data/train.jsonl\n", "")  # five
NEEDS_ROWS = "needs labelled rows, and data.train names none"
SINGLE = "is about one label per row, and label_kind is multi"
CHANGED = "changes the cross-entropy, and loss is"


@pytest.mark.parametrize(
    ("verbalizer", "reported"),
    [
        ({"labels": {"A": ("a",), "B": ("b",)}}, []),
        ({"labels": {"A": ("a",), "B": ("b",)}, "multi_token": True, "decoding": "max_first"}, []),
        ({"labels": {"A": ("a",), "B": ("b",)}, "kind": "soft"}, []),
        ({"auto": {}}, []),
        ({"auto": {}, "labels": {"A": (), "B": ()}}, []),  # labels without words: their order
        ({}, [("labels", "names no labels (write each label with its words, or auto to have words found)")]),
        ({"labels": {}}, [("labels", "names no labels (write each label with its words, or auto to have words found)")]),
        (
            {"auto": {}, "labels": {"A": ("a",), "B": ()}},
            [("auto", "words are named already; auto would find others (remove the words or auto)")],
        ),
        ({"auto": {}, "multi_token": True}, [("multi_token", "auto finds words of one token only")]),
        (
            {"labels": {"A": ("a",), "B": ("b",)}, "multi_token": True, "kind": "prototype"},
            [("kind", "a label vector answers at one mask, and words of several tokens need several (choose one)")],
        ),
        (
            {"labels": {"A": ("a",), "B": ("b",)}, "decoding": "max_first"},
            [("decoding", "is for words of several tokens (set multi_token: true)")],
        ),
        (
            {"labels": {"A": ("a",), "B": ("b",)}, "decoding": "max_first", "multi_token": False},
            [("decoding", "is for words of several tokens (set multi_token: true)")],
        ),
    ],
)
def test_verbalizer(verbalizer: dict[str, Any], reported: list[tuple[str, str]]) -> None:
    assert in_verbalizer(verbalizer) == [((place,), message) for place, message in reported]


@pytest.mark.parametrize(
    ("settings", "reported"),
    [
        ({"r_drop_weight": 1.0, "dropout": 0.1}, {}),
        ({"r_drop_weight": 0.0, "dropout": 0.0}, {}),
        ({"r_drop_weight": 1}, {"r_drop_weight": "compares two dropout passes, and dropout is 0 (set dropout: 0.1)"}),
        (
            {"r_drop_weight": 0.5, "dropout": 0.0},
            {"r_drop_weight": "compares two dropout passes, and dropout is 0 (set dropout: 0.1)"},
        ),
        ({"loss": "cross_entropy", "label_smoothing": 0.1, "focal_gamma": 2.0, "class_weights": "balanced"}, {}),
        ({"loss": "hinge", "label_smoothing": 0.0, "focal_gamma": 0, "class_weights": "none"}, {}),
        ({"loss": "hinge", "label_smoothing": 0.1}, {"label_smoothing": f"{CHANGED} hinge"}),
        (
            {"loss": "decoupled_label", "focal_gamma": 2, "class_weights": "balanced"},
            {"focal_gamma": f"{CHANGED} decoupled_label", "class_weights": f"{CHANGED} decoupled_label"},
        ),
    ],
)
def test_training(settings: dict[str, Any], reported: dict[str, str]) -> None:
    assert in_training(settings) == [((key,), message) for key, message in reported.items()]


@pytest.mark.parametrize(
    ("line", "reported"),
    [
        ("soft_labels: {weighting: train_accuracy}", f"soft_labels.weighting: train_accuracy {NEEDS_ROWS}"),
        ("soft_labels: {weighting: out_of_fold}", f"soft_labels.weighting: out_of_fold {NEEDS_ROWS}"),
        ("soft_labels: {teacher_temperature: out_of_fold}", f"soft_labels.teacher_temperature: out_of_fold {NEEDS_ROWS}"),
        ("soft_labels: {prior: train}", f"soft_labels.prior: train {NEEDS_ROWS}"),
        ("demonstrations: {per_label: 1}", f"demonstrations.per_label: {NEEDS_ROWS}"),
        ("baselines: [zero_shot, supervised]", f"baselines: supervised {NEEDS_ROWS}"),
        ("baselines: [majority]", f"baselines: majority {NEEDS_ROWS}"),
    ],
)
def test_what_needs_labelled_rows(here: Path, line: str, reported: str) -> None:
    assert mistakes(write(here, f"{UNLABELLED}{line}\n")) == [f"pipelines/news.yaml:6: {reported}"]
    assert mistakes(write(here, f"{HEAD}{line}\n"), "data.train=") == [f"pipelines/news.yaml:7: {reported}"]
    loaded(write(here, f"{HEAD}{line}\n"))


def test_auto_needs_labelled_rows(here: Path) -> None:
    path = write(here, UNLABELLED, verbalizer="auto: {per_label: 2}\n")

    assert mistakes(path) == [f"verbalizers/news.yaml:1: verbalizer.auto: {NEEDS_ROWS}"]


@pytest.mark.parametrize(
    "line", ["soft_labels: {prior: uniform, weighting: uniform}", "demonstrations: {per_label: 0}", "baselines: [zero_shot]"]
)
def test_what_needs_none(here: Path, line: str) -> None:
    assert loaded(write(here, f"{UNLABELLED}{line}\n")).data.train is None


@pytest.mark.parametrize(
    ("line", "reported"),
    [
        ("generations: {count: 1}", f"generations.count: {SINGLE} (iPET draws rows by label)"),
        ("generations: {count: auto}", f"generations.count: {SINGLE} (iPET draws rows by label)"),
        ("teachers: {loss: hinge}", f"teachers.loss: hinge {SINGLE}"),
        ("demonstrations: {per_label: 1}", f"demonstrations.per_label: {SINGLE}"),
    ],
)
def test_what_is_about_one_label_per_row(here: Path, line: str, reported: str) -> None:
    assert mistakes(write(here, f"{HEAD}label_kind: multi\n{line}\n")) == [f"pipelines/news.yaml:8: {reported}"]
    loaded(write(here, f"{HEAD}label_kind: ordinal\n{line}\n"))


def test_auto_is_about_one_label_per_row(here: Path) -> None:
    path = write(here, f"{HEAD}label_kind: multi\n", verbalizer="auto: {}\n")

    assert mistakes(path) == [f"verbalizers/news.yaml:1: verbalizer.auto: {SINGLE}"]


@pytest.mark.parametrize(
    ("written", "reported"),
    [
        ("0.3", ["student.thresholds: the most probable label wins; thresholds are for label_kind: multi"]),
        ("0", ["student.thresholds: the most probable label wins; thresholds are for label_kind: multi"]),
        ("{World: 0.3}", ["student.thresholds: the most probable label wins; thresholds are for label_kind: multi"]),
        ("0.5", []),
    ],
)
def test_thresholds_are_for_many_labels(here: Path, written: str, reported: list[str]) -> None:
    path = write(here, f"{HEAD}student: {{thresholds: {written}}}\n")

    if reported:
        assert mistakes(path) == [f"pipelines/news.yaml:7: {line}" for line in reported]
    else:
        loaded(path)
    assert loaded(path, "label_kind=multi").label_kind == "multi"


def test_threshold_of_an_unknown_label(here: Path) -> None:
    path = write(here, f"{HEAD}label_kind: multi\nstudent:\n  thresholds:\n    World: 0.3\n    Word: 0.3\n")

    assert mistakes(path) == [
        "pipelines/news.yaml:11: student.thresholds.Word: label 'Word' is not in the verbalizer (did you mean 'World'?)"
    ]


def test_thresholds_in_the_order_of_the_labels(here: Path) -> None:
    path = write(here, f"{HEAD}label_kind: multi\nstudent: {{thresholds: {{Sports: 0.3}}}}\n")

    assert list(map(loaded(path).student.threshold, loaded(path).labels)) == [0.5, 0.3]
    assert list(map(loaded(path, "student.thresholds=0.2").student.threshold, loaded(path).labels)) == [0.2, 0.2]


def test_label_that_holds_the_separator(here: Path) -> None:
    verbalizer = VERBALIZER.replace("World", "World|Asia")
    reported = "verbalizers/news.yaml:2: label 'World|Asia' contains '{}', which separates labels (set data.label_separator)"

    assert mistakes(write(here, f"{HEAD}label_kind: multi\n", verbalizer=verbalizer)) == [reported.format("|")]
    assert mistakes(write(here, f"{HEAD}label_kind: multi\n", verbalizer=verbalizer), "data.label_separator=d|A") == [
        reported.format("d|A")
    ]
    loaded(write(here, f"{HEAD}label_kind: multi\n", verbalizer=verbalizer), "data.label_separator=;")
    loaded(write(here, HEAD, verbalizer=verbalizer))


@pytest.mark.parametrize(
    ("line", "reported"),
    [
        ("keep_patterns: 3", "keep_patterns: keeps 3 of 2 patterns (say all, or a smaller number)"),
        ("teachers: {consistency: {kind: second_pattern}}", ""),
        ("keep_patterns: 2", ""),
        ("keep_patterns: all", ""),
    ],
)
def test_number_of_patterns(here: Path, line: str, reported: str) -> None:
    path = write(here, f"{HEAD}{line}\n")

    if reported:
        assert mistakes(path) == [f"pipelines/news.yaml:7: {reported}"]
    else:
        loaded(path)


def test_second_pattern_needs_two(here: Path) -> None:
    path = write(here, f"{HEAD}teachers: {{consistency: {{kind: second_pattern}}}}\n")
    reported = mistakes(path, 'patterns=[{id: one, text: "{mask} {text}"}]')

    assert reported == ["pipelines/news.yaml:7: teachers.consistency.kind: second_pattern needs two patterns"]


@pytest.mark.parametrize("change", ["label_smoothing: 0.1", "focal_gamma: 2", "class_weights: balanced"])
def test_what_changes_the_gold_label_loss_needs_one(here: Path, change: str) -> None:
    path = write(here, f"{HEAD}student: {{{change}}}\n")
    key = change.split(":")[0]

    why = "changes the loss on labelled rows, and hard_weight is 0 (set hard_weight: 0.2)"
    assert mistakes(path) == [f"pipelines/news.yaml:7: student.{key}: {why}"]
    loaded(path, "student.hard_weight=0.1")


def test_rules_of_one_section_are_reported_beside_wrong_values_of_it(here: Path) -> None:
    reported = mistakes(write(here, f"{HEAD}teachers: {{r_drop_weight: 1, steps: 0}}\n"))

    assert sorted(reported) == [
        "pipelines/news.yaml:7: teachers.r_drop_weight: compares two dropout passes, and dropout is 0 (set dropout: 0.1)",
        "pipelines/news.yaml:7: teachers.steps: must be greater than or equal to 1, not 0",
    ]


def test_a_rule_that_a_value_breaks_together_with_a_default(here: Path) -> None:
    reported = mistakes(write(here, f"{HEAD}pretrain_prompt: {{words: {{next: 'no'}}}}\nteachers: {{steps: 0}}\n"))

    assert reported == [
        "pipelines/news.yaml:7: pretrain_prompt.words.other_text: 'no' is also the word of next",
        "pipelines/news.yaml:8: teachers.steps: must be greater than or equal to 1, not 0",
    ]


@pytest.mark.parametrize(
    "data",
    [
        {"data": {"unlabeled": "u"}, "baselines": 5, "soft_labels": 5, "demonstrations": {"per_label": "x"}},
        {"data": {"unlabeled": "u"}, "baselines": "supervised", "soft_labels": {"prior": ("train",)}},
        {"data": 5, "student": {"thresholds": "high"}, "verbalizer": {"labels": ("A",)}},
        {"label_kind": "multi", "verbalizer": {"labels": ("A|B",)}, "generations": {"count": "many"}, "teachers": 5},
        {
            "label_kind": "multi",
            "data": {"train": "t", "label_separator": 5},
            "verbalizer": {"labels": {"A|B": ("a",), "C": ("c",)}},
        },
        {"keep_patterns": "some", "patterns": 5, "teachers": {"consistency": 5}},
    ],
)
def test_values_of_a_wrong_type_are_passed_over(data: dict[str, Any]) -> None:
    assert in_pipeline(data) == []


@pytest.mark.parametrize(
    "data",
    [
        {"verbalizer": {"labels": 5, "multi_token": "yes", "auto": None}},
        {"teachers": {"r_drop_weight": "x", "loss": 5, "seeds": 5}, "student": {"dropout": None}},
        {"pretrain_prompt": {"words": {"next": 5, "other_text": 5}}, "teachers": {"adapter": 5}},
        {"pretrain_prompt": {"words": 5}, "student": {"adapter": {"start": 5}}},
    ],
)
def test_sections_of_wrong_types_are_passed_over(data: dict[str, Any]) -> None:
    assert in_pipeline(data) == []


@pytest.mark.parametrize(
    ("make", "reported"),
    [
        (lambda: VerbalizerSpec(), "names no labels"),
        (lambda: VerbalizerSpec(labels={"A": ("a",), "B": ("b",)}, decoding="max_first"), "set multi_token: true"),
        (lambda: TeachersSpec(loss="hinge", focal_gamma=2.0), "loss is hinge"),
        (lambda: StudentSpec(r_drop_weight=1.0), "dropout is 0"),
        (lambda: QuestionWords(next="no"), "'no' is also the word of next"),
        (
            lambda: PipelineSpec(
                task="news",
                data=DataSpec(unlabeled="u"),
                patterns=(PatternSpec(id="p", text="{mask} {text}"),),
                verbalizer=VerbalizerSpec(labels={"A": ("a",), "B": ("b",)}),
                keep_patterns=2,
            ),
            "keeps 2 of 1 patterns",
        ),
    ],
)
def test_rules_hold_for_specifications_made_in_python(make: Any, reported: str) -> None:
    with pytest.raises(ValidationError) as caught:
        make()

    assert reported in str(caught.value)
