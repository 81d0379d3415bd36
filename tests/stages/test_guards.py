"""What a run refuses so that nothing is made from things that do not belong together."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file

import petkit
from petkit import limits
from petkit.errors import IncompleteRun, InvalidInput, RunConflict
from petkit.task.task import Task
from tests.tiny_task import STEPS, load, planned, products, rows, run_task, write_rows, write_task

Folder = Callable[[str], Path]
ONE_PATTERN = "patterns=[{id: colon, text: '{mask} news: {text}'}]"
REORDERED = "verbalizer.labels={World: [world], Sports: [sports, football], Science: [science]}"


@pytest.fixture
def own(copy: Path, model_folder: Folder) -> Path:
    """A pipeline like the shared one, with files to change; its run is finished in ``run`` beside it."""
    return write_task(copy.parent / "own", model_folder("bert"))


def times(folder: Path) -> Mapping[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def edit(texts: list[dict[str, str]]) -> list[dict[str, str]]:
    return [*texts[:-1], {**texts[-1], "text": "all the news"}]


CHANGES = [
    pytest.param(lambda texts: texts[::-1], (), "data.unlabeled changed", id="reordered"),
    pytest.param(edit, (), "data.unlabeled changed", id="edited"),
    pytest.param(
        list, (REORDERED,), 'labels ["Sports", "Science", "World"] → ["World", "Sports", "Science"]', id="labels reordered"
    ),
]


@pytest.mark.parametrize("key", ["weighting", "teacher_temperature"])
def test_one_labelled_row_cannot_be_held_out(key: str, pipeline_file: Path, here: Path) -> None:
    write_rows(here / "one.jsonl", [{"text": "game", "label": "Sports|Science|World"}])
    overrides = ("label_kind=multi", f"data.train={here / 'one.jsonl'}", "data.test=null", f"soft_labels.{key}=out_of_fold")

    with pytest.raises(InvalidInput) as refused:
        Task.checked(load(pipeline_file, *overrides))
    (line,) = str(refused.value).splitlines()
    assert line.endswith(f"soft_labels.{key}: out_of_fold needs two labelled rows, and there is one (add an example)")


def test_generations_without_end_are_refused(pipeline_file: Path) -> None:
    """A training set that hardly grows never reaches its thousand rows."""
    with pytest.raises(InvalidInput, match=r"generations\.count: 2 patterns × \d seeds × [\d,]+ generations are [\d,]+ teachers"):
        Task.checked(load(pipeline_file, "generations={count: auto, scale: 1.000001}"))


def test_labelled_rows_have_a_number(pipeline_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LABELLED_ROWS", 3)

    with pytest.raises(InvalidInput) as refused:
        Task.checked(load(pipeline_file))
    (line,) = str(refused.value).splitlines()
    assert line.endswith("train.jsonl:4: more than 3 labelled rows (put the others into data.unlabeled)")


def test_labels_that_cannot_be_read_are_no_second_mistake(pipeline_file: Path, here: Path) -> None:
    overrides = ("verbalizer={auto: {per_label: 1}}", "soft_labels.prior={Sports: 1, Science: 1, World: 2}")
    Task.checked(load(pipeline_file, *overrides))

    with pytest.raises(InvalidInput) as refused:
        Task.checked(load(pipeline_file, *overrides, "data.train=none.jsonl"))
    (line,) = str(refused.value).splitlines()
    assert line.endswith("data.train: none.jsonl: no such file")


# -- stages alone ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("change", "overrides", "reported"), CHANGES)
@pytest.mark.parametrize("before", ["finished", "missing"])
def test_stage_b_refuses_logits_of_other_rows_or_labels(
    before: str, change: Callable[[Any], Any], overrides: Sequence[str], reported: str, own: Path, copy: Path
) -> None:
    write_rows(own.parent / "unlabeled.jsonl", change(rows(30, 30)))
    if before == "missing":
        shutil.rmtree(copy / "stage_b")
    made = products(copy)
    force = "b" if before == "finished" else None
    with pytest.raises(RunConflict, match="would read steps made with other settings"):
        run_task(own, copy, *overrides, stages=("b",), force=force)
    with pytest.raises(IncompleteRun) as refused:
        run_task(own, copy, *overrides, stages=("b",), force=force, allow_stale=True)
    assert refused.value.exit_code == 2
    expected = f"run: the logits of teacher colon-1 are out of date: {reported} (run petkit stage-a --force)"
    assert str(refused.value) == expected
    assert products(copy) == made and (copy / "stage_b").exists() == (before == "finished")


@pytest.mark.parametrize(
    ("change", "overrides", "reported"),
    [
        (lambda texts: texts[::-1], (), r"for another unlabelled set \(run petkit stage-a and stage-b\)"),
        (edit, (), r"for another unlabelled set \(run petkit stage-a and stage-b\)"),
        (list, (REORDERED,), r"for labels Sports, Science, World \(run petkit stage-b\)"),
    ],
    ids=["reordered", "edited", "labels reordered"],
)
def test_stage_c_refuses_soft_labels_of_other_rows_or_labels(
    change: Callable[[Any], Any], overrides: Sequence[str], reported: str, own: Path, copy: Path
) -> None:
    write_rows(own.parent / "unlabeled.jsonl", change(rows(30, 30)))
    made = products(copy)
    with pytest.raises(RunConflict, match="would read steps made with other settings"):
        run_task(own, copy, *overrides, stages=("c",), force="c")
    with pytest.raises(IncompleteRun, match=f"run: the soft labels are {reported}"):
        run_task(own, copy, *overrides, stages=("c",), force="c", allow_stale=True)
    assert products(copy) == made


def test_what_is_refused_is_fixed_by_running_all(own: Path, copy: Path) -> None:
    write_rows(own.parent / "unlabeled.jsonl", rows(30, 30)[::-1])
    logits = tuple(step for step in STEPS if step.endswith("logits"))
    result = run_task(own, copy, force="stale")
    assert result.ran[: len(logits) + 2] == (*logits, "stage_b", "stage_c/model")
    assert run_task(own, copy, stages=("b", "c")).ran == ()


def test_no_evaluation_of_an_earlier_student_is_shown(pipeline_file: Path, copy: Path) -> None:
    assert (copy / "evaluation" / "metrics.json").is_file()
    result = run_task(pipeline_file, copy, "data.test=null", "student.steps=2", force="stale")
    assert result.metrics is None and result.ran == ("stage_c/model",)


# -- arguments of petkit.run -------------------------------------------------------------------------


@pytest.mark.parametrize("force", ["stage_c", False, True, "", "al", "A"])
def test_unknown_force_is_refused_and_nothing_is_redone(force: Any, pipeline_file: Path, copy: Path) -> None:
    before = times(copy)
    with pytest.raises(InvalidInput) as refused:
        petkit.run(pipeline_file, copy, force=force)
    assert str(refused.value) == f"force: unknown stage {force!r} (one of stale, a, b, c, evaluation, all)"
    assert times(copy) == before
    assert petkit.run(pipeline_file, copy, force=None).ran == ()


def test_overrides_belong_to_a_file(pipeline_file: Path, copy: Path) -> None:
    before = times(copy)
    for pipeline in (load(pipeline_file), load(pipeline_file).spec):
        with pytest.raises(TypeError, match="overrides belong to a pipeline file"):
            petkit.run(pipeline, copy, overrides=["student.steps=2"])
    assert times(copy) == before


# -- data and models ---------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["unlabeled", "test"])
@pytest.mark.parametrize("how", ["rows", "tokens", "student"])
def test_data_that_changes_under_way_is_refused(part: str, how: str, here: Path, model_folder: Folder) -> None:
    pipeline_file = write_task(here / "task", model_folder("bert"))
    task = Task.checked(load(pipeline_file))
    count = task.scans[part].rows
    write_rows(pipeline_file.parent / f"{part}.jsonl", rows(count, count)[::-1])
    with pytest.raises(InvalidInput, match=rf"{part}\.jsonl: changed while petkit was working with it"):
        list(task.rows(part)) if how == "rows" else task.tokens(part, student=how == "student")
    write_rows(pipeline_file.parent / f"{part}.jsonl", rows(count, count))
    assert len(list(task.rows(part))) == count == task.tokens(part).rows


def test_data_that_changes_before_stage_b_reads_it_is_refused(own: Path, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The names of the rows are read here, which a changed file would give to other texts."""
    made = products(copy)
    checked = Task.rows
    monkeypatch.setattr(
        Task,
        "rows",
        lambda task, part: (
            write_rows(own.parent / "unlabeled.jsonl", rows(30, 30)[::-1]) if part == "unlabeled" else None,
            checked(task, part),
        )[1],
    )
    with pytest.raises(InvalidInput, match="changed while petkit was working with it"):
        run_task(own, copy, stages=("b",), force="b")
    assert products(copy) == made


