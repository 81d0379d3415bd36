"""The steps before stage A: patterns that are ranked and kept, label words that are found."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from petkit.engine.device import Device
from petkit.errors import IncompleteRun, InvalidInput, RunConflict
from petkit.events import Event, Notice, RunStarted, StepFinished, StepStarted
from petkit.runs.planning import PlannedStep
from petkit.runs.store import RunStore
from petkit.stages import preparation
from petkit.stages.pipeline import prepare
from petkit.task.task import Task
from tests.tiny_task import load, products, run_task

pytestmark = pytest.mark.usefixtures("finished")  # and its quick garbage collection

THREE = (
    "patterns=[{id: colon, text: '{mask} news: {text}'}, {id: brackets, text: '( {mask} ) {text}'}, "
    "{id: last, text: '{text} {mask}'}]"
)
QUICK = ("teachers.seeds=[1]", "teachers.steps=2", "student.steps=2")
KEEP = (*QUICK, THREE, "keep_patterns=1")
AUTO = (*QUICK, "verbalizer={auto: {per_label: 1, candidates: 20}}")
# In alphabetic order of the labels, for they are read off the data.
FOUND = {"Science": "question", "Sports": "game", "World": "market"}
OTHER = {"Science": "answer", "Sports": "team", "World": "news"}
DEVICE = Device("cpu", "float32", 1)


@pytest.fixture(scope="module")
def ranked(pipeline_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Event]]:
    heard: list[Event] = []
    folder = tmp_path_factory.mktemp("ranked") / "run"
    run_task(pipeline_file, folder, *KEEP, on_event=heard.append)
    return folder, heard


@pytest.fixture
def run(ranked: tuple[Path, list[Event]], here: Path) -> Path:
    return Path(shutil.copytree(ranked[0], here / "run"))


def order(folder: Path) -> list[str]:
    reported = json.loads((folder / "stage_a" / "ranking" / "ranking.json").read_text())
    return [entry["id"] for entry in reported["patterns"]]


def shown(planned: list[PlannedStep]) -> list[tuple[str, str]]:
    return [(entry.step, entry.action) for entry in planned]


def look(pipeline_file: Path, folder: Path, *overrides: str, **options: Any) -> list[tuple[str, str]]:
    return shown(prepare(load(pipeline_file, *overrides), folder, **options).planned)


# -- patterns that are kept --------------------------------------------------------------------------


def test_ranking_comes_first_and_then_the_teachers_of_the_best_pattern_only(
    ranked: tuple[Path, list[Event]], pipeline_file: Path
) -> None:
    folder, heard = ranked
    best = order(folder)[0]
    steps = ["stage_a/ranking", f"stage_a/{best}-1/model", f"stage_a/{best}-1/logits", "stage_b", "stage_c/model", "evaluation"]
    assert [event.step for event in heard if isinstance(event, StepStarted)] == steps
    assert [event.step for event in heard if isinstance(event, StepFinished)] == steps
    assert [event.steps for event in heard if isinstance(event, RunStarted)] == [5]
    assert sorted(path.name for path in (folder / "stage_a").iterdir()) == sorted(["ranking", f"{best}-1"])
    assert run_task(pipeline_file, folder, *KEEP).ran == ()
    assert "kept" not in json.loads((folder / "stage_a" / "ranking" / "ranking.json").read_text())  # it would grow old


def test_a_dry_run_before_and_after(ranked: tuple[Path, list[Event]], pipeline_file: Path, here: Path) -> None:
    planned = prepare(load(pipeline_file, *KEEP), here / "none").planned
    assert shown(planned) == [("stage_a/ranking", "run"), ("…", "run")] and not (here / "none").exists()
    assert planned[1].why == "the steps after stage_a/ranking have their names and patterns from it"
    best = order(ranked[0])[0]
    steps = ("stage_a/ranking", f"stage_a/{best}-1/model", f"stage_a/{best}-1/logits", "stage_b", "stage_c/model", "evaluation")
    assert look(pipeline_file, ranked[0], *KEEP) == [(step, "skip") for step in steps]
    assert look(pipeline_file, ranked[0], *KEEP, stages=("b",)) == [("stage_b", "skip")]


@pytest.mark.parametrize("stage", ["b", "c", "evaluation"])
@pytest.mark.parametrize("overrides", [KEEP, AUTO])
def test_a_later_stage_alone_says_what_must_come_first(
    stage: Any, overrides: tuple[str, ...], pipeline_file: Path, here: Path
) -> None:
    name = "stage_a/ranking" if overrides == KEEP else "stage_a/label_words"
    for attempt in (run_task, look):
        with pytest.raises(IncompleteRun) as refused:
            attempt(pipeline_file, here / "run", *overrides, stages=(stage,))
        assert str(refused.value) == f"run: {name} is not finished (run petkit stage-a first)"
    assert not (here / "run").exists()


def test_stage_by_stage_equals_all_at_once(ranked: tuple[Path, list[Event]], pipeline_file: Path, here: Path) -> None:
    ran = [run_task(pipeline_file, here / "run", *KEEP, stages=(stage,)).ran for stage in ("a", "b", "c", "evaluation")]
    assert ran[0][0] == "stage_a/ranking" and [len(steps) for steps in ran] == [3, 1, 1, 1]
    assert products(here / "run") == products(ranked[0])


def test_keeping_another_number_ranks_nothing_again(pipeline_file: Path, run: Path) -> None:
    first, second, third = order(run)
    more = (*KEEP, "keep_patterns=2")
    assert look(pipeline_file, run, *more, stages=("a",)) == [
        ("stage_a/ranking", "skip"),
        *[
            (f"stage_a/{name}-1/{part}", "skip" if name == first else "run")
            for name in ("colon", "brackets", "last")  # in the order of the file
            if name != third
            for part in ("model", "logits")
        ],
    ]
    assert run_task(pipeline_file, run, *more, stages=("a",)).ran == (f"stage_a/{second}-1/model", f"stage_a/{second}-1/logits")


@pytest.mark.parametrize(
    ("override", "why"),
    [
        ("verbalizer.labels.World=[market]", "verbalizer changed"),
        ("verbalizer.kind=prototype", "verbalizer.kind words → prototype"),
        ("demonstrations.per_label=1", "demonstrations null → [1, 40]"),
        ("max_length=20", "max_length 32 → 20"),
        ("truncate=head", "truncate tail → head"),
        ("data.train=null", "data.train changed"),
    ],
)
def test_what_a_ranking_depends_on(override: str, why: str, pipeline_file: Path, run: Path) -> None:
    (entry, rest) = prepare(load(pipeline_file, *KEEP, override), run).planned
    assert (entry.step, entry.action, entry.why) == ("stage_a/ranking", "stale", f"stale: {why}") and rest.step == "…"
    with pytest.raises(RunConflict, match=r"run: made with other settings:\n  stage_a/ranking: stale: "):
        run_task(pipeline_file, run, *KEEP, override)


@pytest.mark.parametrize("override", ["teachers.steps=3", "soft_labels.temperature=1", "student.steps=3"])
def test_what_a_ranking_does_not_depend_on(override: str, pipeline_file: Path, run: Path) -> None:
    assert look(pipeline_file, run, *KEEP, override)[0] == ("stage_a/ranking", "skip")


@pytest.mark.parametrize(("force", "ranks"), [("a", True), ("all", True), ("stale", False), ("b", False), ("c", False)])
def test_a_ranking_is_forced_with_its_stage(force: str, ranks: bool, pipeline_file: Path, run: Path) -> None:
    before = products(run)
    ran = run_task(pipeline_file, run, *KEEP, force=force, stages=("a", "b")).ran
    assert ("stage_a/ranking" in ran) == ranks and products(run) == before


def test_forced_again_after_a_change_the_teachers_follow_the_ranking(
    pipeline_file: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    best = order(run)[0]
    turned = preparation.rank

    def worst_first(*given: Any) -> Any:
        from dataclasses import replace

        ranked = turned(*given)
        return replace(ranked, patterns=ranked.patterns[::-1])

    monkeypatch.setattr(preparation, "rank", worst_first)
    ran = run_task(pipeline_file, run, *KEEP, "max_length=30", force="stale").ran
    other = order(run)[0]
    assert other != best and ran[:3] == ("stage_a/ranking", f"stage_a/{other}-1/model", f"stage_a/{other}-1/logits")


def test_a_later_stage_tells_that_its_ranking_is_of_other_settings(pipeline_file: Path, run: Path) -> None:
    heard: list[Event] = []
    run_task(pipeline_file, run, *KEEP, "demonstrations.per_label=1", stages=("b",), allow_stale=True, on_event=heard.append)
    reported = [f"{event.step}: {event.message}" for event in heard if isinstance(event, Notice)]
    assert reported == ["stage_a/ranking: used as it is, though stale: demonstrations null → [1, 40], and 1 more"]


def test_a_ranking_of_other_patterns_is_not_used(pipeline_file: Path, run: Path) -> None:
    with pytest.raises(IncompleteRun, match=r"run: stage_a/ranking was made for other patterns \(run petkit stage-a --force\)"):
        run_task(pipeline_file, run, *QUICK, "keep_patterns=1", stages=("b",))


# -- words that are found ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    words: dict[str, dict[str, list[tuple[str, float]]]]


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, str]]:
    """The words that a search gives to each pattern; change them at will."""
    words = {"colon": FOUND, "brackets": OTHER}

    def search(task: Task, device: Device, progress: Callable[[int, int], None]) -> Found:
        progress(1, 1)
        return Found({name: {label: [(word, 1.5)] for label, word in own.items()} for name, own in words.items()})

    monkeypatch.setattr(preparation, "search_label_words", search)
    return words


def test_teachers_answer_with_the_words_that_were_found_for_their_pattern(pipeline_file: Path, here: Path, found: Any) -> None:
    result = run_task(pipeline_file, here / "run", *AUTO)
    assert result.ran[:2] == ("stage_a/label_words", "stage_a/colon-1/model") and result.metrics is not None
    for teacher, words in (("colon-1", FOUND), ("brackets-1", OTHER)):
        reported = json.loads((here / "run" / "stage_a" / teacher / "model" / "teacher.json").read_text())
        assert reported["verbalizer"]["labels"] == {label: [word] for label, word in words.items()}
        assert reported["verbalizer"]["auto"] is None
    ensemble = json.loads((here / "run" / "stage_b" / "ensemble.json").read_text())
    assert ensemble["labels"] == ["Science", "Sports", "World"]
    written = json.loads((here / "run" / "stage_a" / "label_words" / "label_words.json").read_text())
    assert written["colon"]["Sports"] == [{"word": "game", "score": 1.5}]
    assert run_task(pipeline_file, here / "run", *AUTO).ran == ()


def test_words_found_are_what_words_written_are(pipeline_file: Path, here: Path, found: Any) -> None:
    found["brackets"] = FOUND
    run_task(pipeline_file, here / "auto", *AUTO)
    labels = ", ".join(f"{label}: [{word}]" for label, word in FOUND.items())
    run_task(pipeline_file, here / "written", *QUICK, f"verbalizer={{labels: {{{labels}}}}}")
    auto, written = products(here / "auto"), products(here / "written")
    assert {name: auto[name] for name in written} == written


def test_other_words_make_their_teachers_stale_and_nobody_else(pipeline_file: Path, here: Path, found: Any) -> None:
    run_task(pipeline_file, here / "run", *AUTO, stages=("a",))
    found["brackets"] = FOUND
    shutil.rmtree(here / "run" / "stage_a" / "label_words")
    with pytest.raises(RunConflict) as refused:
        run_task(pipeline_file, here / "run", *AUTO, stages=("a",))
    assert "stage_a/brackets-1/model: stale: verbalizer changed" in str(refused.value) and "colon" not in str(refused.value)
    ran = run_task(pipeline_file, here / "run", *AUTO, stages=("a",), force="stale").ran
    assert ran == ("stage_a/brackets-1/model", "stage_a/brackets-1/logits")


def test_words_are_searched_before_patterns_are_ranked(pipeline_file: Path, here: Path, found: Any) -> None:
    result = run_task(pipeline_file, here / "run", *AUTO, "keep_patterns=1", "demonstrations.per_label=1", "max_length=60")
    best = order(here / "run")[0]
    words = {"colon": FOUND, "brackets": OTHER}[best]
    assert result.ran[:3] == ("stage_a/label_words", "stage_a/ranking", f"stage_a/{best}-1/model")
    reported = json.loads((here / "run" / "stage_a" / f"{best}-1" / "model" / "teacher.json").read_text())
    assert reported["verbalizer"]["labels"] == {label: [word] for label, word in words.items()}
    assert [len(examples) for examples in reported["demonstrations"]["filled"]] == [3, 3, 3]
    store = RunStore(here / "run")
    assert store.inputs("stage_a/ranking")["stage_a/label_words"] == store.content("stage_a/label_words")


MISTAKES = [
    ("", "train.jsonl: label: contains no labels; a classifier needs at least two\ntrain.jsonl: the file contains no rows"),
    ('{"text": "a", "label": "x"}\n', "train.jsonl: label: contains one label; a classifier needs at least two"),
    (None, "--set data.train=train.jsonl: data.train: train.jsonl: no such file"),
]


@pytest.mark.parametrize(("content", "expected"), MISTAKES, ids=["empty", "one label", "missing"])
def test_labels_that_cannot_be_read_off_the_data_are_one_mistake(
    content: str | None, expected: str, pipeline_file: Path, here: Path
) -> None:
    if content is not None:
        (here / "train.jsonl").write_text(content)
    with pytest.raises(InvalidInput) as refused:
        Task.checked(load(pipeline_file, *AUTO, "data.train=train.jsonl", "generations.count=auto"))
    assert str(refused.value) == expected


@pytest.mark.parametrize("scope", ["pattern", "joint"])
def test_words_are_really_found(scope: str, pipeline_file: Path, here: Path) -> None:
    result = run_task(pipeline_file, here / "run", *AUTO, f"verbalizer.auto.scope={scope}", stages=("a",))
    assert result.ran[0] == "stage_a/label_words" and len(result.ran) == 5
    words = json.loads((here / "run" / "stage_a" / "label_words" / "label_words.json").read_text())
    assert set(words) == {"colon", "brackets"} and list(words["colon"]) == ["Science", "Sports", "World"]
    assert (words["colon"] == words["brackets"]) == (scope == "joint")
