"""The estimate of a run before it starts, compared with what the run took."""

from __future__ import annotations

import gc
import json
import os
import shutil
import weakref
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from petkit.config.schema.training import StudentSpec, TeachersSpec
from petkit.cost import estimate
from petkit.cost.estimate import Disk, StepCosts, passes
from petkit.errors import InvalidInput
from petkit.events import RunStarted
from petkit.models.size import model_size
from petkit.runs.layout import SOFT_LABELS, STUDENT
from petkit.runs.store import RunStore
from petkit.stages.pipeline import Forecast, all_steps, device_of, dry_run, prepare
from petkit.task.task import Task
from petkit.teachers import models
from tests.tiny_run import FirstRun
from tests.tiny_task import load, run_task

LOADING, SCORING, TEACHER_STEP, STUDENT_STEP = 10.0, 0.5, 2.0, 3.0  # seconds


class Usage(NamedTuple):
    """As ``shutil.disk_usage`` has it."""

    total: int
    used: int
    free: int


def bytes_in(folder: Path, *parts: str) -> int:
    paths = [path for part in parts for path in (folder / part).rglob("*") if path.is_file() and path.name != "step.json"]
    return sum(path.stat().st_size for path in paths)


def looked(pipeline_file: Path, folder: Path, *overrides: str, **options: Any) -> Forecast:
    return dry_run(prepare(load(pipeline_file, *overrides), folder, **options))


def costs_of(pipeline_file: Path, *overrides: str) -> StepCosts:
    task = Task.checked(load(pipeline_file, *overrides))
    return StepCosts(task, device_of(task, RunStore("nowhere")))


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[StepCosts]:
    """Made-up measurements, and whose models were to be measured."""
    measured: list[StepCosts] = []

    def measure(costs: StepCosts) -> None:
        measured.append(costs)
        costs.loading, costs.scoring = LOADING, SCORING
        costs.teacher.step_seconds, costs.student.step_seconds = TEACHER_STEP, STUDENT_STEP

    monkeypatch.setattr(StepCosts, "measure", measure)
    return measured


# -- time --------------------------------------------------------------------------------------------


def test_time_by_measurement(pipeline_file: Path, here: Path, timed: list[Any]) -> None:
    found = looked(pipeline_file, here / "new").estimate
    assert found is not None and found.timed == "a short measurement" and len(timed) == 1
    training, scoring = 4 * (10 + 40 * 2), 4 * (10 + 30 * 0.5)
    costs = found.stages
    assert costs["a"].seconds == pytest.approx(training + scoring)
    assert costs["b"].seconds == pytest.approx(30 * 1e-4)
    assert costs["c"].seconds == pytest.approx(10 + 40 * 3 * (1 + 4 / 6))  # with labelled rows
    assert costs["evaluation"].seconds == pytest.approx((2 + 4 + 1) * (10 + 15 * 0.5), abs=0.01)
    assert found.total.seconds == pytest.approx(sum(cost.seconds for cost in found.stages.values()))
    assert found.total.memory == max(cost.memory for cost in found.stages.values())
    assert not (here / "new").exists()


@pytest.mark.parametrize(("freeze", "share"), [("embeddings", 1), ("half", 2 / 3), (1, 2 / 3), (2, 1 / 3)])
def test_frozen_layers_need_no_backward_pass(
    freeze: str | int, share: float, pipeline_file: Path, here: Path, timed: list[Any]
) -> None:
    """Of two layers; half of the activations are kept too."""
    found = looked(pipeline_file, here / "new", f"student.freeze={freeze}").estimate
    assert found is not None and found.stages["c"].seconds == pytest.approx(10 + share * 40 * 3 * (1 + 4 / 6))


@pytest.mark.parametrize(("steps", "made"), [(100, 30), (20, 8), (5, 5)])
def test_teachers_that_stop_are_expected_to(steps: int, made: int, pipeline_file: Path, here: Path, timed: list[Any]) -> None:
    settings = (f"teachers.steps={steps}", "teachers.stop_loss=auto")
    found = looked(pipeline_file, here / "new", *settings).estimate
    assert found is not None and found.stages["a"].seconds == pytest.approx(4 * (10 + made * 2) + 4 * (10 + 30 * 0.5))


