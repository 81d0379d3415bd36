"""iPET through the tiny task: what later generations learn from, what makes them stale, and runs without labelled rows."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from petkit import Predictor
from petkit.commands.validate import check_pipeline
from petkit.config.schema.pipeline import ComputeSpec
from petkit.ensemble import Ensemble, log_softmax
from petkit.events import Event, Notice, StepFinished
from petkit.runs.store import RunStore
from petkit.stages.a_teachers import steps as teacher_steps
from petkit.stages.pipeline import device_of
from petkit.storage.parquet_shards import read_matrix
from petkit.task.task import Task
from petkit.teachers import training as teacher_training
from petkit.teachers.models import teacher_models
from petkit.teachers.objective import TeacherObjective, TrainingRows
from tests.tiny_task import load, planned, products, rows, run_task, write_rows

pytestmark = pytest.mark.usefixtures("finished")  # and its quick garbage collection

QUICK = ("teachers.steps=3", "student.steps=3")
IPET = (*QUICK, "generations.count=2", "generations.scale=2")
FIRST = ("colon-1", "colon-2", "brackets-1", "brackets-2")
NO_ROWS = ("data.train=null", "generations.per_label_from_zero=4")
FLOAT32 = ComputeSpec(device="cpu", precision="float32", threads=1)


@dataclass(frozen=True)
class IpetRun:
    """A run of three generations and the rows each teacher was trained on."""

    folder: Path
    heard: list[Event]
    learned: dict[str, TrainingRows]


@pytest.fixture(scope="module")
def ipet(pipeline_file: Path, tmp_path_factory: pytest.TempPathFactory) -> IpetRun:
    heard: list[Event] = []
    data: list[TrainingRows] = []
    folder = tmp_path_factory.mktemp("ipet") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(teacher_training, "TeacherObjective", _spy(data))
        run_task(pipeline_file, folder, *IPET, on_event=heard.append)
    done = [event.step.split("/") for event in heard if isinstance(event, StepFinished)]
    trained = [step[1] for step in done if step[0] == "stage_a" and step[2] == "model"]
    return IpetRun(folder, heard, dict(zip(trained, data, strict=True)))


def _spy(data: list[TrainingRows]) -> Callable[..., TeacherObjective]:
    def make(settings: Any, pvp: Any, rows: TrainingRows, *rest: Any) -> TeacherObjective:
        data.append(rows)
        return TeacherObjective(settings, pvp, rows, *rest)

    return make


def step_file(run: Path, teacher: str, part: str = "model") -> Any:
    return json.loads((run / "stage_a" / teacher / part / "step.json").read_text())


# -- learning from others ----------------------------------------------------------------------------


def test_every_generation_is_made_of_steps_of_its_own(ipet: IpetRun) -> None:
    done = [event.step for event in ipet.heard if isinstance(event, StepFinished)]
    names = [f"{name}{suffix}" for suffix in ("", "-g1", "-g2") for name in FIRST]
    assert done[:24] == [f"stage_a/{name}/{part}" for name in names for part in ("model", "logits")]
    assert done[24:] == ["stage_b", "stage_c/model", "evaluation"]
    ensemble = json.loads((ipet.folder / "stage_b" / "ensemble.json").read_text())
    assert list(ensemble["teachers"]) == [f"{name}-g2" for name in FIRST]  # the last generation labels
    metrics = json.loads((ipet.folder / "evaluation" / "metrics.json").read_text())
    assert list(metrics["teachers"]) == [f"{name}-g2" for name in FIRST]


def test_a_teacher_learns_from_others_and_never_from_its_predecessor(ipet: IpetRun, pipeline_file: Path) -> None:
    task = Task.checked(load(pipeline_file, *IPET))
    device = device_of(task, RunStore(ipet.folder))
    models = teacher_models(task.spec.model, task.spec.teachers.adapted, device)
    found = {step.name: step.needs for step in teacher_steps(task, device, models)}
    for before, after in (("", "-g1"), ("-g1", "-g2")):
        for name in FIRST:
            needs = found[f"stage_a/{name}{after}/model"]
            assert len(needs) == 1  # a quarter of three
            assert needs[0] in {f"stage_a/{other}{before}/logits" for other in FIRST if other != name}


@pytest.mark.parametrize("name", [f"{name}-g{number}" for name in FIRST for number in (1, 2)])
def test_rows_are_learned_as_the_labellers_see_them(name: str, ipet: IpetRun, pipeline_file: Path) -> None:
    data, task = ipet.learned[name], Task.checked(load(pipeline_file, *IPET))
    assert data.targets[:9].tolist() == task.targets().tolist()  # the labelled rows stay
    inputs = step_file(ipet.folder, name)["inputs"]
    labellers = [step for step in inputs if step.endswith("/logits")]
    believed = np.mean([np.exp(log_softmax(read_matrix(ipet.folder / step, "logits"))) for step in labellers], axis=0)
    pvp, store = task.pvps[0 if name.startswith("colon") else 1], task.tokens("unlabeled")
    texts = {pvp.encode(store.row(row)).ids.tobytes(): row for row in range(30)}
    numbers = [texts[encoded.ids.tobytes()] for encoded in data.encoded[9:]]
    assert len(set(numbers)) == len(numbers) and numbers
    assert data.targets[9:].tolist() == believed[numbers].argmax(axis=1).tolist()
    wanted = {"1": 3, "2": 9}[name[-1]]  # of 3 labelled rows per label, doubled or made four times as many
    predicted = np.bincount(believed.argmax(axis=1), minlength=3)
    assert np.bincount(data.targets[9:], minlength=3).tolist() == np.minimum(predicted, wanted).tolist()
    assert step_file(ipet.folder, name)["facts"]["rows"] == len(data.targets)


def test_fewer_rows_than_wanted_are_reported(ipet: IpetRun) -> None:
    reported = {event.step: event.message for event in ipet.heard if isinstance(event, Notice) and "stage_a" in event.step}
    short = {
        f"stage_a/{name}/model" for name, data in ipet.learned.items() if len(data.targets) < {"1": 18, "2": 36}.get(name[-1], 0)
    }
    assert set(reported) == {step for step in short if "-g" in step} and reported
    assert all("fewer unlabelled rows than wanted: '" in message for message in reported.values())


def test_where_unlabelled_rows_are_few_all_labels_shrink_alike(pipeline_file: Path, here: Path) -> None:
    # 9 labelled rows grow to 45, of which 36 should be drawn; there are 30 unlabelled rows.
    heard: list[Event] = []
    run_task(
        pipeline_file, here / "run", *QUICK, "teachers.seeds=[1]", "generations.count=1", stages=("a",), on_event=heard.append
    )
    reported = [event.message for event in heard if isinstance(event, Notice)]
    assert reported and all("of 10 rows" in message and "of 12 rows" not in message for message in reported)
    assert all(step_file(here / "run", f"{name}-1-g1")["facts"]["rows"] <= 9 + 30 for name in ("colon", "brackets"))


def test_seeds_reach_the_last_generation(ipet: IpetRun) -> None:
    weights = [(ipet.folder / "stage_a" / f"{name}-g2" / "model" / "model.safetensors").read_bytes() for name in FIRST]
    assert len(set(weights)) == 4
    one, two = (ipet.learned[f"colon-{seed}-g2"] for seed in (1, 2))
    assert [row.ids.tolist() for row in one.encoded] != [row.ids.tolist() for row in two.encoded]


def test_the_same_run_twice_and_after_an_interruption(ipet: IpetRun, pipeline_file: Path, here: Path) -> None:
    def interrupt(event: Event) -> None:
        if isinstance(event, StepFinished) and event.step == "stage_a/brackets-1-g1/model":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_task(pipeline_file, here / "run", *IPET, on_event=interrupt)
    resumed = run_task(pipeline_file, here / "run", *IPET)
    assert resumed.ran[0] == "stage_a/brackets-1-g1/logits" and len(resumed.ran) == 27 - 13
    assert products(here / "run") == products(ipet.folder)


# -- what makes a generation stale -------------------------------------------------------------------


def actions(pipeline_file: Path, folder: Path, *overrides: str) -> dict[str, set[str]]:
    """Return what would be done with each generation's steps, and with the rest."""
    found: dict[str, set[str]] = {}
    for step, entry in planned(pipeline_file, folder, *overrides).items():
        kind = step.split("/")[1].partition("-g")[2] or "0" if step.startswith("stage_a") else "rest"
        found.setdefault(kind, set()).add(entry.action)
    return found