@pytest.mark.parametrize("part", ["model", "student.model"])
def test_damaged_weights_are_refused_before_anything_is_written(
    part: str, pipeline_file: Path, here: Path, model_folder: Folder
) -> None:
    folder = Path(shutil.copytree(model_folder("roberta"), here / "broken"))
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:2000])
    with pytest.raises(InvalidInput, match="broken: "):
        run_task(pipeline_file, here / "run", f"{part}={folder}")
    assert not (here / "run").exists()


# -- what is recorded --------------------------------------------------------------------------------


def without_length(folder: Path, model: Path) -> Path:
    """Write the task without ``max_length``: its default is more than the tiny models can read."""
    pipeline_file = write_task(folder, model)
    settings = yaml.safe_load(pipeline_file.read_text())
    del settings["max_length"]
    pipeline_file.write_text(yaml.safe_dump(settings, sort_keys=False))
    return pipeline_file


@pytest.mark.parametrize("arch", ["bert", "roberta"])
def test_the_resolved_pipeline_is_a_pipeline(arch: str, here: Path, model_folder: Folder) -> None:
    pipeline_file = without_length(here / "task", model_folder(arch))
    quick = ("teachers.steps=1", "student.steps=1", "teachers.seeds=[1]", ONE_PATTERN)
    run_task(pipeline_file, here / "run", *quick)
    resolved = here / "run" / "config.resolved.yaml"
    used = Task.checked(load(pipeline_file)).max_length
    assert used <= 64 and load(resolved).spec.max_length == used
    assert {entry.action for entry in planned(resolved, here / "run").values()} == {"skip"}


