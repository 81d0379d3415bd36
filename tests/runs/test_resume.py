"""Stopped in the middle of a step and started again: the work that was kept is not done again, and the end is the same."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from petkit.events import STAGES, Event, Notice, Progress, Stage, StepStarted
from petkit.runs import signals
from petkit.runs.store import RunStore
from petkit.stages.pipeline import prepare
from petkit.storage import fault_points
from petkit.teachers import scoring
from tests.tiny_task import load, products, run_task

SHORT = ("teachers.seeds=[1]", "teachers.steps=6", "student.steps=6", "teachers.dropout=0.1", "student.dropout=0.1")
KEPT = "compute.checkpoint_minutes=0"
MODEL, LOGITS, STUDENT = "stage_a/brackets-1/model", "stage_a/brackets-1/logits", "stage_c/model"


class Killed(Exception):
    """Stands for the end of the process."""


def at(step: str, done: int, then: Callable[[], None]) -> tuple[Callable[[Event], None], list[Event]]:
    """Return what does something when a step has come so far, and the list of all it has heard."""
    heard: list[Event] = []

    def on_event(event: Event) -> None:
        heard.append(event)
        if isinstance(event, Progress) and (event.step, event.done) == (step, done):
            then()

    return on_event, heard


def events(folder: Path) -> str:
    path = folder / "events.jsonl"
    return path.read_text() if path.exists() else ""


def die() -> None:
    raise Killed


@pytest.fixture(scope="module")
def undisturbed(pipeline_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``undisturbed(*overrides)`` is a finished run with them, made once and never changed; what they leave alone is copied."""

    @cache
    def run(*overrides: str, stages: tuple[Stage, ...] = STAGES) -> Path:
        folder = tmp_path_factory.mktemp("undisturbed") / "run"
        if "a" not in stages:
            shutil.copytree(run(), folder)
        run_task(pipeline_file, folder, *SHORT, *overrides, stages=stages, force="stale")
        return folder

    return run


def without(step: str, finished: Path, folder: Path) -> Path:
    """Copy a finished run without one step and the evaluation: a run into the copy makes only these."""
    shutil.copytree(finished, folder)
    for name in (step, "evaluation"):
        shutil.rmtree(folder / name, ignore_errors=name != step)
    return folder


def kill(pipeline_file: Path, folder: Path, step: str, done: int, *overrides: str, stages: tuple[Stage, ...] = STAGES) -> None:
    with pytest.raises(Killed):
        run_task(pipeline_file, folder, *SHORT, KEPT, *overrides, stages=stages, on_event=at(step, done, die)[0])


def resumed(pipeline_file: Path, folder: Path, *overrides: str, stages: tuple[Stage, ...] = STAGES) -> list[Event]:
    heard: list[Event] = []
    run_task(pipeline_file, folder, *SHORT, *overrides, stages=stages, on_event=heard.append)
    return heard


def progress(heard: list[Event], step: str) -> list[int]:
    return [event.done for event in heard if isinstance(event, Progress) and event.step == step]


def notices(heard: list[Event], step: str) -> list[str]:
    return [event.message for event in heard if isinstance(event, Notice) and event.step == step]


CASES = [
    pytest.param(MODEL, (), id="teacher"),
    pytest.param(MODEL, ("teachers.adapter=lora", "teachers.adapter.dropout=0.1"), id="teacher, LoRA"),
    pytest.param(MODEL, ("teachers.adapter=p_tuning_v2",), id="teacher, prefix"),
    pytest.param(MODEL, ("teachers.adapter=p_tuning_v1",), id="teacher, P-Tuning v1"),
    pytest.param(
        MODEL, ("teachers.auxiliary_mlm_weight=0.1", "teachers.consistency.kind=word_masking"), id="teacher, hidden words"
    ),
    pytest.param(MODEL, ("teachers.consistency.kind=second_pattern", "teachers.r_drop_weight=0.5"), id="teacher, consistency"),
    pytest.param(MODEL, ("teachers.loss=decoupled_label",), id="teacher, decoupled label"),
    pytest.param(MODEL, ("verbalizer.kind=soft",), id="teacher, label vectors"),
    pytest.param("stage_a/brackets-1-g1/model", ("generations.count=1",), id="teacher of a further generation"),
    pytest.param(STUDENT, (), id="student"),
    pytest.param(STUDENT, ("student.adapter=lora",), id="student, LoRA"),
    pytest.param(STUDENT, ("student.consistency_weight=0.5", "student.r_drop_weight=0.5"), id="student, consistency"),
    pytest.param(STUDENT, ("student.contrastive={weight: 0.5, partners: masked_view}",), id="student, contrastive"),
    pytest.param(STUDENT, ("student.feature_weight=0.5",), id="student, features"),
    pytest.param("baselines/supervised", ("baselines=[supervised]",), id="supervised baseline"),
]


