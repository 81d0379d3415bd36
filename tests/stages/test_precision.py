"""The precision of a run: recorded in its manifest and with its student, and used again by all that reads them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from petkit.config.schema.pipeline import ComputeSpec
from petkit.engine import device as engine_device
from petkit.engine.device import EMULATED, Device, choose_device
from petkit.errors import ModelRefused
from petkit.events import Event, Notice
from petkit.predict import loading
from petkit.predict.predictor import Predictor
from petkit.storage.checksum import json_with_checksum
from tests.tiny_task import run_task


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> list[Device]:
    """The devices that predictors were loaded for, on a processor with bfloat16."""
    found: list[Device] = []
    monkeypatch.setattr(engine_device, "multiplies_bfloat16", lambda device: True)
    monkeypatch.setattr(loading, "choose_device", lambda *of, **how: found.append(choose_device(*of, **how)) or found[-1])
    return found


@pytest.mark.parametrize("multiplies", [True, False])
def test_bfloat16_is_never_emulated_to_predict(
    finished: Path, here: Path, chosen: list[Device], multiplies: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Path(shutil.copytree(finished, here / "run"))
    manifest = json.loads((run / "manifest.json").read_text()) | {"arithmetic": {"precision": "bfloat16"}}
    (run / "manifest.json").write_text(json_with_checksum(manifest))
    alone = Path(shutil.copytree(finished / "stage_c" / "model", here / "model"))
    (alone / "step.json").unlink()
    _record(alone / "petkit.json", precision="bfloat16")
    monkeypatch.setattr(engine_device, "multiplies_bfloat16", lambda device: multiplies)
    one = ComputeSpec(device="cpu", threads=1)
    for loaded in (Predictor.load(alone, compute=one), Predictor.load(run, teachers=True, compute=one)):
        assert chosen[-1].precision == ("bfloat16" if multiplies else "float32")
        assert [note.partition(":")[0] for note in loaded.notes] == ([] if multiplies else ["predicts in float32"])
    written = one.model_copy(update={"precision": "bfloat16"})
    assert Predictor.load(alone, compute=written).notes == () and chosen[-1].precision == "bfloat16"


def test_a_run_keeps_bfloat16_and_says_where_it_is_emulated(
    pipeline_file: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = ("teachers.seeds=[1]", "teachers.steps=1")
    run_task(pipeline_file, here / "run", *once, "compute.precision=bfloat16", stages=("a",))
    for multiplies in (True, False):
        monkeypatch.setattr(engine_device, "multiplies_bfloat16", lambda device, found=multiplies: found)
        events: list[Event] = []
        result = run_task(
            pipeline_file, here / "run", *once, "compute.precision=auto", stages=("b",), force="b", on_event=events.append
        )
        said = [event for event in events if isinstance(event, Notice) and event.message == EMULATED]
        assert result.ran == ("stage_b",) and len(said) == (not multiplies)


def _record(path: Path, **changed: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))


def test_predictions_have_the_precision_of_the_training(finished: Path, here: Path, chosen: list[Device]) -> None:
    alone = Path(shutil.copytree(finished / "stage_c" / "model", here / "model"))
    assert json.loads((alone / "petkit.json").read_text())["precision"] == "float32"
    one = ComputeSpec(device="cpu", threads=1)
    for folder in (finished, alone):
        Predictor.load(folder, compute=one)
    Predictor.load(finished, teachers=True, compute=one)
    assert {device.precision for device in chosen} == {"float32"} and len(chosen) == 3
    Predictor.load(alone, compute=ComputeSpec(device="cpu", threads=1, precision="bfloat16"))
    assert chosen[-1].precision == "bfloat16"


def test_a_student_without_a_record_follows_the_processor(finished: Path, here: Path, chosen: list[Device]) -> None:
    alone = Path(shutil.copytree(finished / "stage_c" / "model", here / "model"))
    record = json.loads((alone / "petkit.json").read_text())
    (alone / "step.json").unlink()
    (alone / "petkit.json").write_text(json.dumps({**record, "precision": None}))
    Predictor.load(alone, compute=ComputeSpec(device="cpu", threads=1))
    assert chosen[-1].precision == "bfloat16"
    (alone / "petkit.json").write_text(json.dumps({**record, "precision": "float64"}))
    with pytest.raises(ModelRefused, match="precision is damaged"):
        Predictor.load(alone)
