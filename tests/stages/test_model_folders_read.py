"""A run checks each model folder and parses its configuration once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from transformers import PretrainedConfig

from petkit.models import loading
from tests.tiny_task import run_task


def test_a_run_checks_and_parses_each_model_folder_once(
    pipeline_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: Counter[Path] = Counter()
    parsed: Counter[Path] = Counter()
    check, parse = loading.check_model_folder, PretrainedConfig.get_config_dict

    def count_check(folder: Path) -> int:
        checked[folder] += 1
        return check(folder)

    def count_parse(name: str, **options: Any) -> Any:
        parsed[Path(name)] += 1
        return parse(name, **options)

    loading._opened.cache_clear()  # other tests load the same backbone
    monkeypatch.setattr(loading, "check_model_folder", count_check)
    monkeypatch.setattr(PretrainedConfig, "get_config_dict", count_parse)

    run_task(pipeline_file, tmp_path / "run", "teachers.seeds=[1]", "teachers.steps=2", "student.steps=2")

    assert len(checked) == 4, checked  # the backbone, two teachers, the student
    assert set(checked.values()) == {1}, checked
    assert parsed == checked