@pytest.mark.parametrize("override", ["generations.scale=3", "generations.teacher_share=0.6"])
def test_how_rows_are_drawn_concerns_later_generations_only(override: str, ipet: IpetRun, pipeline_file: Path) -> None:
    found = actions(pipeline_file, ipet.folder, *IPET, override)
    assert found["0"] == {"skip"} and found["1"] == found["2"] == {"stale", "run"}
    plan = planned(pipeline_file, ipet.folder, *IPET, "generations.scale=3")
    assert plan["stage_a/colon-1-g1/model"].why == "stale: generations.scale 2.0 → 3.0"


def test_one_more_generation_keeps_those_before(ipet: IpetRun, pipeline_file: Path) -> None:
    found = actions(pipeline_file, ipet.folder, *IPET, "generations.count=3")
    assert found == {"0": {"skip"}, "1": {"skip"}, "2": {"skip"}, "3": {"run"}, "rest": {"stale", "run"}}
    assert actions(pipeline_file, ipet.folder, *IPET, "generations.count=1")["1"] == {"skip"}


def test_new_unlabelled_text_concerns_who_learns_from_it(ipet: IpetRun, pipeline_file: Path, here: Path) -> None:
    write_rows(here / "more.jsonl", rows(40, 40))
    plan = planned(pipeline_file, ipet.folder, *IPET, "data.unlabeled=more.jsonl")
    assert all(plan[f"stage_a/{name}/model"].action == "skip" for name in FIRST)
    later = [plan[f"stage_a/{name}-g{number}/model"] for name in FIRST for number in (1, 2)]
    assert {(entry.action, entry.why) for entry in later} == {("stale", "stale: data.unlabeled changed")}