@pytest.mark.parametrize(("step", "overrides"), CASES)
def test_a_training_goes_on_where_it_was_killed(
    step: str, overrides: tuple[str, ...], pipeline_file: Path, undisturbed: Callable[..., Path], here: Path
) -> None:
    stages: tuple[Stage, ...] = ("a",) if step.startswith("stage_a") else ("c", "evaluation")
    finished = undisturbed(*overrides, stages=stages)
    without(step, finished, here / "run")
    kill(pipeline_file, here / "run", step, 4, *overrides, stages=stages)
    assert [entry.name for entry in (here / "run" / "checkpoints" / step).iterdir()] == ["00000004"]
    heard = resumed(pipeline_file, here / "run", *overrides, stages=stages)
    assert "resumes after 4 steps" in notices(heard, step)
    assert progress(heard, step)[:2] == [5, 6]
    assert products(here / "run") == products(finished)
    assert not (here / "run" / "checkpoints").exists()


def test_a_training_that_came_to_its_end_is_not_done_again(
    pipeline_file: Path, undisturbed: Callable[..., Path], here: Path
) -> None:
    """The last step is done, the model not yet written: a signal keeps even that."""
    without(MODEL, undisturbed(), here / "run")
    on_event, _ = at(MODEL, 5, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit):
        run_task(pipeline_file, here / "run", *SHORT, on_event=on_event)
    heard = resumed(pipeline_file, here / "run")
    assert notices(heard, MODEL) == ["resumes after 6 steps"] and progress(heard, MODEL) == []
    assert products(here / "run") == products(undisturbed())


def test_folds_that_are_done_are_not_done_again(pipeline_file: Path, undisturbed: Callable[..., Path], here: Path) -> None:
    overrides = ("soft_labels.weighting=out_of_fold", "soft_labels.folds=3")
    step = "stage_a/brackets-1/folds"
    finished = undisturbed(*overrides, stages=("a",))
    without(step, finished, here / "run")
    kill(pipeline_file, here / "run", step, 6 + 2, *overrides, stages=("a",))
    heard = resumed(pipeline_file, here / "run", *overrides, stages=("a",))
    assert notices(heard, step) == ["resumes after 1 finished part", "resumes after 2 steps"]
    assert progress(heard, step) == list(range(9, 19))
    assert products(here / "run") == products(finished)


def test_shards_that_are_scored_are_not_scored_again(pipeline_file: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "SHARD_ROWS", 8)  # of 30 rows
    undisturbed = run_task(pipeline_file, here / "undisturbed", *SHORT, stages=("a",)).folder
    kill(pipeline_file, here / "run", LOGITS, 24, stages=("a",))
    heard = resumed(pipeline_file, here / "run", stages=("a",))
    assert notices(heard, LOGITS) == ["resumes after 2 finished parts"]
    assert progress(heard, LOGITS) == [24, 30]
    assert products(here / "run") == products(undisturbed)


