"""How often a run opens each data file before its first training step: once to hash it, once to read it."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from petkit.events import Event, StepStarted
from petkit.teachers import training
from tests.tiny_task import load, run_task

_OPENED: Counter[str] = Counter()
_COUNTING: list[bool] = []


def _count(event: str, arguments: tuple[Any, ...]) -> None:
    if _COUNTING and event == "open" and isinstance(arguments[0], (str, bytes, os.PathLike)):
        _OPENED[os.path.basename(os.fsdecode(arguments[0]))] += 1  # noqa: PTH119 (names that no Path takes)


sys.addaudithook(_count)  # it cannot be removed, so it counts only on demand


class FirstTrainingStep(Exception):
    """Ends a run."""


@pytest.fixture
def opened() -> Iterator[Counter[str]]:
    _OPENED.clear()
    _COUNTING.append(True)
    yield _OPENED
    _COUNTING.clear()


@pytest.mark.parametrize(
    "overrides",
    [(), ("demonstrations.per_label=1",), ("teachers.auxiliary_mlm_weight=0.1",), ("generations={count: 1}",)],
)
def test_data_files_are_opened_twice_before_training(
    overrides: tuple[str, ...],
    pipeline_file: Path,
    here: Path,
    opened: Counter[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stop(*arguments: Any, **options: Any) -> None:
        raise FirstTrainingStep

    monkeypatch.setattr(training, "fit", stop)
    begun: list[Event] = []
    with pytest.raises(FirstTrainingStep):
        run_task(pipeline_file, here / "run", *overrides, on_event=begun.append)

    assert [event.step for event in begun if isinstance(event, StepStarted)] == ["stage_a/colon-1/model"]
    counts = {name: opened[f"{name}.jsonl"] for name in ("train", "unlabeled", "test")}
    assert counts["train"] == 1  # its rows are kept in memory
    assert 1 <= counts["unlabeled"] <= 2 and counts["test"] == 1


def test_labels_read_off_the_data_cost_one_more_opening(pipeline_file: Path, opened: Counter[str]) -> None:
    """Rows are hashed with the labels, so the labels must be known first."""
    from petkit.task.task import Task

    Task.checked(load(pipeline_file, "verbalizer={auto: {per_label: 1}}"))
    assert opened["train.jsonl"] == 2 and opened["unlabeled.jsonl"] == opened["test.jsonl"] == 1