@pytest.mark.parametrize("which", ["model", "student.model"])
def test_the_resolved_pipeline_of_models_with_different_limits(which: str, here: Path, model_folder: Folder) -> None:
    pipeline_file = without_length(here / "task", model_folder("bert"))
    other = (f"{which}={model_folder('roberta')}",)
    run_task(pipeline_file, here / "run", *other, "teachers.steps=1", "student.steps=1", "teachers.seeds=[1]", ONE_PATTERN)
    resolved = here / "run" / "config.resolved.yaml"
    assert {entry.action for entry in planned(resolved, here / "run").values()} == {"skip"}


# -- seeds -------------------------------------------------------------------------------------------


def test_seeds_give_different_teachers_where_a_batch_could_hold_every_row(here: Path, model_folder: Folder) -> None:
    pipeline_file = write_task(here / "task", model_folder("bert"))
    write_rows(pipeline_file.parent / "train.jsonl", rows(16, 16))
    settings = ("teachers.dropout=0", "teachers.batch_size=16", "teachers.steps=3", ONE_PATTERN)
    run_task(pipeline_file, here / "run", *settings, stages=("a",))
    one, two = (load_file(here / "run" / "stage_a" / f"colon-{seed}" / "model" / "model.safetensors") for seed in (1, 2))
    # More than rounding: the same rows in another order would give nearly the same weights.
    assert max((value - two[name]).abs().max().item() for name, value in one.items()) > 1e-3
