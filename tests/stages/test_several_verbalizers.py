"""Several verbalizers in one ensemble: names, words, ranking, search, resume, and scores as of a run with one of them alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from petkit.commands.search_verbalizer import search_verbalizer
from petkit.commands.validate import check_pipeline
from petkit.engine.device import Device
from petkit.errors import InvalidInput
from petkit.predict.predictor import Predictor
from petkit.prompt_search.pattern_ranking import rank_patterns
from petkit.runs.fingerprint import Inputs
from petkit.stages.pipeline import RunResult
from petkit.storage.parquet_shards import read_matrix
from petkit.task.task import Task
from petkit.teachers.training import training_inputs
from tests.tiny_task import TOPICS, load, planned, products, run_task

ONE = "{labels: {Sports: [sports, football], Science: [science], World: [world]}}"
OTHER = "{labels: {World: [market], Science: [question], Sports: [game]}}"  # in another order
BOTH = ("verbalizer=null", f"verbalizers={{one: {ONE}, other: {OTHER}}}")
QUICK = ("teachers.seeds=[1]", "teachers.steps=3", "student.steps=3")
PAIRS = ("colon-one", "colon-other", "brackets-one", "brackets-other")


@pytest.fixture(scope="module")
def both(pipeline_file: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """A run with two patterns and two verbalizers; nobody changes it."""
    return run_task(pipeline_file, tmp_path_factory.mktemp("both") / "run", *BOTH, *QUICK, "soft_labels.weighting=train_accuracy")


def test_teachers_are_patterns_verbalizers_and_seeds(both: RunResult) -> None:
    names = {path.name for path in (both.folder / "stage_a").iterdir()}
    metrics = json.loads((both.folder / "evaluation" / "metrics.json").read_text())

    assert names == {f"{pair}-1" for pair in PAIRS}
    assert {entry["pattern"] for entry in metrics["teachers"].values()} == {*PAIRS} == {*metrics["zero_shot"]["patterns"]}
    assert len(json.loads((both.folder / "stage_b" / "ensemble.json").read_text())["teachers"]) == 4


@pytest.mark.parametrize(("pair", "alone"), [("colon-one", ONE), ("brackets-other", OTHER)])
def test_untrained_scores_are_those_of_a_pipeline_with_that_verbalizer(
    pipeline_file: Path, here: Path, pair: str, alone: str
) -> None:
    """Labels keep the order of the first verbalizer, whatever order the others have."""
    pattern, _ = pair.split("-")
    nothing = ("data.train=null", "soft_labels.weighting=uniform", *QUICK[1:])
    run_task(pipeline_file, here / "both", *BOTH, *nothing)
    run_task(pipeline_file, here / "alone", f"verbalizer={alone}", *nothing)
    own = read_matrix(here / "both" / "stage_a" / f"{pair}-untrained" / "logits", "logits")
    other = read_matrix(here / "alone" / "stage_a" / f"{pattern}-untrained" / "logits", "logits")
    labels = Task.checked(load(pipeline_file, f"verbalizer={alone}")).labels
    order = [labels.index(label) for label in ("Sports", "Science", "World")]

    np.testing.assert_array_equal(own, other[:, order])


def test_resume_knows_them(pipeline_file: Path, both: RunResult) -> None:
    weights = "soft_labels.weighting=train_accuracy"
    plans = planned(pipeline_file, both.folder, *BOTH, *QUICK, weights)
    other_words = OTHER.replace("game", "team")
    changed = planned(pipeline_file, both.folder, BOTH[0], f"verbalizers={{one: {ONE}, other: {other_words}}}", *QUICK, weights)
    stale = {name for name, step in changed.items() if step.action != "skip"}

    assert {step.action for step in plans.values()} == {"skip"}
    assert {name for name in stale if name.startswith("stage_a")} == {
        f"stage_a/{pattern}-other-1/{part}" for pattern in ("colon", "brackets") for part in ("model", "logits")
    }


def test_same_bytes_again(pipeline_file: Path, here: Path, both: RunResult) -> None:
    run_task(pipeline_file, here / "again", *BOTH, *QUICK, "soft_labels.weighting=train_accuracy")

    assert products(here / "again") == products(both.folder)


def test_ranking_keeps_pairs(pipeline_file: Path, here: Path) -> None:
    ranking = rank_patterns(load(pipeline_file, *BOTH))
    result = run_task(pipeline_file, here / "run", *BOTH, *QUICK, "keep_patterns=3")
    kept = {path.name.removesuffix("-1") for path in (result.folder / "stage_a").iterdir()}

    assert {pattern.id for pattern in ranking.patterns} == {*PAIRS}
    assert kept - {"pattern_ranking"} >= {pattern.id for pattern in ranking.patterns[:3]} and ranking.patterns[3].id not in kept


def test_teacher_predicts_with_its_own_words(both: RunResult) -> None:
    about = json.loads((both.folder / "stage_a" / "colon-other-1" / "model" / "teacher.json").read_text())

    assert about["verbalizer"]["labels"] == {"Sports": ["game"], "Science": ["question"], "World": ["market"]}
    assert Predictor.load(both.folder, teachers=True)("game team game")[0].labels[0] in TOPICS


def test_search_counts_a_pattern_once_and_names_all_words(pipeline_file: Path) -> None:
    found = search_verbalizer(load(pipeline_file, *BOTH))
    alone = search_verbalizer(load(pipeline_file, f"verbalizer={ONE}"))
    of_one = search_verbalizer(load(pipeline_file, *BOTH), "colon-other")

    assert found.words == alone.words and len(found.patterns) == 2
    assert {*found.named["Sports"]} == {"sports", "football", "game"}
    assert of_one.patterns == ("colon-other",)
    assert of_one.words == search_verbalizer(load(pipeline_file, f"verbalizer={ONE}"), "colon").words


def test_validate_shows_the_words_of_each(pipeline_file: Path) -> None:
    views = {view.id: view for view in check_pipeline(load(pipeline_file, *BOTH)).patterns}

    assert [word.written for word in views["colon-one"].words["Sports"]] == ["sports", "football"]
    assert [word.written for word in views["colon-other"].words["Sports"]] == ["game"]
    assert not any("have the same text" in warning for warning in check_pipeline(load(pipeline_file, *BOTH)).warnings)


def test_found_label_words_do_not_go_with_verbalizers_of_their_own(pipeline_file: Path) -> None:
    own = "patterns=[{id: a, text: '{mask} {text}'}, {id: b, text: '{text} {mask}', verbalizer: " + OTHER + "}]"

    with pytest.raises(InvalidInput, match="words found for every pattern"):
        load(pipeline_file, own, "verbalizer={auto: {per_label: 1}}")


def test_consistency_compares_with_another_text(pipeline_file: Path) -> None:
    task = Task.checked(load(pipeline_file, *BOTH, "teachers.consistency.kind=second_pattern"))

    assert [task.second_pattern(index) for index in range(4)] == [2, 2, 0, 0]


def test_settings_of_the_second_patterns_verbalizer_count(pipeline_file: Path) -> None:
    def inputs(settings: str) -> Inputs:
        own = f"{{id: b, text: '{{text}} {{mask}}', verbalizer: {{labels: {{Sports: [game], Science: [question], World: [market]}}, {settings}}}}}"
        patterns = f"patterns=[{{id: a, text: '{{mask}} {{text}}'}}, {own}]"
        task = Task.checked(load(pipeline_file, patterns, "teachers.consistency.kind=second_pattern"))
        return training_inputs(task, Device("cpu", "float32", 1), task.teachers[0], ())

    assert inputs("multi_token: true") != inputs("multi_token: true, decoding: max_first")


def test_second_pattern_of_another_kind_is_refused(pipeline_file: Path) -> None:
    own = (
        "{id: b, text: '{text} {mask}', verbalizer: {labels: {Sports: [game], Science: [question], World: [market]}, kind: soft}}"
    )
    patterns = f"patterns=[{{id: a, text: '{{mask}} {{text}}'}}, {own}]"

    with pytest.raises(InvalidInput, match="second_pattern needs verbalizers of one kind"):
        Task.checked(load(pipeline_file, patterns, "teachers.consistency.kind=second_pattern"))


def test_equal_verbalizers_under_two_names_are_pointed_out(pipeline_file: Path) -> None:
    check = check_pipeline(load(pipeline_file, BOTH[0], f"verbalizers={{one: {ONE}, other: {ONE}}}"))

    assert sum("have the same text" in warning for warning in check.warnings) == 2
