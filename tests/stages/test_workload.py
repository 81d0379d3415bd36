"""What all stages read: backbones are hashed once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from petkit.task import task as task_module
from tests.stages.tiny_task import load


def test_a_model_of_teachers_and_student_is_hashed_once(
    pipeline_file: Path, here: Path, model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[str] = []
    real = task_module.model_fingerprint
    monkeypatch.setattr(task_module, "model_fingerprint", lambda name: hashed.append(name) or real(name))
    shared = task_module.Task.checked(load(pipeline_file))
    assert shared.model_hash == shared.student_model_hash and len(hashed) == 1

    other = Path(shutil.copytree(model_folder("bert"), here / "other"))
    (other / "added_tokens.json").write_text("{}")
    apart = task_module.Task.checked(load(pipeline_file, f"student.model={other}"))
    assert apart.model_hash != apart.student_model_hash == real(str(other)) and len(hashed) == 3
