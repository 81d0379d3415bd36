"""What all stages read: backbones are hashed once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from petkit.task import task as workload
from tests.stages.tiny_task import load


def test_a_model_of_teachers_and_student_is_hashed_once(
    task: Path, here: Path, model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[str] = []
    real = workload.model_fingerprint
    monkeypatch.setattr(workload, "model_fingerprint", lambda name: hashed.append(name) or real(name))
    shared = workload.Workload(load(task))
    assert shared.model_hash == shared.student_model_hash and len(hashed) == 1

    other = Path(shutil.copytree(model_folder("bert"), here / "other"))
    (other / "added_tokens.json").write_text("{}")
    apart = workload.Workload(load(task, f"student.model={other}"))
    assert apart.model_hash != apart.student_model_hash == real(str(other)) and len(hashed) == 3