def test_time_of_the_students_evaluation_alone(pipeline_file: Path, here: Path, timed: list[Any]) -> None:
    found = looked(pipeline_file, here / "new", "evaluation.teachers=none").estimate
    assert found is not None and len(timed) == 1
    assert found.stages["evaluation"].seconds == pytest.approx(10 + 15 * 0.5, abs=0.01)


def test_time_of_finished_steps(pipeline_file: Path, copy: Path, timed: list[Any]) -> None:
    facts = {step: RunStore(copy).facts(step)["seconds"] for step in (SOFT_LABELS, STUDENT)}
    found = looked(pipeline_file, copy, force="c").estimate
    assert found is not None and found.timed == "finished steps" and not timed
    assert set(found.stages) == {"c", "evaluation"} and found.stages["c"].seconds == facts[STUDENT]

    shutil.rmtree(copy / "stage_a" / "colon-1")  # the others of its kind give the time
    others = [RunStore(copy).facts(f"stage_a/{name}/model")["seconds"] for name in ("colon-2", "brackets-1", "brackets-2")]
    scored = [RunStore(copy).facts(f"stage_a/{name}/logits")["seconds"] for name in ("colon-2", "brackets-1", "brackets-2")]
    found = looked(pipeline_file, copy).estimate
    assert found is not None and not timed
    assert found.stages["a"].seconds == pytest.approx((sum(others) + sum(scored)) / 3)


def test_steps_made_with_other_settings_do_not_count(pipeline_file: Path, copy: Path, timed: list[Any]) -> None:
    found = looked(pipeline_file, copy, "student.steps=7", force="stale").estimate
    assert found is not None and len(timed) == 1 and found.timed == "finished steps and a short measurement"
    assert found.stages["c"].seconds == pytest.approx(10 + 7 * 3 * (1 + 4 / 6))  # with labelled rows


def test_nothing_to_do_takes_nothing(pipeline_file: Path, finished: Path, timed: list[Any]) -> None:
    assert looked(pipeline_file, finished).estimate is None and not timed


def test_before_patterns_are_chosen_there_is_no_estimate(pipeline_file: Path, here: Path, timed: list[Any]) -> None:
    found = looked(pipeline_file, here / "new", "keep_patterns=1")
    assert found.estimate is None and found.unknown and not timed


def test_baselines_are_not_counted(pipeline_file: Path, here: Path, timed: list[Any]) -> None:
    found = looked(pipeline_file, here / "new", "baselines=[tfidf]").estimate
    assert found is not None and found.left_out == ("baselines/tfidf",)
    assert found.summary()[-1] == "Not counted: baselines/tfidf."


@pytest.mark.parametrize("overrides", [(), ("teachers.adapter=lora", "student.adapter=lora"), ("data.train=null",)])
def test_a_real_measurement(overrides: tuple[str, ...], pipeline_file: Path, here: Path) -> None:
    """Steps of the tiny model take milliseconds; a busy machine may make ten of one."""
    found = looked(pipeline_file, here / "new", *overrides).estimate
    assert found is not None and found.timed == "a short measurement"
    run_task(pipeline_file, here / "run", *overrides)
    store = RunStore(here / "run")
    steps = [path.parent.relative_to(here / "run").as_posix() for path in (here / "run").rglob("step.json")]
    took = sum(store.facts(step)["seconds"] for step in steps)
    assert took / 10 < found.total.seconds < 10 * took


