"""What all stages read: backbones are hashed once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from petkit.models import loading
from petkit.task.task import Task
from tests.tiny_task import load


def test_a_model_of_teachers_and_student_is_hashed_once(
    pipeline_file: Path, here: Path, model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    other, hashed, real = Path(shutil.copytree(model_folder("bert"), here / "other")), list[Path](), loading.sha256
    monkeypatch.setattr(loading, "sha256", lambda path: hashed.append(path) or real(path))
    shared = Task.checked(load(pipeline_file, f"model={other}"))
    assert shared.model_hash == shared.student_model_hash and len(hashed) == len(set(hashed)) > 0

    (other / "added_tokens.json").write_text("{}")
    apart = Task.checked(load(pipeline_file, f"student.model={other}"))
    assert apart.model_hash != apart.student_model_hash == loading.model_fingerprint(str(other))
