"""The student's peak rate where the pipeline names none: by the width of its model, recorded as a number."""

from __future__ import annotations

from pathlib import Path

import pytest

from petkit.config.schema.training import StudentSpec
from petkit.task.task import Task
from tests.tiny_task import load, run_task


@pytest.mark.parametrize(("hidden", "rate"), [(32, 2e-4), (384, 2e-4), (768, 5e-5), (1024, 2.8125e-5)])
def test_wider_models_have_lower_rates(hidden: int, rate: float) -> None:
    assert StudentSpec().for_width(hidden).learning_rate == pytest.approx(rate)


def test_a_number_stays_and_an_adapter_has_its_own() -> None:
    assert StudentSpec(learning_rate=0.5).for_width(768).learning_rate == 0.5
    assert StudentSpec.model_validate({"adapter": "lora"}).for_width(768).in_training.learning_rate == 5e-4


def test_a_run_records_the_number(pipeline_file: Path, copy: Path) -> None:
    """Which the fingerprints have too: named or not, it is the same step."""
    named, unnamed = (Task.checked(load(pipeline_file, f"student.learning_rate={rate}")) for rate in ("2e-4", "auto"))
    assert unnamed.spec.student.learning_rate == named.spec.student.learning_rate == 2e-4
    run_task(pipeline_file, copy, "student.learning_rate=auto", "student.steps=1", stages=("c",), force="stale")
    assert "learning_rate: 0.0002" in (copy / "config.resolved.yaml").read_text()
    again = run_task(pipeline_file, copy, "student.learning_rate=2e-4", "student.steps=1", stages=("c",))
    assert again.ran == ()
