"""Baselines in a run: what is done again and what not, what is refused, the verdict, and how all of it is reported."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from petkit.cli.console import show_result
from petkit.config.loader import load_pipeline
from petkit.errors import InvalidInput
from petkit.events import Event, Notice
from petkit.runs.planning import plan
from petkit.runs.store import RunStore
from petkit.stages import baselines
from petkit.stages.pipeline import RunResult, device_of
from petkit.storage.parquet_shards import write_shard
from petkit.task.task import Task
from tests.tiny_task import TOPICS, products, rows, run_task, write_rows

CHEAP = "baselines=[majority, tfidf]"
GOLD = [list(TOPICS)[index % 3] for index in range(60)]


def planned(pipeline_file: Path, folder: Path, *overrides: str) -> dict[str, tuple[str, str]]:
    """Return action and reason of every baseline."""
    task, store = Task.checked(load_pipeline(pipeline_file, overrides)), RunStore(folder)
    steps = baselines.steps(task, device_of(task, store))
    return {entry.step: (entry.action, entry.why) for entry in plan(steps, store)}


def publish(folder: Path, answers: Mapping[str, Sequence[str]]) -> RunStore:
    """Make a run folder that holds the predictions of ``student`` and of baselines, and nothing else of interest."""
    store = RunStore(folder)
    with store.locked():
        for name, given in answers.items():
            step, column = ("evaluation", "student") if name == "student" else (f"baselines/{name}", "label")
            with store.publishing(step, {}, {"seconds": 1.5}) as made:
                write_shard(made / "predictions", 0, {"gold": GOLD, column: list(given)})
                (made / "baseline.json").write_text(json.dumps({"settings": {}, "metrics": {"accuracy": 0.5}}))
        store.write_manifest({})
    return store


def right_on(wanted: range) -> list[str]:
    """Return answers that are right on some rows and wrong on the others."""
    return [gold if row in wanted else "nothing" for row, gold in enumerate(GOLD)]


# -- a run -------------------------------------------------------------------------------------------


def test_run_holds_the_baselines_and_the_verdict_beside_its_metrics(pipeline_file: Path, copy: Path) -> None:
    """Asked for after a run is finished, they are all that is done."""
    three = "baselines=[majority, tfidf, zero_shot]"
    result = run_task(pipeline_file, copy, three)
    metrics = result.metrics

    assert metrics is not None and result.ran == ("baselines/majority", "baselines/tfidf", "baselines/zero_shot")
    tfidf, student = metrics["baselines"]["tfidf"], metrics["student"]["accuracy"]
    assert list(metrics["baselines"]) == ["majority", "tfidf", "zero_shot"] and metrics["verdict"]["best_baseline"] == "tfidf"
    assert tfidf["seconds"] > 0 and tfidf["settings"]["C"] > 0
    assert tfidf["difference"] == pytest.approx(student - tfidf["metrics"]["accuracy"])
    assert metrics["verdict"]["student"] == pytest.approx(student)
    assert metrics["baselines"]["zero_shot"]["metrics"]["accuracy"] == metrics["zero_shot"]["ensemble"]["batch"]
    before = products(copy, "baselines")
    assert run_task(pipeline_file, copy, three).ran == ()
    assert run_task(pipeline_file, copy, three, force="evaluation").ran == ("evaluation", *result.ran)
    assert products(copy, "baselines") == before  # to the byte
    assert set(run_task(pipeline_file, copy).metrics or {}) == set(metrics) - {"baselines", "verdict"}


def test_without_a_test_set_baselines_are_not_run_and_it_is_said(pipeline_file: Path, here: Path) -> None:
    heard: list[Event] = []
    result = run_task(pipeline_file, here / "run", CHEAP, "data.test=null", stages=("evaluation",), on_event=heard.append)

    assert result.ran == () and result.metrics is None
    (notice,) = [event for event in heard if isinstance(event, Notice)]
    assert notice == Notice("baselines", "not run: there is no test set to compare on (name one as data.test)")


@pytest.mark.parametrize("name", ["majority", "tfidf"])
def test_a_baseline_that_needs_labelled_rows_is_refused_without_them(name: str, pipeline_file: Path, here: Path) -> None:
    with pytest.raises(InvalidInput, match=rf"{name} needs labelled rows, and data\.train names none"):
        run_task(pipeline_file, here / "run", f"baselines=[zero_shot, {name}]", "data.train=null")
    assert not (here / "run").exists()


STALE = [
    ("student.steps=41", "supervised", "stale: student.steps 40 → 41"),
    ("student.dropout=0.1", "supervised", "stale: student.dropout 0.0 → 0.1"),
    ("max_length=20", "supervised probe zero_shot", "stale: max_length 32 → 20"),
    ("soft_labels.combine=probs", "zero_shot", "stale: combine logits → probs"),
    ("verbalizer.labels.World=[movie]", "zero_shot", "stale: verbalizer.colon changed, verbalizer.brackets changed"),
    ("compute.precision=bfloat16", "supervised probe zero_shot", "stale: precision float32 → bfloat16"),
    ("student.freeze=half", "supervised", "stale: student.freeze added"),
    ("student.hard_weight=0", "", ""),
    ("teachers.steps=41", "", ""),
    ("compute.tokens_per_batch=64", "", ""),
]


@pytest.fixture(scope="module")
def compared(pipeline_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with every baseline that needs no other package, and no more."""
    folder = tmp_path_factory.mktemp("compared") / "run"
    task, store = Task.checked(load_pipeline(pipeline_file, (f"baselines={ALL}",))), RunStore(folder)
    with store.locked():
        for step in baselines.steps(task, device_of(task, store)):
            with store.publishing(step.name, step.all_inputs(store), {}):
                pass
        store.write_manifest({})
    return folder


