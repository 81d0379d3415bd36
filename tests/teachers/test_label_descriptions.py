"""Label descriptions through the tiny task: which rows teachers train on, and what makes them stale."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from petkit.commands.validate import check_pipeline
from petkit.ensemble import FloatArray
from petkit.runs.store import RunStore
from petkit.task.task import Task
from petkit.teachers import training as teacher_training
from petkit.teachers.objective import TeacherObjective, TrainingRows
from tests.tiny_task import load, planned, rows, run_task, write_rows, write_task

QUICK = ("teachers.seeds=[1]", "student.steps=2", "teachers.steps=2")
DESCRIBED = {"Sports": ["game team", "team game game"], "Science": ["question answer"], "World": ["market news"]}
DESCRIPTIONS = f"verbalizer.descriptions={json.dumps(DESCRIBED)}"
NO_ROWS = "data.train=null"
LABELLED, MADE_UP = 9, 4
MODEL, FOLDS = "stage_a/colon-1/model", "stage_a/colon-1/folds"

pytestmark = pytest.mark.usefixtures("finished")  # and its quick garbage collection


@pytest.fixture
def learned(monkeypatch: pytest.MonkeyPatch) -> list[TrainingRows]:
    """What is trained on, training by training."""
    heard: list[TrainingRows] = []

    def spy(settings: Any, pvp: Any, data: TrainingRows, *more: Any) -> TeacherObjective:
        heard.append(data)
        return TeacherObjective(settings, pvp, data, *more)

    monkeypatch.setattr(teacher_training, "TeacherObjective", spy)
    return heard


def facts(folder: Path, step: str = MODEL) -> dict[str, Any]:
    return dict(RunStore(folder).facts(step))


def test_without_labelled_rows_teachers_are_trained_on_descriptions(pipeline_file: Path, here: Path) -> None:
    untrained = run_task(pipeline_file, here / "untrained", *QUICK, NO_ROWS).metrics
    trained = run_task(pipeline_file, here / "run", *QUICK, NO_ROWS, DESCRIPTIONS, "teachers.steps=60").metrics
    assert untrained is not None and trained is not None
    assert sorted(path.name for path in (here / "run" / "stage_a").iterdir()) == ["brackets-1", "colon-1"]
    assert facts(here / "run")["rows"] == MADE_UP
    # The texts of the tiny task contain the words of the descriptions.
    assert trained["ensemble"]["accuracy"] > 0.9 > untrained["ensemble"]["accuracy"]


def test_they_come_after_the_labelled_rows_and_are_never_held_out(
    pipeline_file: Path, here: Path, learned: list[TrainingRows]
) -> None:
    folds = "soft_labels={weighting: out_of_fold, folds: 3}"
    run_task(pipeline_file, here / "run", *QUICK, DESCRIPTIONS, folds, "keep_patterns=1", stages=("a",))
    whole, *parts = learned
    assert whole.targets.tolist()[LABELLED:] == [0, 0, 1, 2] and len(whole.encoded) == LABELLED + MADE_UP
    assert len(parts) == 3
    for part in parts:
        assert part.targets.tolist()[-MADE_UP:] == [0, 0, 1, 2] and len(part.encoded) == LABELLED - 3 + MADE_UP


def test_a_second_pattern_has_the_same_rows(pipeline_file: Path, here: Path, learned: list[TrainingRows]) -> None:
    both = ("teachers.consistency.kind=second_pattern", "demonstrations.per_label=1")
    run_task(pipeline_file, here / "run", *QUICK, DESCRIPTIONS, *both, stages=("a",))
    colon, brackets = learned
    assert len(colon.encoded) == LABELLED + MADE_UP
    for one, other in ((colon.encoded, brackets.second), (colon.second, brackets.encoded)):
        # A demonstration is drawn for each pattern; what comes after it is the row.
        assert [row.ids.tolist() for row in one[LABELLED:]] == [row.ids.tolist() for row in other[LABELLED:]]


def test_other_descriptions_make_teachers_and_their_folds_stale(pipeline_file: Path, here: Path) -> None:
    settings = (*QUICK, "soft_labels={weighting: out_of_fold, folds: 2}")
    run_task(pipeline_file, here / "run", *settings, DESCRIPTIONS)
    assert {entry.action for entry in planned(pipeline_file, here / "run", *settings, DESCRIPTIONS).values()} == {"skip"}
    for changed in (DESCRIPTIONS.replace("market news", "market"), "verbalizer.descriptions={}"):
        found = planned(pipeline_file, here / "run", *settings, changed)
        for step in (MODEL, FOLDS):
            assert found[step].action == "stale" and "verbalizer.descriptions" in found[step].why


def test_the_same_descriptions_written_otherwise_change_nothing(pipeline_file: Path, here: Path) -> None:
    run_task(pipeline_file, here / "run", *QUICK, DESCRIPTIONS, stages=("a",))
    otherwise = {label: [{"text": f" {text}"} for text in DESCRIBED[label]] for label in reversed(DESCRIBED)}
    found = planned(pipeline_file, here / "run", *QUICK, f"verbalizer.descriptions={json.dumps(otherwise)}")
    assert found[MODEL].action == "skip"


def test_the_classifier_and_teacher_files_know_nothing_of_them(pipeline_file: Path, here: Path) -> None:
    run_task(pipeline_file, here / "run", *QUICK, DESCRIPTIONS, "student.gold_batch_size=12")
    described = json.loads((here / "run" / MODEL / "teacher.json").read_text())
    assert "descriptions" not in described["verbalizer"]
    assert facts(here / "run", "stage_c/model")["gold_batch_size"] == 5  # half of the labelled rows alone


def test_rows_of_several_labels(model_folder: Callable[[str], Path], here: Path, learned: list[TrainingRows]) -> None:
    path = write_task(here / "task", model_folder("bert"))
    run_task(path, here / "run", *QUICK, NO_ROWS, DESCRIPTIONS, "label_kind=multi", stages=("a",))
    assert learned[0].targets.tolist() == [[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]
    warned = [
        "rarely give a row several" in " ".join(check_pipeline(load(path, *more, "label_kind=multi")).warnings)
        for more in ((NO_ROWS, DESCRIPTIONS), (NO_ROWS,), (DESCRIPTIONS,))
    ]
    assert warned == [True, False, False]


def test_rows_of_two_fields(model_folder: Callable[[str], Path], here: Path, learned: list[TrainingRows]) -> None:
    path = write_task(here / "task", model_folder("bert"), ("one", "two"), {"pair": ["{one} {mask}", "{two}"]})
    made_up = json.dumps({"Sports": [{"one": "game", "two": "team"}]})
    run_task(path, here / "run", *QUICK, f"verbalizer.descriptions={made_up}", stages=("a",))
    assert len(learned[0].encoded) == LABELLED + 1


@pytest.mark.parametrize("described", [True, False])
def test_ipet_goes_on_from_them(
    described: bool, pipeline_file: Path, here: Path, learned: list[TrainingRows], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trained teachers call no row a Sport: none is taken for one. Untrained ones do not know better: their likeliest rows are."""

    def probabilities(logits: Iterable[FloatArray]) -> NDArray[np.float64]:
        return np.tile([0.0, 0.6, 0.4], (30, 1)) + np.linspace(0, 0.1, 30)[:, None] * [1, -1, 0]

    monkeypatch.setattr(teacher_training, "mean_probabilities", probabilities)
    more = [DESCRIPTIONS] if described else []
    run_task(pipeline_file, here / "run", *QUICK, NO_ROWS, *more, "generations={count: 1, per_label_from_zero: 4}", stages=("a",))
    targets = learned[-1].targets.tolist()
    drawn = targets[MADE_UP:] if described else targets
    assert [drawn.count(label) for label in range(3)] == ([0, 4, 0] if described else [4, 4, 4])


def test_the_check_counts_them_and_finds_them_among_other_rows(model_folder: Callable[[str], Path], here: Path) -> None:
    path = write_task(here / "task", model_folder("bert"))
    write_rows(here / "task" / "train.jsonl", [*rows(9, 9), {"text": "Game  team", "label": "World"}])
    write_rows(here / "task" / "test.jsonl", [*rows(9, 15), {"text": "market news", "label": "World"}])
    check = check_pipeline(load(path, DESCRIPTIONS))
    assert check.rows["descriptions"] == MADE_UP and "descriptions" in check.legibility
    warnings = "\n".join(check.warnings)
    assert "line 10 has the text of a description of label 'Sports' under another label" in warnings
    assert "1 rows are also descriptions of the verbalizer (lines 10); their accuracy says nothing" in warnings


def test_labels_found_in_the_data(pipeline_file: Path) -> None:
    auto = "verbalizer={auto: {per_label: 1}, descriptions: {World: [market news]}}"
    task = Task.checked(load(pipeline_file, auto))
    assert [task.labels[row.labels[0]] for row in task.described] == ["World"]
