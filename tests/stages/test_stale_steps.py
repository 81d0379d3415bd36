"""What a setting makes stale, what is refused then, and what is redone by force."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from petkit.errors import IncompleteRun, InvalidInput, RunConflict
from petkit.events import Event, Notice
from petkit.stages.pipeline import dry_run, prepare
from tests.tiny_task import STEPS, load, planned, products, rows, run_task, write_rows, write_task

Folder = Callable[[str], Path]
TEACHERS = tuple(step for step in STEPS if step.startswith("stage_a"))
ONE_TEACHER = ("teachers.seeds=[1]", "patterns=[{id: colon, text: '{mask} news: {text}'}]")
AFTER_TEACHERS = ("stage_b", "stage_c/model", "evaluation")


def test_plan_of_an_empty_and_of_a_finished_run(pipeline_file: Path, finished: Path, here: Path) -> None:
    empty = planned(pipeline_file, here / "none")
    assert tuple(empty) == STEPS and not (here / "none").exists()
    assert {entry.action for entry in empty.values()} == {"run"}
    assert {entry.why for entry in empty.values()} == {"not done yet"}
    assert {(entry.action, entry.why) for entry in planned(pipeline_file, finished).values()} == {("skip", "finished")}


STALE = [
    ("teachers.steps=41", TEACHERS[::2], "stale: teachers.steps 40 → 41"),
    ("max_length=20", (*TEACHERS[::2], "stage_c/model"), "stale: max_length 32 → 20"),
    ("truncate=head", (*TEACHERS[::2], "stage_c/model"), "stale: truncate tail → head"),
    ("verbalizer.labels.World=[movie]", TEACHERS[::2], "stale: verbalizer changed"),
    (
        "patterns=[{id: colon, text: '{mask}: {text}'}, {id: brackets, text: '( {mask} ) {text}'}]",
        TEACHERS[:4:2],
        'stale: pattern ["{mask} news: {text}"] → ["{mask}: {text}"]',
    ),
    ("soft_labels.temperature=1", ("stage_b", "stage_c/model"), ("soft_labels.temperature 2.0 → 1.0", "student.temperature")),
    ("soft_labels.combine=probs", ("stage_b",), "stale: soft_labels.combine logits → probs"),
    ("student.temperature=3", ("stage_c/model",), "stale: student.temperature 2.0 → 3.0"),
    ("student.hard_weight=0", ("stage_c/model",), "stale: student.hard_weight 0.2 → 0.0"),
    ("compute.precision=bfloat16", (*TEACHERS, "stage_c/model", "evaluation"), "stale: precision float32 → bfloat16"),
]


@pytest.mark.parametrize(("override", "stale", "why"), STALE, ids=[case[0] for case in STALE])
def test_plan_says_what_a_setting_makes_stale(
    override: str, stale: tuple[str, ...], why: str | tuple[str, ...], pipeline_file: Path, finished: Path
) -> None:
    plan = planned(pipeline_file, finished, override)
    assert [step for step, entry in plan.items() if entry.action == "stale"] == list(stale)
    for step in stale:
        assert any(part in plan[step].why for part in ((why,) if isinstance(why, str) else why)), plan[step].why
    first = STEPS.index(stale[0])
    assert all(plan[step].action == "skip" for step in STEPS[:first])
    assert plan["evaluation"].action in ("run", "stale")  # it reads everything


@pytest.mark.parametrize(
    "override",
    [
        "compute.tokens_per_batch=64",
        "compute.threads=2",
        "compute.precision=auto",
        "task=renamed",
        "teachers.seeds=[1, 2]",
    ],
)
def test_settings_that_change_no_result_make_nothing_stale(override: str, pipeline_file: Path, finished: Path) -> None:
    assert {entry.action for entry in planned(pipeline_file, finished, override).values()} == {"skip"}


def test_names_of_files_and_columns_do_not_count_but_their_content_does(finished: Path, model_folder: Folder, here: Path) -> None:
    pipeline_file = write_task(here / "elsewhere", model_folder("bert"))
    folder = pipeline_file.parent
    (folder / "train.jsonl").rename(folder / "few.jsonl")
    write_rows(folder / "unlabeled.jsonl", [{"body": row["text"], "id": row["id"]} for row in rows(30, 30)])
    write_rows(folder / "few.jsonl", [{"body": row["text"], "label": row["label"]} for row in rows(9, 9)])
    write_rows(folder / "test.jsonl", [{"body": row["text"], "label": row["label"]} for row in rows(15, 15)])
    overrides = (f"data.train={folder / 'few.jsonl'}", "data.columns={text: body}")
    assert {entry.action for entry in planned(pipeline_file, finished, *overrides).values()} == {"skip"}
    write_rows(folder / "unlabeled.jsonl", [{"body": row["text"]} for row in rows(31, 30)])
    plan = planned(pipeline_file, finished, *overrides)
    stale = [step for step, entry in plan.items() if entry.action == "stale"]
    assert stale == [*TEACHERS[1::2], "stage_b", "stage_c/model", "evaluation"]
    assert plan["stage_b"].why == "stale: data.unlabeled changed"


# -- changed settings --------------------------------------------------------------------------------


def test_changed_setting_is_refused_and_nothing_is_touched(pipeline_file: Path, copy: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
    with pytest.raises(RunConflict) as refused:
        run_task(pipeline_file, copy, "student.steps=41")
    assert str(refused.value).splitlines() == [
        "run: made with other settings:",
        "  stage_c/model: stale: student.steps 40 → 41",
        "(--force redoes and replaces these steps; --out FOLDER starts a new run and keeps them)",
    ]
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*")} == before


def test_force_stale_redoes_what_depends_on_the_setting_and_no_more(pipeline_file: Path, copy: Path) -> None:
    before = products(copy, "stage_a")
    result = run_task(pipeline_file, copy, "soft_labels.combine=probs", force="stale")
    assert result.ran == AFTER_TEACHERS and products(copy, "stage_a") == before
    assert run_task(pipeline_file, copy, "soft_labels.combine=probs").ran == ()
    assert run_task(pipeline_file, copy, force="stale").ran == AFTER_TEACHERS  # and back


@pytest.mark.parametrize(
    ("force", "ran"),
    [("a", TEACHERS), ("b", ("stage_b",)), ("c", ("stage_c/model",)), ("evaluation", ("evaluation",)), ("all", STEPS)],
)
def test_forced_steps_are_redone_and_come_out_the_same(force: str, ran: tuple[str, ...], pipeline_file: Path, copy: Path) -> None:
    """What follows is left alone, because its inputs did not change."""
    before = products(copy)
    assert run_task(pipeline_file, copy, force=force).ran == ran
    assert products(copy) == before


def test_adding_a_seed_leaves_the_other_teachers_alone(pipeline_file: Path, copy: Path) -> None:
    before = products(copy, "stage_a")
    times = {name: (copy / name).stat().st_mtime_ns for name in before}
    with pytest.raises(RunConflict, match="stage_b: stale: stage_a/colon-3/logits added"):
        run_task(pipeline_file, copy, "teachers.seeds=[1, 2, 3]")
    result = run_task(pipeline_file, copy, "teachers.seeds=[1, 2, 3]", force="stale")
    new = [f"stage_a/{name}-3/{part}" for name in ("colon", "brackets") for part in ("model", "logits")]
    assert result.ran == (*new, *AFTER_TEACHERS)
    assert {name: content for name, content in products(copy, "stage_a").items() if name in before} == before
    assert {name: (copy / name).stat().st_mtime_ns for name in before} == times
    assert len(json.loads((copy / "stage_b" / "ensemble.json").read_text())["weights"]) == 6


def test_a_teacher_does_not_depend_on_the_others(pipeline_file: Path, here: Path) -> None:
    """Not even through the random numbers of dropout."""
    common = ("teachers.dropout=0.2", "teachers.steps=3")
    run_task(pipeline_file, here / "all", *common, stages=("a",))
    alone = ("teachers.seeds=[2]", "patterns=[{id: brackets, text: '( {mask} ) {text}'}]")
    run_task(pipeline_file, here / "one", *common, *alone, stages=("a",))
    name = "stage_a/brackets-2"
    assert products(here / "one", name) == products(here / "all", name)


def test_a_stage_refuses_to_read_what_other_settings_made(pipeline_file: Path, copy: Path) -> None:
    before = described(copy)
    for stages in (("b",), ("c",), ("b", "c"), ("evaluation",)):
        for force in (None, "stale", "b", "all"):
            with pytest.raises(RunConflict) as refused:
                run_task(pipeline_file, copy, "verbalizer.labels.World=[movie]", stages=stages, force=force)
            first, *steps, hint = str(refused.value).splitlines()
            assert first == "run: would read steps made with other settings:"
            assert steps[0] == "  stage_a/colon-1/model: stale: verbalizer changed"
            assert (
                hint
                == "(petkit run --force redoes them; --allow-stale reads them as they are, where rows and labels are the same)"
            )
    assert described(copy) == before


def test_a_stage_may_read_what_other_settings_made(pipeline_file: Path, copy: Path) -> None:
    heard: list[Event] = []
    result = run_task(pipeline_file, copy, "teachers.steps=41", stages=("b", "c"), on_event=heard.append, allow_stale=True)
    reported = [f"{event.step}: {event.message}" for event in heard if isinstance(event, Notice)]
    assert result.ran == ()
    assert reported == ["stage_a/colon-1/model: used as it is, though stale: teachers.steps 40 → 41, and 3 more"]
    models = [f"stage_a/{pattern}-{seed}/model" for pattern in ("colon", "brackets") for seed in (1, 2)]
    assert result.stale == dict.fromkeys(models, "stale: teachers.steps 40 → 41")
    planned = dry_run(prepare(load(pipeline_file, "teachers.steps=41"), copy, stages=("b",))).steps
    assert [(entry.step, entry.action) for entry in planned] == [*((name, "stale") for name in models), ("stage_b", "skip")]


# -- what the folder says of itself ------------------------------------------------------------------

REFUSED: list[tuple[tuple[str, ...], dict[str, Any], str]] = [
    (("soft_labels.min_probability=1",), {"stages": ("b",), "force": "b"}, "no unlabelled row reaches it"),
    (
        ("verbalizer.labels={World: [market], Sports: [game]}",),
        {"stages": ("c",), "allow_stale": True, "force": "c"},
        "for labels",
    ),
    (("student.steps=41",), {}, "made with other settings"),
    (("student.steps=41",), {"resume": "never"}, "already contains a run"),
]


@pytest.mark.parametrize(("overrides", "options", "why"), REFUSED, ids=[case[2] for case in REFUSED])
def test_what_is_refused_leaves_the_description_of_the_run(
    overrides: tuple[str, ...], options: dict[str, Any], why: str, pipeline_file: Path, copy: Path
) -> None:
    if "World" in overrides[0]:  # soft labels from elsewhere: the rows have two labels
        other = write_task(copy.parent / "other", Path(load(pipeline_file).spec.model))
        for name in ("train", "unlabeled", "test"):
            path = other.parent / f"{name}.jsonl"
            write_rows(path, [row for row in map(json.loads, path.read_text().splitlines()) if row["label"] != "Science"])
        pipeline_file = other
    before = described(copy)
    with pytest.raises((RunConflict, InvalidInput, IncompleteRun), match=why):
        run_task(pipeline_file, copy, *overrides, **options)
    assert described(copy) == before


def test_a_step_that_is_made_and_a_run_without_work_describe_the_folder(pipeline_file: Path, copy: Path) -> None:
    before = described(copy)
    run_task(pipeline_file, copy, "compute.checkpoint_minutes=7")  # changes no step
    assert described(copy)[1] != before[1]
    run_task(pipeline_file, copy, "student.steps=3", stages=("c",), force="stale")
    assert load(copy / "config.resolved.yaml").spec.student.steps == 3


def described(folder: Path) -> tuple[bytes, bytes]:
    """Return the files in which a run folder describes itself."""
    return (folder / "manifest.json").read_bytes(), (folder / "config.resolved.yaml").read_bytes()


# -- missing and damaged steps -----------------------------------------------------------------------