ALL = "[majority, tfidf, zero_shot, probe, supervised]"


@pytest.mark.parametrize(("override", "stale", "why"), STALE, ids=[case[0] for case in STALE])
def test_a_baseline_is_stale_when_what_it_reads_has_changed(
    override: str, stale: str, why: str, pipeline_file: Path, compared: Path
) -> None:
    found = planned(pipeline_file, compared, f"baselines={ALL}", override)

    assert {step: reason for step, reason in found.items() if reason != ("skip", "finished")} == {
        f"baselines/{name}": ("stale", why) for name in stale.split()
    }


@pytest.mark.parametrize(
    ("part", "stale"),
    [
        ("train", ["majority", "tfidf", "probe", "supervised"]),
        ("test", ["majority", "tfidf", "zero_shot", "probe", "supervised"]),
        ("unlabeled", ["zero_shot"]),
    ],
)
def test_a_baseline_is_stale_when_its_rows_have_changed(
    part: str, stale: list[str], pipeline_file: Path, compared: Path, here: Path
) -> None:
    write_rows(here / "other.jsonl", rows(12, 3))
    found = planned(pipeline_file, compared, f"baselines={ALL}", f"data.{part}={here / 'other.jsonl'}")

    assert found == {
        f"baselines/{name}": ("stale", f"stale: data.{part} changed") if name in stale else ("skip", "finished")
        for name in ("majority", "tfidf", "zero_shot", "probe", "supervised")
    }


def test_another_baseline_leaves_the_finished_ones_alone(pipeline_file: Path, compared: Path) -> None:
    assert planned(pipeline_file, compared, "baselines=[tfidf, majority, tfidf]") == {
        "baselines/tfidf": ("skip", "finished"),
        "baselines/majority": ("skip", "finished"),
    }


# -- the verdict -------------------------------------------------------------------------------------

# The student alone is right on 30 of 60 rows: the interval is that of Binomial(60, 1/2), 22 to 38; on 1: 0 to 3.
CASES = [
    (range(60), range(30), "worth it: student 100.0 %, best baseline tfidf 50.0 %: +50.0 points (+35.6 to +61.2)"),
    (
        range(30),
        range(60),
        "not worth it on these rows: student 50.0 %, best baseline tfidf 100.0 %: -50.0 points (-61.2 to -35.6)",
    ),
    (range(31), range(30), "no clear difference: student 51.7 %, best baseline tfidf 50.0 %: +1.7 points (-2.8 to +6.1)"),
]


@pytest.mark.parametrize(("student", "tfidf", "text"), CASES, ids=[case[2].partition(":")[0] for case in CASES])
def test_verdict_of_hand_made_predictions(
    student: range, tfidf: range, text: str, pipeline_file: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = {"student": right_on(student), "majority": ["Sports"] * 60, "tfidf": right_on(tfidf)}
    found = baselines.read_results(publish(here / "run", answers), Task.checked(load_pipeline(pipeline_file, (CHEAP,))))

    assert found["verdict"]["text"] == text
    assert found["baselines"]["majority"]["difference"] == pytest.approx((len(student) - 20) / 60)
    assert found["baselines"]["tfidf"]["seconds"] == 1.5
    show_result(RunResult(here / "run", ("evaluation",), {**metrics_of(len(student) / 60), **found}, has_student=False))
    assert capsys.readouterr().out.splitlines()[-1] == text


def metrics_of(accuracy: float) -> dict[str, Any]:
    """Return what an evaluation tells beside the baselines."""
    share = {"accuracy": accuracy, "accuracy_interval": (accuracy, accuracy)}
    untrained = {"ensemble": {"raw": accuracy, "batch": accuracy}}
    about = {"rows": 60, "label_kind": "single", "teachers": {}, "zero_shot": untrained, "warnings": []}
    return {**about, "ensemble": share, "student": share}


def test_table_shows_a_line_per_baseline(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is untrained stands in the column of what is untrained and calibrated."""
    of_baselines = {"tfidf": {"metrics": {"accuracy": 0.25}}, "zero_shot": {"metrics": {"accuracy": 0.5}}}
    show_result(RunResult(here, ("evaluation",), {**metrics_of(0.75), "baselines": of_baselines}, has_student=False))
    lines = capsys.readouterr().out.splitlines()
    calibrated = lines[0].index("calibrated") + len("calibrated")
    (tfidf,), (zero_shot,) = ([line.rstrip() for line in lines if line.startswith(f"baseline {name}")] for name in of_baselines)

    assert tfidf.split() == ["baseline", "tfidf", "25.0", "%"] and len(tfidf) > calibrated
    assert zero_shot.split() == ["baseline", "zero_shot", "50.0", "%"] and len(zero_shot) == calibrated