def test_a_measurement_keeps_one_model_in_memory(pipeline_file: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_backbone, new_student, loaded, left = models.load_language_model, estimate.untrained_student, [], []

    def backbone(*args: Any, **options: Any) -> Any:
        model = load_backbone(*args, **options)
        loaded.append(weakref.ref(model))
        return model

    def student(*args: Any) -> Any:
        gc.collect()
        left.extend(reference() for reference in loaded)
        return new_student(*args)

    monkeypatch.setattr(models, "load_language_model", backbone)
    monkeypatch.setattr(estimate, "untrained_student", student)
    looked(pipeline_file, here / "new")
    assert left == [None]


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        (TeachersSpec(), 1),
        (TeachersSpec(r_drop_weight=1, dropout=0.1), 2),
        (TeachersSpec(auxiliary_mlm_weight=0.1, unlabeled_batch_size=8, batch_size=4), 3),
        (TeachersSpec(label_conditioning_weight=1, contrastive={"weight": 1, "partners": "masked_view"}), 3),
    ],
)
def test_passes_of_a_teacher(settings: TeachersSpec, count: float) -> None:
    assert passes(settings) == count


def test_passes_of_a_student() -> None:
    assert passes(StudentSpec(hard_weight=0.2)) == 1.25  # labelled rows in addition
    assert passes(StudentSpec(consistency_weight=1, feature_weight=1)) == pytest.approx(2 + 1 / 3)


# -- disk --------------------------------------------------------------------------------------------


def test_disk_is_near_what_is_written(pipeline_file: Path, first_run: FirstRun, here: Path, timed: list[Any]) -> None:
    found, run = looked(pipeline_file, here / "new").estimate, first_run.result.folder
    assert found is not None
    real = {"a": bytes_in(run, "stage_a"), "c": bytes_in(run, "stage_c")}
    for stage, written in real.items():
        assert found.stages[stage].disk == pytest.approx(written, rel=0.25), stage  # type: ignore[index]
    assert found.disk.written == sum(cost.disk for cost in found.stages.values())


def test_disk_of_many_rows_by_hand(pipeline_file: Path) -> None:
    made = costs_of(pipeline_file)
    made.rows = 1_000_000
    assert made.of("stage_a/colon-1/logits").disk == 12_000_000
    assert made.of(SOFT_LABELS).disk == 1_000_000 * (12 + 40)
    store, steps = RunStore("nowhere"), all_steps(made.task, made.device)
    (soft_labels,), (student,) = ([step for step in steps if step.name == name] for name in (SOFT_LABELS, STUDENT))
    tokens = [np.mean([len(row.ids) for row in model.rows]) for model in (made.teacher, made.student)]
    assert made.disk(store, [soft_labels]).passing == int(1_000_000 * 4 * sum(tokens))
    assert made.disk(store, [student]).passing == int(1_000_000 * (4 * sum(tokens) + 24))
    made.rows = 10_000
    assert made.disk(store, [student]).passing == made.disk(store, [soft_labels]).passing == 0
    assert made.disk(store, [student]).checkpoints == 2 * 12 * made.student.size.parameters
    assert made.disk(store, [soft_labels]).checkpoints == 0


def test_adapters_take_little_disk(pipeline_file: Path) -> None:
    full, small = costs_of(pipeline_file), costs_of(pipeline_file, "teachers.adapter=lora", "student.adapter=p_tuning_v2")
    assert small.of("stage_a/colon-1/model").disk < full.of("stage_a/colon-1/model").disk / 20
    assert small.of(STUDENT).disk < full.of(STUDENT).disk
    assert costs_of(pipeline_file, "student.adapter=lora").of(STUDENT).disk == full.of(STUDENT).disk  # merged


def test_the_run_reports_what_it_needs(first_run: FirstRun) -> None:
    (started,) = [event for event in first_run.heard if isinstance(event, RunStarted)]
    assert started.disk > bytes_in(first_run.result.folder, "stage_a", "stage_b", "stage_c") * 0.8
    assert started.free > 0


def test_a_full_disk_is_refused_before_anything_is_written(
    pipeline_file: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places: list[Path] = []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: places.append(path) or Usage(10**9, 10**9 - 50_000, 50_000))
    with pytest.raises(InvalidInput) as refused:
        run_task(pipeline_file, here / "deep" / "run")
    assert refused.value.exit_code == 2 and not (here / "deep").exists() and places[0] == here
    (problem,) = refused.value.problems
    assert problem.file == str(Path("deep/run")) and "50 kB are free" in problem.message and "--out" in problem.hint
    assert problem.message.startswith("too little disk: the run writes about ")


