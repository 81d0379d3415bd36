"""Which adapter settings count: for what is finished, for what is reported, and for what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from petkit.config.schema.adapter import LoraSpec
from petkit.engine.device import Device
from petkit.errors import InvalidInput, ModelRefused
from petkit.events import Event, Notice
from petkit.models.adapters.attach import attach
from petkit.models.loading import load_language_model
from petkit.runs.store import RunStore
from petkit.stages.pipeline import prepare, run
from petkit.teachers import loading as teacher_loading
from petkit.teachers.loading import load_teachers
from tests.tiny import tiny_model_folder
from tests.tiny_task import load, planned, run_task

QUICK = ("teachers.seeds=[1]", "teachers.steps=2", "student.steps=2")
DEEP = "adapter={kind: p_tuning_v2, tokens: 3}"


def test_options_that_change_nothing_make_nothing_stale(pipeline_file: Path, here: Path) -> None:
    settings = (*QUICK, f"teachers.{DEEP}", f"student.{DEEP}")
    run_task(pipeline_file, here / "run", *settings)
    same = planned(pipeline_file, here / "run", *settings, "student.learning_rate=0.5")
    assert {entry.action for entry in same.values()} == {"skip"}
    drawn = planned(pipeline_file, here / "run", *settings, "teachers.adapter.projection=true")
    assert "projection false → true" in drawn["stage_a/colon-1/model"].why


def test_a_rate_that_does_not_count_is_reported(pipeline_file: Path, here: Path) -> None:
    heard: list[Event] = []
    settings = (*QUICK, "teachers.adapter=lora", "student.adapter=ia3", "student.learning_rate=0.5")
    run(prepare(load(pipeline_file, *settings), here / "run"), heard.append)
    reported = [event.message for event in heard if isinstance(event, Notice) and event.step == "settings"]
    assert reported == [
        "teachers.learning_rate is ignored with an adapter; teachers.adapter.learning_rate (0.0005) is used",  # the task's
        "student.learning_rate is ignored with an adapter; student.adapter.learning_rate (0.005) is used",
    ]


NOTHING = "there is no adapter to keep (set adapter: lora)"
ADAPTER_ALREADY = "only lora, qlora and ia3 are merged; with p_tuning_v2 the folder is the adapter already"


@pytest.mark.parametrize(
    ("adapter", "said"),
    [
        ((), NOTHING),
        (("student.adapter=none",), NOTHING),
        (("student.adapter={kind: none}",), NOTHING),
        ((f"student.{DEEP}",), ADAPTER_ALREADY),
    ],
)
def test_there_must_be_an_adapter_to_keep(adapter: tuple[str, ...], said: str, pipeline_file: Path) -> None:
    with pytest.raises(InvalidInput) as refused:
        load(pipeline_file, *adapter, "student.keep_adapter=true")
    (problem,) = refused.value.problems
    assert str(problem) == f"--set student.keep_adapter=true: student.keep_adapter: {said}"


def test_teachers_have_none_to_keep(pipeline_file: Path) -> None:
    with pytest.raises(InvalidInput) as refused:
        load(pipeline_file, "teachers.keep_adapter=true")
    (problem,) = refused.value.problems
    assert problem.message == "unknown key"


def test_an_adapter_written_short_takes_options(pipeline_file: Path) -> None:
    spec = load(pipeline_file, "student.adapter=lora", "student.adapter.rank=4").spec
    assert spec.student.adapter == LoraSpec(kind="lora", rank=4)


def test_gpt2_has_nothing_to_hold_in_four_bits(tmp_path: Path) -> None:
    model = load_language_model(str(tiny_model_folder("gpt2", tmp_path / "model")))
    with pytest.raises(ModelRefused, match=r"a 'gpt2' model has no layers that can be held in 4 bits \(use lora\)"):
        attach(model, LoraSpec(kind="qlora"))


def test_what_teachers_have_in_common_is_looked_up_once(pipeline_file: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_task(pipeline_file, here / "run", *QUICK, "teachers.adapter=lora", stages=("a", "b"))
    hashed: list[str] = []
    real = teacher_loading.model_fingerprint
    monkeypatch.setattr(teacher_loading, "model_fingerprint", lambda name: hashed.append(name) or real(name))
    assert len(load_teachers(RunStore(here / "run"), ["colon-1", "brackets-1"], Device("cpu", "float32", 1))) == 2
    assert len(hashed) == 1