def test_adding_a_seed_changes_no_first_teacher_and_tells_later_ones_apart(
    ipet: IpetRun, pipeline_file: Path, here: Path
) -> None:
    """Later generations have more others to choose labellers from, so they are made again, and only when that is asked for."""
    run = Path(shutil.copytree(ipet.folder, here / "run"))
    more = (*IPET, "generations.count=1", "teachers.seeds=[1, 2, 3]")
    plan = planned(pipeline_file, run, *more)
    assert all(plan[f"stage_a/{name}/{part}"].action == "skip" for name in FIRST for part in ("model", "logits"))
    assert plan["stage_a/colon-3-g1/model"].action == "run"
    run_task(pipeline_file, run, *more, stages=("a",), force="stale")
    before, after = products(ipet.folder, "stage_a"), products(run, "stage_a")
    kept = [name for name in before if name.split("/")[1] in FIRST]
    assert kept and all(before[name] == after[name] for name in kept)
    assert after["stage_a/colon-3-g1/model/model.safetensors"] not in before.values()


# -- without labelled rows ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def zero(pipeline_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("zero") / "run"
    run_task(pipeline_file, folder, *QUICK, *NO_ROWS)
    return folder


@pytest.fixture(scope="module")
def zero_ipet(pipeline_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("zero") / "run"
    run_task(pipeline_file, folder, *QUICK, *NO_ROWS, "generations.count=2", "generations.scale=2")
    return folder


def test_without_labelled_rows_the_untrained_patterns_teach(zero: Path) -> None:
    assert sorted(path.name for path in (zero / "stage_a").iterdir()) == ["brackets-untrained", "colon-untrained"]
    assert [path.name for path in (zero / "stage_a" / "colon-untrained").iterdir()] == ["logits"]
    metrics = json.loads((zero / "evaluation" / "metrics.json").read_text())
    assert set(metrics["teachers"]) == {"colon-untrained", "brackets-untrained"}
    assert metrics["ensemble"]["accuracy"] == metrics["zero_shot"]["ensemble"]["raw"]


def test_from_zero_the_first_generation_learns_the_likeliest_rows_of_every_label(zero_ipet: Path) -> None:
    names = sorted(path.name for path in (zero_ipet / "stage_a").iterdir())
    later = [f"{pattern}-{seed}-g{number}" for pattern in ("brackets", "colon") for seed in (1, 2) for number in (1, 2)]
    assert names == sorted(["brackets-untrained", "colon-untrained", *later])
    for name in later:
        reported = step_file(zero_ipet, name)
        assert reported["inputs"]["data.train"] is None
        other = "brackets" if name.startswith("colon") else "colon"
        expected = {f"stage_a/{other}-untrained/logits"} if name.endswith("g1") else set()
        assert expected <= set(reported["inputs"]) and f"stage_a/{name[:-3]}-g1/logits" not in reported["inputs"]
        assert "trained_accuracy" not in reported["facts"]
        if name.endswith("g1"):
            assert reported["facts"]["rows"] == 12  # 4 of each label, though hardly anybody predicts some of them


@pytest.mark.parametrize("kind", ["zero", "zero_ipet"])
def test_without_labelled_rows_no_gold_row_is_asked_for(kind: str, pipeline_file: Path, request: pytest.FixtureRequest) -> None:
    assert Task.checked(load(pipeline_file, *NO_ROWS)).hard_weight == 0 and Task.checked(load(pipeline_file)).hard_weight == 0.2
    folder: Path = request.getfixturevalue(kind)
    assert (folder / "stage_c" / "model" / "model.safetensors").is_file()
    inputs = json.loads((folder / "stage_c" / "model" / "step.json").read_text())["inputs"]
    assert inputs["data.train"] is None


@pytest.mark.parametrize("kind", ["zero", "zero_ipet", "ipet"])
def test_teachers_of_every_kind_answer_new_rows_as_the_run_did(kind: str, request: pytest.FixtureRequest) -> None:
    made = request.getfixturevalue(kind)
    folder: Path = made.folder if isinstance(made, IpetRun) else made
    texts = [row["text"] for row in rows(30, 30)]  # the unlabelled set
    ensemble = json.loads((folder / "stage_b" / "ensemble.json").read_text())
    logits = np.stack([read_matrix(folder / "stage_a" / name / "logits", "logits") for name in ensemble["teachers"]])
    found = Predictor.load(folder, teachers=True, compute=FLOAT32).logits(texts)
    np.testing.assert_allclose(found, Ensemble.from_json(ensemble).combine(logits), atol=1e-5)


@pytest.mark.parametrize("count", [0, 1])
def test_a_check_without_labelled_rows(count: int, pipeline_file: Path) -> None:
    check = check_pipeline(load(pipeline_file, *NO_ROWS, f"generations.count={count}"))
    assert check.rows == {"unlabeled": 30, "test": 15} and check.label_counts == {"Sports": 0, "Science": 0, "World": 0}
    assert check.teachers == 2 + 4 * count


def test_labelled_rows_are_taken_away_on_the_command_line(pipeline_file: Path, here: Path) -> None:
    from typer.testing import CliRunner

    from petkit.cli import app

    settings = [part for setting in (*QUICK, *NO_ROWS) for part in ("--set", setting)]
    reported = CliRunner().invoke(app, ["run", str(pipeline_file), "--out", str(here / "run"), "--quiet", *settings])
    assert reported.exit_code == 0, reported.output
    reported = CliRunner().invoke(app, ["predict", str(here / "run"), "--with", "teachers", "a good game"])
    assert reported.exit_code == 0 and any(label in reported.output for label in ("Sports", "Science", "World"))
