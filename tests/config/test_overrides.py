"""``--set key.path=value``: types, places and paths."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.config.pipelines import PIPELINE, loaded, mistakes, with_lines, write


@pytest.mark.parametrize(
    ("override", "section", "key", "value"),
    [
        ("teachers.steps=5", "teachers", "steps", 5),
        ("teachers.learning_rate=1e-3", "teachers", "learning_rate", 1e-3),
        ("teachers.learning_rate=1", "teachers", "learning_rate", 1.0),
        ("teachers.seeds=[7, 8]", "teachers", "seeds", (7, 8)),
        ("student.steps = 9", "student", "steps", 9),
        ("data.test=hf://ag_news/test", "data", "test", "hf://ag_news/test"),
        ("data.test=", "data", "test", None),
        ("data.columns.text=007", "data", "columns", {"text": "007"}),
        ("data.columns.label=1", "data", "columns", {"label": "1"}),
        ("data.columns={text: no}", "data", "columns", {"text": "no"}),
        ("data.label_names=[0, 1]", "data", "label_names", ("0", "1")),
        ("compute={threads: 2}", "compute", "threads", 2),
    ],
)
def test_value(here: Path, override: str, section: str, key: str, value: object) -> None:
    assert getattr(getattr(loaded(write(here), override), section), key) == value


@pytest.mark.parametrize(("override", "task"), [("task=007", "007"), ("task=no", "no"), ("task=a=b", None)])
def test_task_is_text(here: Path, override: str, task: str | None) -> None:
    path = write(here)

    if task is None:
        (reported,) = mistakes(path, override)
        assert "not 'a=b'" in reported
    else:
        assert loaded(path, override).task == task


def test_last_override_wins(here: Path) -> None:
    assert loaded(write(here), "teachers.steps=5", "teachers.steps=6").teachers.steps == 6


def test_other_values_of_a_section_stay(here: Path) -> None:
    assert loaded(write(here), "teachers.steps=5").teachers.learning_rate == 1e-5


@pytest.mark.parametrize(
    ("override", "reported"),
    [
        ("teachers.stepz=5", "--set teachers.stepz=5: teachers.stepz: unknown key (did you mean 'steps'?)"),
        ("teecher.steps=5", "--set teecher.steps=5: teecher: unknown key (did you mean 'teachers'?)"),
        ("teachers.steps=many", "--set teachers.steps=many: teachers.steps: must be a whole number, not 'many'"),
        ("teachers.steps=1.0", "--set teachers.steps=1.0: teachers.steps: must be a whole number, not 1.0"),
        ("teachers.steps=", "--set teachers.steps=: teachers.steps: must be a whole number, not null"),
        ("task.name=x", "--set task.name=x: task: is not a mapping, so --set cannot set keys below it"),
        ("patterns.0.id=x", "--set patterns.0.id=x: patterns: is not a mapping, so --set cannot set keys below it"),
        ("teachers", "--set teachers: write --set key.path=value"),
        ("=5", "--set =5: write --set key.path=value"),
        ("teachers..steps=5", "--set teachers..steps=5: write --set key.path=value"),
        ("teachers.steps=[1", "--set teachers.steps=[1: not valid YAML: expected ',' or ']', but got '<stream end>'"),
        ("teachers={a: 1, a: 2}", "--set teachers={a: 1, a: 2}: key 'a' is written twice (first on line 1)"),
        ("verbalizer=nowhere.yaml", "--set verbalizer=nowhere.yaml: verbalizer: nowhere.yaml: no such file"),
        ("patterns=nowhere.yaml", "--set patterns=nowhere.yaml: patterns: nowhere.yaml: no such file"),
    ],
)
def test_mistake_is_reported_at_the_override(here: Path, override: str, reported: str) -> None:
    assert mistakes(write(here), override) == [reported]


def test_several_overrides_are_reported_at_once(here: Path) -> None:
    reported = mistakes(write(here), "teachers.steps=0", "student.steps=x", "oops")

    assert len(reported) == 3


@pytest.mark.parametrize(
    "override",
    ["data.train=here.jsonl", "data={train: here.jsonl, unlabeled: u.jsonl}", "data.train=./sub/../here.jsonl"],
)
def test_paths_are_relative_to_the_current_folder(here: Path, override: str) -> None:
    assert loaded(write(here), override).data.train == str(here / "here.jsonl")


@pytest.mark.parametrize("override", ["student.model=./small", "student={model: ./small}", "student.model=small"])
def test_model_folders_are_relative_to_the_current_folder(here: Path, override: str) -> None:
    (here / "small").mkdir()

    assert loaded(write(here), override).student_model == str(here / "small")


def test_pattern_and_verbalizer_files_are_relative_to_the_current_folder(here: Path) -> None:
    path = write(here)
    (here / "p.yaml").write_text('patterns: [{id: mine, text: "{text} {mask}"}]')
    (here / "v.yaml").write_text("labels: {a: [x], b: [y]}")
    spec = loaded(path, "patterns=p.yaml", "verbalizer=v.yaml")

    assert [pattern.id for pattern in spec.patterns] == ["mine"]
    assert spec.labels == ("a", "b")


def test_settings_below_a_verbalizer_that_is_a_file(here: Path) -> None:
    """As written in the pipeline or in an earlier ``--set``; mistakes are placed where they were written."""
    path = write(here)
    labels = loaded(path).labels
    spec = loaded(path, "verbalizer.kind=soft")
    assert (spec.verbalizer.kind, spec.labels) == ("soft", labels)

    (here / "v.yaml").write_text("labels: {a: [x], b: [y]}\nkind: soft\n")
    spec = loaded(path, "verbalizer=v.yaml", "verbalizer.kind=words", "verbalizer.labels.a=[z]")
    assert (spec.verbalizer.kind, spec.verbalizer.labels) == ("words", {"a": ("z",), "b": ("y",)})
    assert mistakes(path, "verbalizer=v.yaml", "verbalizer.multi_token=true") == [
        "v.yaml:2: verbalizer.kind: a label vector answers at one mask, and words of several tokens need several (choose one)"
    ]
    assert mistakes(path, "verbalizer=nowhere.yaml", "verbalizer.kind=soft") == [
        "--set verbalizer=nowhere.yaml: verbalizer: nowhere.yaml: no such file"
    ]


def test_section_that_the_file_leaves_empty_can_be_set(here: Path) -> None:
    path = write(here, with_lines("student:"))

    assert loaded(path, "student.steps=3").student.steps == 3


def test_replaced_section_forgets_its_old_lines(here: Path) -> None:
    reported = mistakes(write(here), "teachers={seeds: [x]}")

    assert reported == ["--set teachers={seeds: [x]}: teachers.seeds.0: must be a whole number, not 'x'"]


def test_inline_patterns_can_replace_a_file(here: Path) -> None:
    path = write(here, PIPELINE, patterns=None)

    assert loaded(path, 'patterns=[{id: "1", text: "{mask} {text}"}]').patterns[0].id == "1"
