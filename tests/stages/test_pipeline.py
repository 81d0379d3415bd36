"""The spine from end to end: what runs, what is skipped, what is refused, and what lies in the run folder afterwards."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from petkit.errors import IncompleteRun, InvalidInput, RunConflict
from petkit.events import Event, Notice, Progress, StepFinished, StepSkipped, StepStarted
from petkit.stages.pipeline import dry_run, prepare
from petkit.storage.parquet_shards import read_matrix, read_shards
from petkit.teachers import scoring
from tests.tiny_run import FirstRun
from tests.tiny_task import STEPS, load, planned, products, rows, run_task, student_weights, write_rows, write_task

Folder = Callable[[str], Path]
TEACHERS = tuple(step for step in STEPS if step.startswith("stage_a"))
ONE_TEACHER = ("teachers.seeds=[1]", "patterns=[{id: colon, text: '{mask} news: {text}'}]")
AFTER_TEACHERS = ("stage_b", "stage_c/model", "evaluation")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


# -- one whole run -----------------------------------------------------------------------------------


def test_full_run_makes_every_step_in_order_and_tells_it(first_run: FirstRun) -> None:
    result, heard = first_run.result, first_run.heard
    assert result.ran == STEPS and result.student == result.folder / "stage_c" / "model"
    assert [event.step for event in heard if isinstance(event, StepStarted)] == list(STEPS)
    assert {event.why for event in heard if isinstance(event, StepStarted)} == {"not done yet"}
    for step in STEPS:
        last = [event for event in heard if isinstance(event, Progress) and event.step == step][-1]
        assert last.done == last.total, step
    facts = {event.step: event.facts for event in heard if isinstance(event, StepFinished)}
    assert facts["stage_b"]["rows"] == 30
    assert facts["stage_a/colon-1/model"]["last_loss"] < facts["stage_a/colon-1/model"]["first_loss"]  # type: ignore[operator]


def test_what_is_reported_is_kept_but_for_progress(first_run: FirstRun) -> None:
    reported = [json.loads(line) for line in (first_run.result.folder / "events.jsonl").read_text().splitlines()]
    heard = [type(event).__name__ for event in first_run.heard if not isinstance(event, Progress)]
    assert [entry["event"] for entry in reported] == heard
    assert Counter(heard) - Counter(["Notice"] * 9) == {"RunStarted": 1, "StepStarted": 11, "StepFinished": 11}


def test_the_task_is_learnt(first_run: FirstRun) -> None:
    """Chance is one in three."""
    metrics = first_run.result.metrics
    assert metrics is not None
    assert metrics["untrained_ensemble"]["accuracy"] < 0.5
    assert metrics["ensemble"]["accuracy"] > 0.7 and metrics["student"]["accuracy"] > 0.7


def test_run_folder_is_complete(pipeline_file: Path, finished: Path) -> None:
    assert not (finished / ".work").exists()
    for step in STEPS:
        assert read_json(finished / step / "step.json")["step"] == step
    manifest = read_json(finished / "manifest.json")
    assert manifest["task"] == "topics" and manifest["labels"] == ["Sports", "Science", "World"]
    assert manifest["arithmetic"] == {"device": "cpu", "precision": "float32", "threads": 1}
    resolved = yaml.safe_load((finished / "config.resolved.yaml").read_text())
    assert resolved["teachers"]["weight_decay"] == 0.01 and resolved["student"]["steps"] == 40
    assert load(finished / "config.resolved.yaml").spec == load(pipeline_file).spec


def test_teachers_of_a_pattern_differ_by_seed_alone(finished: Path) -> None:
    found = products(finished, "stage_a")
    weights = [found[f"stage_a/{name}/model/model.safetensors"] for name in ("colon-1", "colon-2", "brackets-1", "brackets-2")]
    assert len(set(weights)) == 4
    assert found["stage_a/colon-1/model/config.json"] == found["stage_a/brackets-2/model/config.json"]
    one, two = (read_json(finished / f"stage_a/colon-{seed}/model/teacher.json") for seed in (1, 2))
    assert {name for name in one if one[name] != two[name]} <= {"seed", "trained_accuracy"}


def test_evaluation_counts_every_row_of_every_model(finished: Path) -> None:
    metrics = read_json(finished / "evaluation" / "metrics.json")
    assert metrics["rows"] == 15 and set(metrics["teachers"]) == {"colon-1", "colon-2", "brackets-1", "brackets-2"}
    for entry in (metrics["student"], metrics["ensemble"]):
        assert sum(map(sum, entry["confusion"])) == 15 and 0 <= entry["accuracy"] <= 1
        assert entry["accuracy_interval"][0] <= entry["accuracy"] <= entry["accuracy_interval"][1]
    table = pq.read_table(finished / "evaluation" / "predictions").to_pydict()
    assert table["id"] == [f"15-{index}" for index in range(15)]
    assert table["gold"] == [row["label"] for row in rows(15, 15)]
    right = sum(gold == student for gold, student in zip(table["gold"], table["student"], strict=True))
    assert right / 15 == pytest.approx(metrics["student"]["accuracy"])
    assert all(sum(row) == pytest.approx(1, abs=1e-5) for row in table["probabilities"])


def test_stage_by_stage_equals_all_at_once(pipeline_file: Path, finished: Path, here: Path) -> None:
    for stage, ran in (("a", TEACHERS), ("b", ("stage_b",)), ("c", ("stage_c/model",)), ("evaluation", ("evaluation",))):
        assert run_task(pipeline_file, here / "run", stages=(stage,)).ran == ran
    assert products(here / "run") == products(finished)


def test_without_a_test_set_there_is_no_evaluation(pipeline_file: Path, here: Path) -> None:
    result = run_task(pipeline_file, here / "run", "data.test=null", *ONE_TEACHER)
    assert result.metrics is None and result.ran[-1] == "stage_c/model" and result.student.is_dir()


@pytest.mark.parametrize("shard_rows", [7, 8192])
def test_how_the_work_is_cut_up_changes_rounding_only(
    shard_rows: int, pipeline_file: Path, finished: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "SHARD_ROWS", shard_rows)
    run_task(pipeline_file, here / "run", "compute.tokens_per_batch=40", *ONE_TEACHER, stages=("a", "b"))
    assert len(list((here / "run" / "stage_b" / "soft_labels").iterdir())) == (5 if shard_rows == 7 else 1)
    cut, whole = (read_matrix(folder / "stage_a" / "colon-1" / "logits", "logits") for folder in (here / "run", finished))
    np.testing.assert_allclose(cut, whole, atol=1e-5)
    ids = [shard["id"] for shard in read_shards(here / "run" / "stage_b" / "soft_labels", ["id"])]
    assert [name for shard in ids for name in shard] == [f"30-{index}" for index in range(30)]


# -- a second run ------------------------------------------------------------------------------------


def test_second_run_does_no_work(pipeline_file: Path, copy: Path) -> None:
    before = {path: path.stat().st_mtime_ns for top in ("stage_a", "stage_b", "stage_c") for path in (copy / top).rglob("*")}
    heard: list[Event] = []
    result = run_task(pipeline_file, copy, on_event=heard.append)
    assert result.ran == () and result.metrics == read_json(copy / "evaluation" / "metrics.json")
    assert [event.step for event in heard if isinstance(event, StepSkipped)] == list(STEPS)
    assert {path: path.stat().st_mtime_ns for path in before} == before


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
    import torch

    try:
        assert {entry.action for entry in planned(pipeline_file, finished, override).values()} == {"skip"}
    finally:
        torch.set_num_threads(1)


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
    assert len(read_json(copy / "stage_b" / "ensemble.json")["weights"]) == 6


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
            assert hint == "(--allow-stale reads them as they are; petkit run --force redoes them)"
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


@pytest.mark.parametrize("missing", ["stage_a/colon-2/logits", "stage_a/brackets-1/model"])
def test_missing_teacher_is_an_error_never_a_smaller_ensemble(missing: str, pipeline_file: Path, copy: Path) -> None:
    shutil.rmtree(copy / missing)
    overrides = ("soft_labels.weighting=train_accuracy",)
    with pytest.raises(IncompleteRun, match=rf"run: stage_b needs {missing}, which is not finished \(run petkit stage-a first\)"):
        run_task(pipeline_file, copy, *overrides, stages=("b",), force="b")


@pytest.mark.parametrize(
    ("stage", "need"), [("b", "stage_a/colon-1/logits"), ("c", "stage_b"), ("evaluation", "stage_a/colon-1/model")]
)
def test_a_stage_before_its_time(stage: Any, need: str, pipeline_file: Path, here: Path) -> None:
    with pytest.raises(IncompleteRun, match=f"needs {need}, which is not finished"):
        run_task(pipeline_file, here / "run", stages=(stage,))


@pytest.mark.parametrize("step", ["stage_a/colon-1/logits", "stage_b", "stage_c/model", "evaluation"])
def test_truncated_step_is_made_again_and_nothing_else(step: str, pipeline_file: Path, finished: Path, copy: Path) -> None:
    files = [path for path in (copy / step).rglob("*") if path.is_file() and path.name != "step.json"]
    largest = max(files, key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-1])
    assert planned(pipeline_file, copy)[step].why.startswith(f"{largest.relative_to(copy / step)} has ")
    assert run_task(pipeline_file, copy).ran == (step,)
    assert products(copy) == products(finished)


def test_flipped_byte_in_a_teacher_is_never_read(pipeline_file: Path, copy: Path) -> None:
    path = copy / "stage_a" / "colon-1" / "logits" / "part-00000.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(IncompleteRun, match=r"stage_a/colon-1/logits is damaged: part-00000\.parquet has changed"):
        run_task(pipeline_file, copy, stages=("b",), force="b")


def test_moved_run_needs_no_work(pipeline_file: Path, copy: Path) -> None:
    moved = copy.rename(copy.parent / "moved")
    assert run_task(pipeline_file, moved).ran == ()


def test_student_of_somebody_elses_soft_labels(pipeline_file: Path, finished: Path, here: Path) -> None:
    """Stage C reads nothing of the teachers."""
    (here / "run").mkdir()
    shutil.copy(finished / "manifest.json", here / "run")
    shutil.copytree(finished / "stage_b", here / "run" / "stage_b")
    assert run_task(pipeline_file, here / "run", stages=("c",)).ran == ("stage_c/model",)
    assert student_weights(here / "run") == student_weights(finished)


def test_what_is_missing_is_reported_before_what_it_makes_stale(pipeline_file: Path, copy: Path) -> None:
    shutil.rmtree(copy / "stage_b")

    with pytest.raises(IncompleteRun, match=r"stage_c/model needs stage_b, which is not finished \(run petkit stage-b first\)"):
        run_task(pipeline_file, copy, stages=("c",))