def test_what_a_killed_run_left_counts_as_free(pipeline_file: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is swept before anything is written; refused for it, the run could never go on."""
    half = here / "run" / ".work" / "steps" / "half"
    half.parent.mkdir(parents=True)
    half.write_bytes(bytes(10_000_000))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 0, 50_000 if half.exists() else 10_050_000))
    assert run_task(pipeline_file, here / "run", "teachers.steps=1", "student.steps=1").has_student


def test_checkpoints_that_may_never_come_refuse_nothing(pipeline_file: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = 10 * costs_of(pipeline_file).of(STUDENT).disk
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 0, free))
    monkeypatch.setattr(StepCosts, "disk", lambda *_: Disk(free // 2, 0, 10**9, free))
    assert run_task(pipeline_file, here / "run", "teachers.steps=1", "student.steps=1").has_student


MB = 10**6
DISKS = {
    1000: "are free",
    419: "are free: too little for checkpoints",
    119: "are free: perhaps too little",
    107: "are free: too little, the run will not start",
}


@pytest.mark.parametrize("free", DISKS)
def test_a_dry_run_says_whether_the_disk_is_enough(free: int) -> None:
    line = Disk(100 * MB, 20 * MB, 300 * MB, free * MB).summary()
    assert line.startswith("disk: 100 MB to be written, 20 MB more while it works, up to 300 MB for checkpoints; ")
    assert line.endswith(f"B {DISKS[free]}")


def test_what_must_be_there_for_a_while_counts(pipeline_file: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = 10 * costs_of(pipeline_file).of(STUDENT).disk
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 0, free))
    monkeypatch.setattr(StepCosts, "disk", lambda *_: Disk(free // 2, 10**9, 0, free))
    with pytest.raises(InvalidInput, match=r"and about 1\.0 GB more while it works"):
        run_task(pipeline_file, here / "run", "teachers.steps=1", "student.steps=1")


def test_a_full_disk_does_not_matter_where_nothing_is_to_be_done(
    pipeline_file: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9, 0))
    assert run_task(pipeline_file, copy).ran == ()


def test_free_bytes_of_a_folder_to_come(here: Path) -> None:
    assert RunStore(here / "a" / "b" / "c").free_bytes() == pytest.approx(shutil.disk_usage(here).free, rel=0.5)


# -- memory ------------------------------------------------------------------------------------------


def test_memory_of_training_by_hand(pipeline_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "_PROCESS", 1_000_000)
    made = costs_of(pipeline_file)
    length = max(len(row.ids) for row in made.teacher.rows)
    parameters = model_size(str(made.task.spec.model)).parameters
    kept = 2 * 4 * length * (66 * 32 + 9 * 2 * length)
    assert made.of("stage_a/colon-1/model").memory == 1_000_000 + 16 * parameters + kept
    adapted = costs_of(pipeline_file, "teachers.adapter=lora").of("stage_a/colon-1/model").memory
    half = costs_of(pipeline_file, "teachers.freeze=half").of("stage_a/colon-1/model").memory
    assert half == 1_000_000 + 16 * parameters + kept / 2
    assert adapted == 1_000_000 + 4 * parameters + 12 * int(0.02 * parameters) + kept
    assert made.of(SOFT_LABELS).memory == 1_000_000 + 10 * 8192 * 3 * 4 * 4


def test_memory_of_a_process() -> None:
    """This one has imported what a run imports."""
    used = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    assert used / 3 < estimate._PROCESS < 3 * used


def test_as_plain_data(pipeline_file: Path, here: Path, timed: list[Any]) -> None:
    found = looked(pipeline_file, here / "new")
    assert found.estimate is not None
    data = json.loads(json.dumps(found.to_dict()))
    assert data["estimate"]["total"]["seconds"] == found.estimate.total.seconds
    assert data["estimate"]["stages"]["a"]["disk"] == found.estimate.stages["a"].disk
    assert data["estimate"]["disk"]["free"] == found.estimate.disk.free
    assert [step["step"] for step in data["steps"]] == [step.step for step in found.steps]