@pytest.mark.parametrize("fault", ["ENOSPC", "EFBIG"])
def test_a_training_does_without_a_checkpoint_there_is_no_room_for(
    fault: str, pipeline_file: Path, undisturbed: Callable[..., Path], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(STUDENT, undisturbed(), here / "run")
    monkeypatch.setenv(fault_points.VARIABLE, f"checkpoint: before write={fault}")
    heard: list[Event] = []
    run_task(pipeline_file, here / "run", *SHORT, KEPT, on_event=heard.append)
    reported = notices(heard, STUDENT)
    lack = {"ENOSPC": "the disk is full", "EFBIG": "a file may not grow as large as needed (ulimit -f shows the limit)"}
    assert reported == [f"the checkpoint of 1 step is not kept: {lack[fault]}"]  # and not again for every step
    assert products(here / "run") == products(undisturbed())


def test_a_signal_is_obeyed_where_there_is_no_room_to_keep_the_state(
    pipeline_file: Path, undisturbed: Callable[..., Path], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(MODEL, undisturbed(), here / "run")
    monkeypatch.setenv(fault_points.VARIABLE, "checkpoint: before write=ENOSPC")
    on_event, heard = at(MODEL, 3, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit):
        run_task(pipeline_file, here / "run", *SHORT, on_event=on_event)
    assert notices(heard, MODEL) == ["the checkpoint of 4 steps is not kept: the disk is full"]
    monkeypatch.delenv(fault_points.VARIABLE)
    assert progress(resumed(pipeline_file, here / "run"), MODEL) == [1, 2, 3, 4, 5, 6]
    assert products(here / "run") == products(undisturbed())


def test_a_dry_run_says_what_is_begun(pipeline_file: Path, here: Path) -> None:
    kill(pipeline_file, here / "run", MODEL, 4)
    planned = {entry.step: entry.why for entry in prepare(load(pipeline_file, *SHORT), here / "run").planned}
    assert (planned[MODEL], planned[LOGITS]) == ("not done yet, but begun", "not done yet")


def test_a_checkpoint_of_other_settings_is_not_used(pipeline_file: Path, undisturbed: Callable[..., Path], here: Path) -> None:
    without(STUDENT, undisturbed(), here / "run")
    kill(pipeline_file, here / "run", STUDENT, 4)
    heard = resumed(pipeline_file, here / "run", "student.seed=2")
    assert notices(heard, STUDENT) == ["the checkpoint of 4 steps is not used: made with other settings: student.seed 1 → 2"]
    assert progress(heard, STUDENT) == [1, 2, 3, 4, 5, 6]
    run_task(pipeline_file, here / "run", *SHORT, "student.seed=2")  # the evaluation
    assert products(here / "run") == products(undisturbed("student.seed=2", stages=("c", "evaluation")))


def test_a_teacher_that_left_and_comes_back_goes_on(pipeline_file: Path, here: Path) -> None:
    kill(pipeline_file, here / "run", MODEL, 4)
    run_task(pipeline_file, here / "run", *SHORT, "teachers.seeds=[2]", stages=("a",))
    heard: list[Event] = []
    run_task(pipeline_file, here / "run", *SHORT, "teachers.seeds=[1,2]", stages=("a",), force="stale", on_event=heard.append)
    assert "resumes after 4 steps" in notices(heard, MODEL)
    assert not (here / "run" / "checkpoints").exists()


def test_what_a_kill_left_beside_a_finished_step_goes(pipeline_file: Path, undisturbed: Callable[..., Path], here: Path) -> None:
    folder = Path(shutil.copytree(undisturbed(), here / "run"))
    (folder / "checkpoints" / STUDENT / "00000004").mkdir(parents=True)
    run_task(pipeline_file, folder, *SHORT)
    assert not (folder / "checkpoints").exists()


# -- signals -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)], ids=["SIGTERM", "Ctrl-C"]
)
@pytest.mark.parametrize(("step", "done"), [(MODEL, 3), (LOGITS, 30), ("stage_b", 30), (STUDENT, 6)])
def test_a_signal_lets_the_batch_end(
    number: signal.Signals,
    error: type[BaseException],
    step: str,
    done: int,
    pipeline_file: Path,
    undisturbed: Callable[..., Path],
    here: Path,
) -> None:
    before = signal.getsignal(number)
    without(step, undisturbed(), here / "run")
    on_event, heard = at(step, done, lambda: os.kill(os.getpid(), number))
    with pytest.raises(error) as left:
        run_task(pipeline_file, here / "run", *SHORT, on_event=on_event)
    assert error is KeyboardInterrupt or left.value.args == (143,)
    assert notices(heard, "run") == ["stopping after this batch; finished work is kept (again: stop at once)"]
    assert [event.step for event in heard if isinstance(event, StepStarted)][-1] == step
    assert not (here / "run" / ".work").exists() and signal.getsignal(number) is before
    again = resumed(pipeline_file, here / "run")
    if step == MODEL:  # the training step after the signal was done and kept
        assert progress(again, step) == [5, 6]
    if step == STUDENT:  # it was the last, and the model was written
        assert progress(again, step) == []
    assert products(here / "run") == products(undisturbed())


def test_a_second_signal_leaves_at_once(pipeline_file: Path, here: Path) -> None:
    reached: list[str] = []

    def twice() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        reached.append("first")
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)  # the interpreter looks for signals between two instructions
        reached.append("second")

    with pytest.raises(SystemExit):
        run_task(pipeline_file, here / "run", *SHORT, on_event=at(MODEL, 3, twice)[0])
    assert reached == ["first"]
    assert not signals.stop_requested()
    resumed(pipeline_file, here / "run")
    assert RunStore(here / "run").content(STUDENT) is not None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), (signal.SIGINT, 130)],
    ids=["SIGTERM", "Ctrl-C"],
)
def test_the_command_line_says_so(
    number: signal.Signals, code: int, pipeline_file: Path, undisturbed: Callable[..., Path], here: Path
) -> None:
    without(STUDENT, undisturbed(), here / "run")
    (here / "run" / "events.jsonl").unlink()
    overrides = [argument for override in (*SHORT, "student.steps=100000") for argument in ("--set", override)]
    command = [sys.executable, "-m", "petkit", "run", str(pipeline_file), "--out", "run", "--quiet", *overrides]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 200
    while '"StepStarted", "step": "stage_c/model"' not in events(here / "run"):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[1]
        time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (code, "interrupted; finished work is kept, run the same command to go on\n")
