"""Which rows a teacher is trained on, fold by fold and under a second pattern, and where its randomness comes from."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from petkit.config.schema.training import TeachersSpec
from petkit.engine.device import Device
from petkit.engine.inference import FloatArray
from petkit.engine.sampling import StepRows
from petkit.errors import InvalidInput
from petkit.events import ignore
from petkit.prompts.pattern import Encoded
from petkit.runs.checkpoint import clear_checkpoints
from petkit.runs.step import Job
from petkit.runs.store import RunStore
from petkit.storage.parquet_shards import read_matrix
from petkit.task.task import Task
from petkit.teachers import training as teacher_training
from petkit.teachers.models import teacher_models
from petkit.teachers.objective import TeacherObjective, TrainingRows
from petkit.teachers.training import TeacherTraining
from tests.tiny_task import load, rows, run_task, write_rows

pytestmark = pytest.mark.usefixtures("finished")  # and its quick garbage collection

DEVICE = Device("cpu", "float32", 1)
QUICK = ("teachers.steps=6", "soft_labels.weighting=out_of_fold", "soft_labels.folds=3")
SECOND = "teachers.consistency={kind: second_pattern}"


@dataclass
class Watch:
    """What every training of a test was given: its rows, and the numbers drawn from them."""

    data: list[TrainingRows] = field(default_factory=list)
    drawn: list[set[int]] = field(default_factory=list)


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    seen = Watch()

    class Watched(TeacherObjective):
        def __init__(self, settings: Any, pvp: Any, data: TrainingRows, *rest: Any) -> None:
            super().__init__(settings, pvp, data, *rest)
            seen.data.append(data)
            seen.drawn.append(set())

        def __call__(self, scorer: Any, draw: StepRows) -> Tensor:
            seen.drawn[-1] |= set(draw.rows.tolist())
            return super().__call__(scorer, draw)

    monkeypatch.setattr(teacher_training, "TeacherObjective", Watched)
    return seen


def train_folds(pipeline_file: Path, folder: Path, *overrides: str) -> tuple[Task, FloatArray]:
    """Score the folds of the first teacher; return its workload and the logits."""
    task = Task.checked(load(pipeline_file, *QUICK, *overrides))
    job = Job("stage_a/folds", folder / "folds", RunStore(folder), ignore, {}, math.inf)
    models = teacher_models(task.spec.model, task.spec.teachers.adapted, DEVICE)
    TeacherTraining(task, DEVICE, models, task.teachers[0]).score_folds(job)
    clear_checkpoints(job.store, job.step)
    return task, read_matrix(job.folder, "logits")


def texts(encoded: list[Encoded]) -> list[bytes]:
    return [row.ids.tobytes() for row in encoded]


def gold_texts(task: Task, pattern: int = 0) -> list[bytes]:
    return texts([task.pvps[pattern].encode(tokens) for tokens in task.tokens("train")])


# -- folds -------------------------------------------------------------------------------------------


def test_held_out_rows_are_never_trained_on_and_every_row_is_held_out_once(pipeline_file: Path, here: Path, watch: Watch) -> None:
    task, logits = train_folds(pipeline_file, here)
    gold, labels = gold_texts(task), task.targets()
    assert len(watch.data) == 3 and logits.shape == (9, 3) and len(set(map(tuple, logits.tolist()))) == 9
    held_out: list[int] = []
    for data, drawn in zip(watch.data, watch.drawn, strict=True):
        seen = {texts(list(data.encoded))[row] for row in drawn}
        held = [row for row, text in enumerate(gold) if text not in seen]
        assert len(data.targets) == 6 == len(seen)  # all of the others are trained on
        assert sorted(labels[held].tolist()) == [0, 1, 2]  # one of each label
        assert data.targets.tolist() == [labels[gold.index(text)] for text in texts(list(data.encoded))]
        held_out += held
    assert sorted(held_out) == list(range(9))


def test_logits_stand_in_the_order_of_the_rows(pipeline_file: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def signature(scorer: Any, encoded: list[Encoded], *rest: Any) -> FloatArray:
        return np.array([[len(row.ids), row.ids.sum(), row.ids[-2]] for row in encoded], np.float32)

    monkeypatch.setattr(teacher_training, "label_logits", signature)
    task, logits = train_folds(pipeline_file, here)
    expected = signature(None, [task.pvps[0].encode(tokens) for tokens in task.tokens("train")])
    np.testing.assert_array_equal(logits, expected)


@pytest.mark.parametrize(("counts", "folds"), [((4, 3, 1), 3), ((1, 1, 1), 3), ((2, 2, 2), 2), ((2, 1, 1), 3)])
def test_labels_of_few_rows_still_have_every_row_held_out(
    counts: Any, folds: int, pipeline_file: Path, here: Path, watch: Watch
) -> None:
    pool = rows(30, 1)
    of_label = [[row for row in pool if row["label"] == label] for label in ("Sports", "Science", "World")]
    write_rows(here / "few.jsonl", [row for own, count in zip(of_label, counts, strict=True) for row in own[:count]])
    task, logits = train_folds(pipeline_file, here, f"data.train={here / 'few.jsonl'}", "teachers.class_weights=balanced")
    gold = gold_texts(task)
    assert len(watch.data) == folds and np.isfinite(logits).all() and logits.all()
    held = [row for data in watch.data for row, text in enumerate(gold) if text not in texts(list(data.encoded))]
    assert sorted(held) == list(range(sum(counts)))


def test_rows_of_several_labels_are_held_out_too(pipeline_file: Path, here: Path, watch: Watch) -> None:
    train = here / "several.jsonl"
    write_rows(train, [{**row, "label": "|".join({row["label"], "World"})} for row in rows(7, 3)])
    _, logits = train_folds(pipeline_file, here, "label_kind=multi", f"data.train={train}", "data.test=null")
    assert logits.shape == (7, 3) and [len(data.targets) for data in watch.data] == [4, 5, 5]
    assert all(data.multi for data in watch.data)


def test_one_row_of_several_labels_cannot_be_held_out(pipeline_file: Path, here: Path) -> None:
    write_rows(here / "one.jsonl", [{"text": "good", "label": "Sports|Science|World"}])
    with pytest.raises(InvalidInput) as refused:
        train_folds(pipeline_file, here, "label_kind=multi", "data.train=one.jsonl", "data.test=null")
    expected = "soft_labels.weighting: out_of_fold needs two labelled rows, and there is one (add an example)"
    assert str(refused.value) == f"--set soft_labels.weighting=out_of_fold: {expected}"


# -- a second pattern --------------------------------------------------------------------------------


def test_row_by_row_the_second_pattern_shows_the_same_text(pipeline_file: Path, here: Path, watch: Watch) -> None:
    """In trainings on all rows, without folds, and on rows that other teachers labelled."""
    overrides = ("teachers.seeds=[1]", "teachers.steps=2", "generations.count=1", "generations.scale=2", SECOND)
    run_task(pipeline_file, here / "run", *QUICK, *overrides, stages=("a",))
    # Generation 0 of both patterns; then generation 1 and its three folds, which lack three labelled rows each.
    assert [len(data.targets) for data in watch.data] == [9, 9, *[12, 9, 9, 9] * 2]
    bare = [
        pvp.encode({key: np.zeros(0, np.int32) for key in pvp.pattern.keys}) for pvp in Task.checked(load(pipeline_file)).pvps
    ]
    start = {row.mask: len(row.ids) - 1 for row in bare}  # the text comes last, before [SEP]
    assert len(start) == 2  # so that the mask's place tells the pattern
    for data in watch.data:
        assert len(data.second) == len(data.encoded) == len(data.targets)
        for one, other in zip(data.encoded, data.second, strict=True):
            assert one.mask != other.mask
            assert one.ids[start[one.mask] :].tolist() == other.ids[start[other.mask] :].tolist()


def test_folds_of_later_generations_leave_out_gold_rows_only(pipeline_file: Path, here: Path, watch: Watch) -> None:
    overrides = ("teachers.seeds=[1]", "teachers.steps=2", "generations.count=1", "generations.scale=2")
    run_task(pipeline_file, here / "run", *QUICK, *overrides, stages=("a",))
    gold = gold_texts(Task.checked(load(pipeline_file)))
    whole, *folds = watch.data[2:6]  # the first pattern's teacher of generation 1
    drawn = texts(list(whole.encoded))[9:]
    assert drawn and texts(list(whole.encoded))[:9] == gold
    for data in folds:
        assert texts(list(data.encoded))[6:] == drawn and set(texts(list(data.encoded))[:6]) < set(gold)
        assert data.targets[6:].tolist() == whole.targets[9:].tolist()


@pytest.mark.parametrize(
    ("override", "stale"),
    [
        ("patterns=[{id: colon, text: '{mask} news: {text}'}, {id: brackets, text: '( {mask} ) ( {text} )'}]", True),
        ("soft_labels.temperature=3", False),
    ],
)
def test_another_second_pattern_makes_a_teacher_stale(override: str, stale: bool, pipeline_file: Path, here: Path) -> None:
    from petkit.stages.a_teachers import steps

    def inputs(*overrides: str) -> Any:
        models = teacher_models("embedded", None, DEVICE)
        return dict(steps(Task.checked(load(pipeline_file, *overrides)), DEVICE, models)[0].inputs)  # of the first pattern

    assert (inputs(SECOND) != inputs(SECOND, override)) == stale
    assert inputs() == inputs(override)  # nobody else looks at the next pattern


# -- randomness --------------------------------------------------------------------------------------


EVERYTHING = (
    "teachers.dropout=0.2",
    "teachers.r_drop_weight=1",
    "teachers.auxiliary_mlm_weight=0.1",
    "teachers.label_conditioning_weight=1",
    "teachers.consistency={kind: word_masking}",
)


def test_a_step_draws_from_the_seed_and_its_number_alone(
    pipeline_file: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a training can go on from any step."""

    class Wasteful(TeacherObjective):
        def __call__(self, scorer: Any, draw: StepRows) -> Tensor:
            loss = super().__call__(scorer, draw)
            torch.rand(5)
            draw.random.random(5)
            np.random.default_rng(0).random(5)
            return loss

    def weights(name: str) -> bytes:
        overrides = ("teachers.seeds=[3]", "teachers.steps=3", *EVERYTHING)
        run_task(pipeline_file, here / name, *overrides, stages=("a",))
        return (here / name / "stage_a" / "colon-3" / "model" / "model.safetensors").read_bytes()

    plain = weights("plain")
    monkeypatch.setattr(teacher_training, "TeacherObjective", Wasteful)
    assert weights("wasteful") == plain


# -- the end of a training ---------------------------------------------------------------------------


@pytest.mark.parametrize(("stop_loss", "made"), [(0.0, 12), (1e9, 8)])
def test_a_teacher_that_has_learnt_stops(stop_loss: float, made: int, pipeline_file: Path, here: Path) -> None:
    """After eight steps at the earliest, each of which counts."""
    settings = ("teachers.seeds=[1]", "teachers.steps=12", f"teachers.stop_loss={stop_loss}")
    run_task(pipeline_file, here / "run", *settings, stages=("a",))
    assert RunStore(here / "run").facts("stage_a/colon-1/model")["steps"] == made


@pytest.mark.parametrize(
    ("losses", "learnt"),
    [([0.1] * 7, False), ([0.1] * 8, True), ([9.0, *[0.1] * 8], True), ([0.1] * 20 + [0.9], False), ([0.19] * 8, True)],
)
def test_the_mean_of_the_last_losses_counts(losses: list[float], learnt: bool) -> None:
    assert TeachersSpec(stop_loss=0.2).learnt(losses) is learnt
    assert not TeachersSpec(stop_loss=0).learnt([0.0] * 8)
