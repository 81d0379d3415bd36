"""Records of runs that were made before widths had a bound: refused with the key and the bound, not as damage."""

from __future__ import annotations

from pathlib import Path

import pytest

from petkit.engine.device import Device
from petkit.errors import IncompleteRun, ModelRefused
from petkit.student.model import load_student
from petkit.teachers.loading import _Shared

WIDE = [
    ({"kind": "lora", "rank": 5000}, "rank: petkit reads at most 4096, not 5000"),
    (
        {"kind": "p_tuning_v2", "projection": True, "projection_size": 8192},
        "projection_size: petkit reads at most 4096, not 8192",
    ),
    ({"kind": "p_tuning_v1", "encoder_size": 5000}, "encoder_size: petkit reads at most 4096, not 5000"),
]


@pytest.mark.parametrize(("adapter", "reported"), WIDE)
def test_a_wide_teacher(adapter: dict[str, object], reported: str, here: Path) -> None:
    shared = _Shared(Device("cpu", "float32", 1))

    with pytest.raises(IncompleteRun) as refused:
        shared.lender("m", adapter, here / "teacher", None, trained=True)  # type: ignore[arg-type]

    assert str(refused.value) == f"teacher/teacher.json: {reported}"


@pytest.mark.parametrize(("adapter", "reported"), WIDE)
def test_a_wide_student(adapter: dict[str, object], reported: str, here: Path) -> None:
    record = {"adapter": adapter, "base": "m", "base_sha256": "0", "labels": ["a", "b"], "label_kind": "single"}

    with pytest.raises(ModelRefused) as refused:
        load_student(here / "model", record)

    assert str(refused.value) == f"model/petkit.json: {reported}"


def test_a_damaged_adapter_of_a_student_is_still_called_damaged(here: Path) -> None:
    record = {"adapter": {"kind": "lora", "rank": "wide"}, "base": "m", "base_sha256": "0", "labels": ["a", "b"]}

    with pytest.raises(ModelRefused, match="adapter is damaged"):
        load_student(here / "model", record)
