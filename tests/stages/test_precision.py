"""The precision of a run: recorded in its manifest and with its student, and used again by all that reads them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from petkit.config.schema.pipeline import ComputeSpec
from petkit.engine import device as engine_device
from petkit.engine.device import Device, choose_device
from petkit.errors import ModelRefused
from petkit.predict import loading
from petkit.predict.predictor import Predictor


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> list[Device]:
    """The devices that predictors were loaded for, on a processor with bfloat16."""
    found: list[Device] = []
    monkeypatch.setattr(engine_device, "multiplies_bfloat16", lambda device: True)
    monkeypatch.setattr(loading, "choose_device", lambda *of: found.append(choose_device(*of)) or found[-1])
    return found


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
